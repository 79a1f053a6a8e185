"""How the application's own code and that of its dependencies run for a module: as their user, in a cell, never as root."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from types import MappingProxyType
from typing import Iterator, Mapping

from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_text import printable, redacted

LAST_BYTES = 1 << 16
"""How much of a command's output is kept: its end. It may print without end."""

LAST_LINES = 40
LAST_CHARACTERS = 8000
"""How much of it a message shows."""

PASSED_ON = re.compile(r"PIP_\w+|(https?|no|all)_proxy|SSL_CERT_\w+|REQUESTS_CA_BUNDLE", re.IGNORECASE)
"""Variables of the play's own `environment:` that pip sees, for package indexes and proxies."""

SETUP_FAILED = {
    200: "CHDIR: its working directory is missing or its user may not enter it",
    203: "EXEC: the program is missing or its user may not execute it",
    205: "LIMITS: a resource limit could not be set",
    208: "STDIN",
    209: "STDOUT",
    216: "GROUP: there is no such group",
    217: "USER: there is no such user",
    218: "CAPABILITIES",
    219: "CGROUP",
    222: "STDERR",
    224: "PAM",
    225: "NETWORK: its network namespace could not be made",
    226: "NAMESPACE: its view of the file system could not be made, as when a path of it is missing",
    227: "NO_NEW_PRIVILEGES",
    228: "SECCOMP: the filter of system calls could not be set",
    233: "RUNTIME_DIRECTORY",
    237: "KEYRING",
    238: "STATE_DIRECTORY: the directory below /var/lib could not be made",
}
"""What systemd says by an exit status when a unit's program was never started (systemd.exec(5))."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def end_of(output: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """The end of what a command printed: bounded, without colours, control characters and passwords."""
    lines = _ESCAPE_SEQUENCE.sub("", output).strip().splitlines()[-LAST_LINES:]
    return str(redacted("\n".join(map(printable, lines)), environment))[-LAST_CHARACTERS:]


def ended(status: int) -> str:
    """How a command ended, in words; systemd's own statuses say what it could not set up."""
    meaning = SETUP_FAILED.get(status)
    return f"it ended with status {status}" + (f" (systemd could not start it; {meaning})" if meaning else "")


def of_release(directory: str, venv: str, environment_file: str | None) -> list[str]:
    """The settings under which a command of the application finds its release, its virtual environment and its variables."""
    return [
        f"WorkingDirectory={directory}",
        f"Environment=PATH={venv}/bin:/usr/local/bin:/usr/bin:/bin",
        *([f"EnvironmentFile={environment_file}"] if environment_file else []),
    ]


def run(command: list[str]) -> tuple[int, str]:
    """Run a command; its exit status and the end of its output."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
    ) as process:
        said = b""
        while process.stdout and (more := process.stdout.read(LAST_BYTES)):
            said = (said + more)[-LAST_BYTES:]
    return process.returncode, said.decode("utf-8", "replace")


def transient(settings: list[str], command: list[str]) -> list[str]:
    """The call of systemd-run that runs a command under these settings of systemd."""
    literal = [word.replace("$", "$$") for word in command]  # systemd expands variables in the words of a command
    properties = [f"--property={each}" for each in settings]
    return ["systemd-run", "--wait", "--pipe", "--collect", "--quiet", *properties, "--", *literal]


def as_user(
    user: str, settings: list[str], command: list[str], environment: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a command as a transient service, with none of our environment, and return its output; Failure with the end of it."""
    with handed(environment) as variables:
        status, said = run(transient([f"User={user}", f"Group={user}", *settings, *variables], command))
    if status:
        raise Failure(end_of(said, environment) or ended(status))
    return said


@contextlib.contextmanager
def handed(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """The settings by which a unit finds these variables, which stand on no command line, in no unit and on no disk."""
    if not environment:
        yield []
        return
    file = os.memfd_create("environment")
    try:
        os.fchmod(file, 0o600)
        for name, value in environment.items():
            escaped = re.sub(r'[\\"$`]', r"\\\g<0>", value)
            os.write(file, os.fsencode(f'{name}="{escaped}"\n'))
        yield [f"EnvironmentFile=/proc/{os.getpid()}/fd/{file}"]  # root alone may open it there
    finally:
        os.close(file)


def of_pip(given: str | None) -> dict[str, str]:
    """Environment variables of pip: those of the play's own `environment:`, and those that are given, as a JSON object."""
    try:
        more = json.loads(given) if given else {}
    except ValueError:
        more = None
    if not isinstance(more, dict) or not all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in more):
        raise Failure(
            "pip_environment is not a mapping from names of environment variables, such as PIP_INDEX_URL, to values"
        )
    passed_on = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    return {**passed_on, **{name: str(value) for name, value in more.items()}}
