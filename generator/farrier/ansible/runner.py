"""Runs Ansible as people would, with their own program, inventory and options, and hands over what it tells while it runs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from farrier.ansible.events import (
    LONGEST_LINE,
    LONGEST_TEXT,
    MARK,
    Event,
    Result,
    Unreadable,
    displayable,
    one_line,
    read,
)
from farrier.ansible.inventory import missing_inventory, no_hosts
from farrier.errors import FarrierError, HostError, InputError
from farrier.wording import shown

HERE = Path(__file__).parent

LARGEST_ANSWER = 8_000_000
"""Characters of one host's answer as JSON where the caller does not say less; samples of hours of load take two million."""

INTERRUPT_SECONDS = 5
"""How long Ansible may take to end at each of three requests, the last of which is a kill."""

MOST_NOTES = 2000
"""Lines that are kept of what Ansible says besides events; whoever prints more has said it by then."""

ERRORS = ("ERROR", "[ERROR]", "ansible: error", "ansible-playbook: error")
"""How Ansible's lines begin that are errors."""

NO_HOSTS = re.compile(r"no hosts to target|Could not match supplied host pattern|no hosts matched", re.IGNORECASE)
"""How Ansible says that a pattern matches nothing."""

UNREAD = re.compile(r"(Unable|Failed) to parse")
"""How Ansible says that it goes on without a part of the inventory."""

PREFIX = re.compile(r"^\[(ERROR|WARNING)\]: ")


@dataclass(frozen=True)
class Ended:
    """How Ansible ended: its exit code, and the lines that it printed besides events, those on standard error first."""

    code: int
    notes: tuple[str, ...]

    @property
    def errors(self) -> list[str]:
        """Those of its lines that are errors."""
        return [_said(note) for note in self.notes if note.startswith(ERRORS)]

    @property
    def unread(self) -> list[str]:
        """What it could not read of the inventory."""
        return [_said(note) for note in self.notes if UNREAD.search(note)]

    @property
    def cause(self) -> str:
        """Why it ended, by its own words."""
        return [*self.unread, *self.errors, *map(_said, self.notes[-1:]), "it gives no reason"][0]


def _said(note: str) -> str:
    return PREFIX.sub("", one_line(note))


@dataclass(frozen=True)
class Ansible:
    """Ansible in a project: the directory it runs in, the inventory, and the user's own options, which it gets as they are."""

    root: Path
    inventory: str
    extra: Sequence[str] = ()

    def require_inventory(self) -> None:
        """InputError when there is no inventory at all."""
        if missing := missing_inventory(self.root, self.inventory):
            raise InputError(missing)

    def module(
        self,
        pattern: str,
        name: str,
        arguments: Mapping[str, Any],
        take: Callable[[Event], None],
        *options: str,
        largest: int = LARGEST_ANSWER,
    ) -> Ended:
        """Runs one module on the hosts of a pattern. InputError when there is no Ansible."""
        command = [program("ansible"), pattern, "-i", self.inventory, *self.extra, *options]
        return run([*command, "-m", name, "-a", json.dumps(arguments)], self.root, take, largest)

    def playbook(
        self, path: Path, take: Callable[[Event], None], *options: str, largest: int = LARGEST_ANSWER
    ) -> Ended:
        """Runs a playbook. InputError when there is no Ansible."""
        command = [program("ansible-playbook"), "-i", self.inventory, *self.extra, *options]
        return run([*command, str(path)], self.root, take, largest)

    def ask(self, host: str, module: str, arguments: Mapping[str, Any], *options: str) -> Mapping[str, Any]:
        """What a module answers on one host; HostError when it could not be asked, InputError when it is unknown."""
        asked = Asked(host)
        ended = self.module(host, module, arguments, asked.take, *options)
        if asked.failure:
            raise asked.failure
        if asked.answer is None:
            cause = ended.cause if ended.notes else f"Ansible ended with code {ended.code}"
            raise InputError(f"inventory {self._name}, host {shown(host)}: {cause}")
        return asked.answer

    def no_hosts(self, selection: str, ended: Ended, *, started: bool) -> InputError:
        """Why no host was asked; where a play has `started`, Ansible itself was content."""
        if started or any(NO_HOSTS.search(note) for note in ended.notes):
            return no_hosts(self.inventory, selection)
        return InputError(f"inventory {self._name}: Ansible ended with code {ended.code}: {ended.cause}")

    @property
    def _name(self) -> str:
        return shown(self.inventory, 200)


@dataclass
class Asked:
    """What one host has answered to one module."""

    host: str
    answer: Mapping[str, Any] | None = None
    failure: FarrierError | None = None

    def take(self, event: Event) -> None:
        """Keeps the answer, or why there is none."""
        match event:
            case Result("ok"):
                self.answer = event.answer
            case Result():
                self.failure = event.failure
            case Unreadable(why):
                self.failure = HostError(f"host {displayable(self.host)}: its answer cannot be read: {why}")


def program(name: str) -> str:
    """The program of Ansible that people use, else the one that came with Farrier. InputError when there is none."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if not found:
        raise InputError(f"{name}: not found; install ansible-core so that `{name}` is on the PATH")
    return found


def run(command: Sequence[str], cwd: Path, take: Callable[[Event], None], largest: int = LARGEST_ANSWER) -> Ended:
    """Runs a program of Ansible and hands over its events as they come; an interrupted run ends it, too."""
    said: list[str] = []
    errors: list[str] = []
    # Standard input and the terminal stay the user's: Ansible may ask for a password of vault, SSH or become.
    with subprocess.Popen(  # noqa: S603 - no shell; the user's own arguments for the user's own Ansible
        command,
        cwd=cwd,
        env=_environment(largest),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101 - for the type checker
        reader = threading.Thread(target=_drain, args=(process.stderr, errors), daemon=True)
        reader.start()
        try:
            while line := process.stdout.readline(LONGEST_LINE):
                event = read(line)
                if event is None:
                    _note(said, line)
                else:
                    take(event)
            process.wait()
        except BaseException:
            _end(process)
            raise
        reader.join(timeout=5)  # A process that Ansible left behind may hold the pipe open.
    return Ended(process.returncode, tuple(note for note in [*errors, *said] if note))


def _environment(largest: int) -> dict[str, str]:
    """This process's environment, with our callback and modules, and without what would hide or garble its lines."""
    # Ansible refuses to start in the plain C locale.
    utf8 = {"LC_ALL": "C.UTF-8"} if os.environ.get("LC_ALL") in ("C", "POSIX") else {}
    return {
        **os.environ,
        **utf8,
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "farrier_events",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_LIBRARY": str(HERE / "modules"),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_MODULE_UTILS": str(HERE / "module_utils"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NO_LOG": "0",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_STDOUT_CALLBACK": "farrier_events",
        "FARRIER_EVENT_MARK": MARK,
        "FARRIER_LARGEST_ANSWER": str(largest),
    }


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends Ansible, which may have been told already by the same Ctrl-C."""
    for request in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process.send_signal(request)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=INTERRUPT_SECONDS)
            return


def _drain(stream: IO[str], notes: list[str]) -> None:
    while line := stream.readline(LONGEST_LINE):
        _note(notes, line)


def _note(notes: list[str], line: str) -> None:
    """Keeps a line that somebody printed, within bounds."""
    if len(notes) < MOST_NOTES:
        notes.append(line[:LONGEST_TEXT].rstrip())
