#!/usr/bin/env python3
"""Throw-away test hosts: containers that boot systemd, have a network of their own and are reached over SSH.

host.py up web1 --system debian12 --cpus 1 --memory-mb 512    start a host; prints how to reach it, as JSON
host.py list | ssh web1 [COMMAND] | down web1                 look at hosts, log in, remove
host.py image debian13                                        build an image ahead of time
host.py clean                                                 remove all hosts, images and caches
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import image
from engine import Engine, HostError, open_engine, plain_engine
from state import State, state_of_project

BOOT_SECONDS = 60
INSIDE = (22, 80, 443)

# Host keys are made anew with each host, and all share one address: there is nothing to compare with.
SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o IdentitiesOnly=yes"

# Taken from the control node where they are, for people behind a proxy of their own.
FROM_THE_MACHINE = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for: a name, a system and the limits of its cgroup; None is no limit."""

    name: str
    system: str = "debian12"
    cpus: float | None = None
    memory_mb: int | None = None
    cpuset: str | None = None


@dataclass(frozen=True, kw_only=True)
class Host(Wanted):
    """A running test host and how it is reached."""

    ssh_port: int
    http_port: int
    https_port: int
    private_key: str
    container: str
    ssh_host: str = "127.0.0.1"
    user: str = image.USER
    ssh_options: str = SSH_OPTIONS

    def wanted(self) -> Wanted:
        """Return what was asked for."""
        return Wanted(**{field.name: getattr(self, field.name) for field in fields(Wanted)})

    def inventory(self) -> dict[str, Any]:
        """Return the host's variables in an Ansible inventory."""
        return {
            "ansible_host": self.ssh_host,
            "ansible_port": self.ssh_port,
            "ansible_user": self.user,
            "ansible_private_key_file": self.private_key,
            "ansible_ssh_common_args": self.ssh_options,
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def ssh_command(self, *command: str) -> list[str]:
        """Return the argument list that runs a command on the host."""
        options = [*self.ssh_options.split(), "-o", "ConnectTimeout=5", "-i", self.private_key]
        return ["ssh", *options, "-p", str(self.ssh_port), f"{self.user}@{self.ssh_host}", *command]


def up(wanted: Wanted, state: State) -> Host:
    """Start a host and wait until it has booted; one that runs with these limits is returned as it is."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", wanted.name):
        raise HostError(f"{wanted.name!r} is not a host name: it is made of a-z, 0-9 and -, at most 63 of them")
    with state.locked():
        picture = image.ensure(wanted.system, state.directory)
        engine = open_engine(state.directory, picture)
        host = load(state, wanted.name)
        if host and _is_running(engine, host, state):
            if host.wanted() != wanted:
                raise HostError(f"{wanted.name!r} is up with other limits; first: host.py down {wanted.name}")
            return host
        _remove(engine, wanted.name, state)
        try:
            host = _start(engine, wanted, state, picture)
            state.record(host.name).parent.mkdir(exist_ok=True)
            state.record(host.name).write_text(json.dumps(asdict(host), indent=2) + "\n")
        except BaseException:  # Ctrl-C, for one: a host that nobody has on record would stay
            _remove(engine, wanted.name, state)
            raise
    wait_for_boot(host)
    return host


def _start(engine: Engine, wanted: Wanted, state: State, picture: str) -> Host:
    """Start the container.

    Privileged, because the services under test set up namespaces of their own. With a cgroup tree of its own,
    systemd can hold services to MemoryMax= under cgroup v1 too; podman's own ways with systemd would lay the
    machine's tree over it. A reboot ends the container; the restart policy is what makes it come back, with
    its files and ports.
    """
    ports = free_ports(len(INSIDE))
    key = state.private_key()
    limits = {"--cpus": wanted.cpus, "--cpuset-cpus": wanted.cpuset}
    if wanted.memory_mb:
        limits |= dict.fromkeys(("--memory", "--memory-swap"), f"{wanted.memory_mb}m")
    container = engine.run(
        *("run", "--detach", "--privileged", "--cgroupns=private", "--restart=always"),
        *(f"--name={state.container(wanted.name)}", f"--hostname={wanted.name}"),
        f"--label=farrier.state={state.directory}",
        *(["--systemd=false"] if engine.name == "podman" else []),
        *("--tmpfs=/run", "--tmpfs=/run/lock"),
        *(f"{option}={limit}" for option, limit in limits.items() if limit),
        *(f"--publish=127.0.0.1:{port}:{inside}" for port, inside in zip(ports, INSIDE, strict=True)),
        *(f"--volume={path}:{path}:ro" for path in FROM_THE_MACHINE if Path(path).is_file()),
        *(f"--volume={cache}:/var/cache/shared/{cache.name}" for cache in state.caches(wanted.system)),
        f"--env=AUTHORIZED_KEY={key.with_suffix('.pub').read_text().strip()}",
        picture,
    )
    ssh, http, https = ports
    return Host(
        **asdict(wanted),
        ssh_port=ssh,
        http_port=http,
        https_port=https,
        private_key=str(key),
        container=container[:12],
    )


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; chosen here, because an engine may choose others after a reboot."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in listening]


def wait_for_boot(host: Host) -> None:
    """Wait until SSH answers and systemd has finished starting what it starts."""
    end = time.monotonic() + BOOT_SECONDS
    command = host.ssh_command("systemctl", "is-system-running", "--wait")
    answer = ""
    while time.monotonic() < end:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = (done.stdout or done.stderr).strip()
        if answer in {"running", "degraded"}:
            return
        time.sleep(0.1)
    raise HostError(f"{host.name!r} has not booted within {BOOT_SECONDS} seconds; its last answer was {answer!r}")


def down(name: str, state: State) -> None:
    """Remove a host; one that is not there is no mistake."""
    with state.locked():
        _remove(plain_engine(), name, state)


def load(state: State, name: str) -> Host | None:
    """Return what is on record of a host."""
    path = state.record(name)
    return Host(**json.loads(path.read_text())) if path.exists() else None


def hosts(state: State) -> list[Host]:
    """Return the hosts that have been started in this state directory."""
    return [host for name in state.names() if (host := load(state, name))]


def clean(state: State) -> None:
    """Remove every host of this state directory, all images of test hosts, and what was cached."""
    for name in state.names():
        down(name, state)
    image.remove_all()
    shutil.rmtree(state.directory, ignore_errors=True)


def _is_running(engine: Engine, host: Host, state: State) -> bool:
    done = engine.attempt("inspect", "--format", "{{.Id}} {{.State.Running}}", state.container(host.name))
    return done.stdout.startswith(host.container) and done.stdout.strip().endswith(" true")


def _remove(engine: Engine, name: str, state: State) -> None:
    container = state.container(name)
    found = engine.attempt("inspect", "--format", '{{index .Config.Labels "farrier.state"}}', container)
    if found.returncode == 0:
        owner = found.stdout.strip()
        if owner != str(state.directory):
            raise HostError(f"container {container!r} is left alone: it belongs to {owner or 'something else'}")
        engine.attempt("kill", container)  # nothing in it is worth a shutdown
        engine.run("rm", "--force", "--volumes", container)
    state.record(name).unlink(missing_ok=True)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--state", type=Path, help="where keys, records and caches are kept (default: .cache/hosts)")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    one = verbs.add_parser("image", help="build the image of a system unless it is there; prints its name")
    one.add_argument("system", choices=image.SUITES)
    one = verbs.add_parser("up", help="start a host; prints how to reach it, as JSON")
    one.add_argument("name")
    one.add_argument("--system", choices=image.SUITES, default="debian12")
    one.add_argument("--cpus", type=float, help="share of CPU time, as a cgroup quota")
    one.add_argument("--memory-mb", type=int, help="memory limit of its cgroup")
    one.add_argument("--cpuset", help="CPUs that it may run on, such as 0 or 0-1")
    one = verbs.add_parser("down", help="remove hosts")
    one.add_argument("names", nargs="+", metavar="name")
    verbs.add_parser("list", help="hosts of this state directory, as JSON")
    one = verbs.add_parser("ssh", help="log in, or run a command")
    one.add_argument("name")
    one.add_argument("command", nargs=argparse.REMAINDER)
    verbs.add_parser("clean", help="remove all hosts of this state directory, the images and the caches")
    return top


def described(host: Host) -> dict[str, Any]:
    """Return all that is known of a host, for other programs."""
    return asdict(host) | {"inventory": host.inventory()}


def run_verb(arguments: argparse.Namespace, state: State) -> None:
    """Call the function behind the verb and print its answer."""
    match arguments.verb:
        case "image":
            with state.locked():
                print(image.ensure(arguments.system, state.directory))
        case "up":
            asked = {field.name: getattr(arguments, field.name) for field in fields(Wanted)}
            print(json.dumps(described(up(Wanted(**asked), state)), indent=2))
        case "down":
            for name in arguments.names:
                down(name, state)
        case "list":
            print(json.dumps([described(host) for host in hosts(state)], indent=2))
        case "ssh":
            host = load(state, arguments.name)
            if host is None:
                raise HostError(f"{arguments.name!r} is not up")
            os.execvp("ssh", host.ssh_command(*arguments.command))
        case "clean":
            clean(state)


def main() -> int:
    """Run one verb; 0 done, 2 refused."""
    arguments = parser().parse_args()
    try:
        run_verb(arguments, State(arguments.state.resolve()) if arguments.state else state_of_project())
    except HostError as error:
        print(f"host.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
