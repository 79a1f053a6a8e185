"""Gathers host facts with Ansible: its inventory, connections and vault. Writes a document for each host."""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from farrier.ansible.events import LONGEST_LINE, MARK, MARK_VARIABLE, event_of
from farrier.errors import FarrierError, HostError, InputError
from farrier.facts.documents import gathered, parse, settled
from farrier.facts.files import (
    earlier,
    remove_others,
    require_writable,
    valid_host_name,
    write_atomically,
)
from farrier.facts.model import quoted, require_supported
from farrier.wording import shown

PACKAGE = Path(__file__).parents[1]

LONGEST_REASON = 300
"""Characters of a reason that Ansible gives; some carry whole transcripts."""

NO_HOSTS = re.compile(r"no hosts to target|Could not match supplied host pattern|no hosts matched", re.IGNORECASE)
"""How Ansible says that a pattern matches nothing."""


INTERRUPT_SECONDS = 5
"""How long Ansible may take to end at each of three requests, the last of which is a kill."""

MOST_NOTES = 2000
"""Lines that are kept of what Ansible says besides; whoever prints more has said it by then."""

LONGEST_NOTE = 10_000
"""Characters that are kept of each."""

UNREAD = re.compile(r"(Unable|Failed) to parse")
"""How Ansible says that it goes on without a part of the inventory."""


class HostEvent(NamedTuple):
    """Something to show while facts are gathered; at `start` there is no host yet."""

    kind: Literal["start", "gathered", "unreachable", "failed"]
    host: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class CollectResult:
    """What became of every host.

    `failed` has a reason for each host without new facts; those `refused` did answer, but cannot be used.
    `notes` is what Ansible said besides; it explains failures.
    """

    gathered: tuple[str, ...]
    failed: dict[str, str]
    removed: tuple[str, ...]
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def raise_for_failed(self) -> None:
        """HostError with a line for each host without facts; InputError if all of these are refused ones."""
        if self.failed:
            lines = [f"host {host}: {reason}" for host, reason in self.failed.items()]
            raise InputError(*lines) if set(self.failed) == set(self.refused) else HostError(*lines)


@dataclass
class _Run:
    """One run of Ansible while it goes on."""

    output: Path
    on_event: Callable[[HostEvent], None]
    hosts: list[str] | None = None
    inventory: list[str] = field(default_factory=list)
    gathered: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    chatter: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """One line of Ansible's standard output."""
        event = event_of(line)
        if event is None:
            noted(self.chatter, line)
            return
        if event["kind"] == "start":
            self.hosts, self.inventory = event["hosts"], event.get("inventory", event["hosts"])
            self.on_event(HostEvent("start", "", "", 0, len(self.hosts or [])))
            return
        host, reason = displayable(event["host"]), ""
        kind: Literal["gathered", "unreachable", "failed"] = "failed"
        if event["kind"] in ("gathered", "unreachable"):
            kind = event["kind"]
        try:
            if kind != "gathered":
                raise HostError(reason_of(event))
            self.keep(event["host"], event.get("facts"))
            self.gathered.append(host)
        except FarrierError as error:
            reason = "; ".join(error.messages)
            kind = "failed" if kind == "gathered" else kind
            self.failed[host] = reason
            if isinstance(error, InputError):
                self.refused.append(host)
        done = len(self.gathered) + len(self.failed)
        self.on_event(HostEvent(kind, host, reason, done, len(self.hosts or [])))

    def keep(self, host: str, facts: object) -> None:
        """Writes the document of one host, unless it could not be planned with."""
        if not valid_host_name(host):
            right = "name it with letters, digits, `.`, `_`, `:` and `-`, and use ansible_host for the address"
            raise InputError(f"{shown(host)} cannot be the name of a file; {right}")
        origin = "gathered now"
        try:
            document = gathered(facts, host, origin)
            require_supported(parse(document, host, origin))
        except FarrierError as error:
            prefix = f"host {host} ({origin}): "
            raise type(error)(*(message.removeprefix(prefix) for message in error.messages)) from error
        path = self.output / f"{host}.json"
        document = settled(document, earlier(path))
        write_atomically(path, json.dumps(document, indent=2, sort_keys=True) + "\n")


def collect(
    inventory: Path,
    application: str,
    output: Path,
    *,
    limit: str | None = None,
    extra: Sequence[str] = (),
    cwd: Path,
    on_event: Callable[[HostEvent], None] = lambda event: None,
    pattern: str = "all",
) -> CollectResult:
    """Gathers the facts of an inventory's hosts into `output`/<host>.json; facts of hosts that failed stay.

    After a run for all hosts the files of hosts that the inventory no longer has are removed. `extra` goes to
    the `ansible` command as it is. InputError when Ansible cannot start with this input or no host matches.
    """
    name = shown(str(inventory), 200)
    if not (cwd / inventory).exists():
        raise InputError(f"inventory {name} does not exist; it must be a file or directory that Ansible reads")
    require_writable(output)
    arguments = ["-i", str(inventory), *extra, *(["--limit", limit] if limit else [])]
    arguments += ["-M", str(PACKAGE / "ansible/modules"), "-m", "farrier_facts"]
    arguments += ["-a", json.dumps({"application": application})]
    run = _Run(output, on_event)
    notes, code = run_ansible([ansible_command(), pattern, *arguments], cwd, run.take)
    notes = [*notes, *run.chatter]
    if not run.hosts:
        selection = f"--limit {shown(limit)}" if limit else shown(pattern)
        raise InputError(nothing_to_do(name, selection, notes, code if run.hosts is None else None))
    for host in map(displayable, run.hosts):
        if host not in run.failed and host not in run.gathered:
            cause = one_line((errors_of(notes) or ["Ansible ended before it came to this host"])[0])
            run.failed[host] = cause.removeprefix("[ERROR]: ")
    # A source that Ansible could not read does not mean that its hosts are gone.
    everyone = set(run.hosts) == set(run.inventory) and not any(UNREAD.search(note) for note in notes)
    return CollectResult(
        gathered=tuple(sorted(run.gathered)),
        failed=dict(sorted(run.failed.items())),
        removed=remove_others(output, run.inventory) if everyone else (),
        refused=tuple(sorted(run.refused)),
        notes=tuple(notes),
    )


