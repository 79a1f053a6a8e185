"""The container engine of this machine, podman or docker, and how it has to be called here."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


class HostError(Exception):
    """Something that a person has to put right; its text is one line that says what."""


@dataclass(frozen=True)
class Engine:
    """A container engine: its program and the environment that it is run with."""

    name: str
    environment: dict[str, str]

    def run(self, *arguments: str, stdin: int | None = None) -> str:
        """Run one engine command and return what it printed; raises HostError with its complaint."""
        done = self.attempt(*arguments, stdin=stdin)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise HostError(f"{self.name} {arguments[0]}: {reason}")
        return done.stdout.strip()

    def attempt(self, *arguments: str, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run one engine command and leave it to the caller to judge the result."""
        return subprocess.run(
            [self.name, *arguments],
            env=os.environ | self.environment,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


ENGINES = ("podman", "docker")

# Limits where podman's own are refused. Of processes, even as many as the machine allows can be refused.
MODEST_FILES = 20_000
MODEST_PROCESSES = 32_768


def find_engine() -> str:
    """Name the engine to use: podman where there is one, else docker."""
    for name in ENGINES:
        if shutil.which(name):
            return name
    raise HostError("neither podman nor docker is installed; on Debian: apt-get install podman runc netavark iptables")


def plain_engine() -> Engine:
    """Return the engine as it comes; enough for all that starts no process in a container."""
    return Engine(find_engine(), {})


def ways_to_start(state: Path) -> list[Engine]:
    """Return the engine as it comes and, for podman, with limits that any machine grants."""
    plain = plain_engine()
    if plain.name != "podman":
        return [plain]
    return [plain, Engine(plain.name, {"CONTAINERS_CONF": str(_modest_configuration(state))})]


def open_engine(state: Path, image: str) -> Engine:
    """Return the engine as it has to be called on this machine; tried out once and remembered in `state`."""
    memory = state / "engine.json"
    if memory.exists() and (known := json.loads(memory.read_text()))["name"] == find_engine():
        return Engine(known["name"], known["environment"])
    engine = first_that_can(ways_to_start(state), "run", "--rm", "--privileged", "--network=none", image, "true")
    memory.write_text(json.dumps({"name": engine.name, "environment": engine.environment}) + "\n")
    return engine


def first_that_can(engines: list[Engine], *arguments: str) -> Engine:
    """Return the first engine with which the command succeeds; raises HostError with the last one's complaint."""
    for engine in engines[:-1]:
        if engine.attempt(*arguments).returncode == 0:
            return engine
    engines[-1].run(*arguments)
    return engines[-1]


def _modest_configuration(state: Path) -> Path:
    """Write a podman configuration that asks for no more than this machine allows.

    Where CAP_SYS_RESOURCE is missing, podman's own default limits are refused, and crun does not start with
    cgroups in hybrid mode. The machine's own configuration stays as it is.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = allowed if allowed != resource.RLIM_INFINITY else MODEST_FILES
    lines = [
        "[containers]",
        f'default_ulimits = ["nofile={files}:{files}", "nproc={MODEST_PROCESSES}:{MODEST_PROCESSES}"]',
    ]
    if shutil.which("runc"):
        lines += ["[engine]", 'runtime = "runc"']
    path = state / "containers.conf"
    path.write_text("\n".join(lines) + "\n")
    return path
