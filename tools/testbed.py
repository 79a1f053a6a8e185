"""Throw-away hosts and projects to deploy to them, for tests and benchmarks."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
HOST_TOOL = ROOT / "templates/molecule/shared/host.py"
EXAMPLE = ROOT / "examples/django"
ENVIRONMENT = "trial"
DOMAIN = "trial.example.org"
SECRET = "of-a-host-that-lives-for-a-minute"
PLAY = ("ansible-playbook", "-i", "inventory.yml")
COMMAND_SECONDS = 300

NOTES: Mapping[str, Any] = {
    "name": "notes",
    "source": "app",
    "wsgi": "notes.wsgi:application",
    "requirements": "requirements.txt",
    "health_path": "/health/",
    "migrate": "python manage.py migrate --noinput",
    "static": {
        "url": "/static/",
        "directory": "static_root",
        "command": "python manage.py collectstatic --noinput",
    },
    "environment": {"NOTES_DATA": "/var/lib/notes"},
    "secrets": ["SECRET_KEY"],
}
"""The example application, as a project file describes it."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A running test host."""

    name: str
    http_port: int
    inventory: Mapping[str, Any]
    ssh: Sequence[str]
    """Begins a command that the login user is to run there."""

    @property
    def ssh_anew(self) -> Sequence[str]:
        """The same over a connection of its own; a reboot cuts the shared one."""
        return (self.ssh[0], "-o", "ControlPath=none", *self.ssh[1:])

    def run(self, command: str) -> str:
        """Run a command as the login user; returns what it printed."""
        return run([*self.ssh, command], ROOT)

    def shell(self, command: str) -> str:
        """Run a command as root; returns what it printed."""
        return self.run(f"sudo sh -c {shlex.quote(command)}")


@contextmanager
def host(
    name: str, *, cpus: float | None = None, memory_mb: int | None = None, cpuset: str | None = None
) -> Iterator[Host]:
    """Start a host, which is gone afterwards; None is no limit."""
    limits = {"--cpus": cpus, "--memory-mb": memory_mb, "--cpuset": cpuset}
    options = [str(word) for limit in limits.items() if limit[1] is not None for word in limit]
    started = json.loads(_host_tool("up", name, *options))
    try:
        # Tests run hundreds of commands on a host: they share a connection.
        with tempfile.TemporaryDirectory(prefix="testbed-") as directory:
            command = _ssh_command(started, Path(directory) / "ssh")
            yield Host(name=name, http_port=started["http_port"], inventory=started["inventory"], ssh=command)
    finally:
        _host_tool("down", name)


def _host_tool(*arguments: str) -> str:
    return run([sys.executable, str(HOST_TOOL), *arguments], ROOT)


def _ssh_command(started: Mapping[str, Any], socket: Path) -> Sequence[str]:
    # A connection that a reboot has cut without a word is given up.
    alive = "-o ServerAliveInterval=2 -o ConnectTimeout=5"
    shared = f"-o ControlMaster=auto -o ControlPersist=30 -o ControlPath={socket}"
    return (
        *("ssh", *started["ssh_options"].split(), *alive.split(), *shared.split(), "-i", started["private_key"]),
        *("-p", str(started["ssh_port"]), f"{started['user']}@{started['ssh_host']}"),
    )


def write_project(
    project: Path,
    hosts: Sequence[Host],
    *,
    source: Path,
    application: Mapping[str, Any],
    environments: Mapping[str, Mapping[str, Any]],
    variables: Mapping[str, Any] | None = None,
) -> None:
    """Write what somebody keeps in git: the application, its project file and an inventory that all environments share."""
    left_out = shutil.ignore_patterns("__pycache__", "db.sqlite3*", "media", "static_root")
    shutil.copytree(source, project / application["source"], ignore=left_out, dirs_exist_ok=True)
    described = {name: {"inventory": "inventory.yml", **each} for name, each in environments.items()}
    write_yaml(project / "farrier.yml", {"application": dict(application), "environments": described})
    inventory = {"hosts": {each.name: dict(each.inventory) for each in hosts}, "vars": dict(variables or {})}
    write_yaml(project / "inventory.yml", {"all": inventory})
    (project / "ansible.cfg").write_text("[defaults]\nroles_path = roles\n", encoding="utf-8")


def write_notes(
    project: Path,
    hosts: Sequence[Host],
    workload: Mapping[str, Any],
    overrides: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write a project of the example application; `environment` is the process' besides what it needs."""
    needed = {"ALLOWED_HOSTS": DOMAIN, **(environment or {})}
    trial = {"domain": DOMAIN, "environment": needed, "workload": dict(workload), "overrides": dict(overrides)}
    secrets = {f"notes_{ENVIRONMENT}_secrets": {"SECRET_KEY": SECRET}}
    write_project(
        project, hosts, source=EXAMPLE, application=NOTES, environments={ENVIRONMENT: trial}, variables=secrets
    )


def write_yaml(path: Path, document: Any) -> None:
    """Write a document as YAML."""
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def farrier(project: Path, *arguments: str) -> str:
    """Run Farrier in a project; returns what it printed."""
    return run([sys.executable, "-m", "farrier", *arguments], project)


def run(command: Sequence[str], directory: Path) -> str:
    """Run a command that has to succeed; returns what it printed."""
    done = attempt(command, directory)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def attempt(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail."""
    return subprocess.run(
        command,
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return the environment in which Farrier's programs and Ansible's are found."""
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "ANSIBLE_PIPELINING": "1"}