def ansible_command(name: str = "ansible") -> str:
    """The program of Ansible that people use, else the one that came with Farrier. InputError when there is none."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.exists() else None)
    if not found:
        raise InputError(f"{name}: not found; install ansible-core so that `{name}` is on the PATH")
    return found


def environment(callback: str = "farrier_events") -> dict[str, str]:
    """This process's environment, with our callback and without what would hide or garble its lines."""
    # Ansible refuses to start in the plain C locale.
    utf8 = {"LC_ALL": "C.UTF-8"} if os.environ.get("LC_ALL") in ("C", "POSIX") else {}
    return {
        **os.environ,
        **utf8,
        "ANSIBLE_CALLBACK_PLUGINS": str(PACKAGE / "ansible/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": callback,
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_MODULE_UTILS": str(PACKAGE / "ansible/module_utils"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NO_LOG": "0",
        "ANSIBLE_STDOUT_CALLBACK": callback,
        MARK_VARIABLE: MARK,
    }


def run_ansible(
    command: Sequence[str], cwd: Path, take: Callable[[str], None], variables: Mapping[str, str] | None = None
) -> tuple[list[str], int]:
    """Runs Ansible, hands over its lines as they come; what it said on standard error, and its exit code.

    An interrupted run ends Ansible, too. `variables` are its environment.
    """
    notes: list[str] = []
    # Standard input stays the user's: Ansible may ask for a password of vault, SSH or become.
    with subprocess.Popen(  # noqa: S603 - no shell; the user's own arguments for the user's own Ansible
        command,
        cwd=cwd,
        env=variables or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        assert process.stderr is not None  # noqa: S101 - for the type checker
        reader = threading.Thread(target=_drain, args=(process.stderr, notes), daemon=True)
        reader.start()
        try:
            while line := process.stdout.readline(LONGEST_LINE):
                take(line)
            process.wait()
        except BaseException:
            _end(process)
            raise
        reader.join(timeout=5)  # A process that Ansible left behind may hold the pipe open.
    return [line for line in notes if line], process.returncode


def _end(process: "subprocess.Popen[str]") -> None:
    """Ends Ansible, which may have been told already by the same Ctrl-C."""
    for request in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process.send_signal(request)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=INTERRUPT_SECONDS)
            return


def _drain(stream: IO[str], lines: list[str]) -> None:
    while line := stream.readline(LONGEST_LINE):
        noted(lines, line)


def noted(notes: list[str], line: str) -> None:
    """Keep a line that somebody printed, within bounds."""
    if len(notes) < MOST_NOTES:
        notes.append(line[:LONGEST_NOTE].rstrip())


def reason_of(event: Mapping[str, Any]) -> str:
    """Ansible's own reason as one line, with what the host's shell said where that tells more."""
    said = [_text(event.get(key)) for key in ("msg", "module_stderr", "module_stdout")]
    message = one_line(said[0]).removeprefix("Task failed: ") or "Ansible gives no reason"
    detail = one_line(said[1]) or one_line(said[2])
    return f"{message.rstrip('.')}: {detail}" if detail and detail not in message else message


def _text(said: object) -> str:
    """What an answer says where Ansible has text, and a module may have put anything."""
    return said if isinstance(said, str) else "" if said is None else quoted(said)


def displayable(host: str) -> str:
    """A host's name for people: escaped where it holds what cannot be shown."""
    host = host[:LONGEST_REASON]
    return host if host.isprintable() else host.encode("unicode_escape", "replace").decode()


def one_line(text: str) -> str:
    """A text of others as one printable line of bearable length."""
    text = text[:LONGEST_NOTE]
    words = " ".join(line for line in text.split("\n") if not line.startswith("Warning: Permanently added")).split()
    line = "".join(character if character.isprintable() else "?" for character in " ".join(words))
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def errors_of(notes: Sequence[str]) -> list[str]:
    """Those of Ansible's lines that are errors."""
    return [note for note in notes if note.startswith(("ERROR", "[ERROR]", "ansible: error"))]


def nothing_to_do(inventory: str, selection: str, notes: Sequence[str], code: int | None) -> str:
    """Why no host was asked, as one line; no code means that Ansible itself was content."""
    if code is None or any(NO_HOSTS.search(note) for note in notes):
        return f"inventory {inventory} has no host that matches {selection}; it must have at least one"
    unread = [note for note in notes if UNREAD.search(note)]
    cause = one_line((unread or errors_of(notes) or [*notes[-1:], "it gives no reason"])[0])
    cause = re.sub(r"^\[(ERROR|WARNING)\]: ", "", cause)
    return f"inventory {inventory}: Ansible ended with code {code}: {cause}"
