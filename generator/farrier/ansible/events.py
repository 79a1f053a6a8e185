"""What Ansible tells while it runs: the lines of the callback `farrier_events`, bounded and checked before anything uses them."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from farrier.errors import HostError
from farrier.wording import line, number, printable, quoted

MARK = f"farrier-event-{secrets.token_hex(8)} "
"""Begins every line of the callback, which learns it from the environment. It is another one in each process, so that
nothing that a host, a plugin or an inventory prints can pass for an event."""

LONGEST_LINE = 16 * 1024 * 1024
"""Characters of a line that are read at once; the callback refuses longer answers before they are a line."""

LONGEST_REASON = 300
"""Characters of a reason that Ansible gives; some carry whole transcripts."""

LONGEST_TEXT = 10_000
"""Characters of one text that are looked at for a reason."""

Outcome = Literal["ok", "failed", "unreachable", "skipped"]


@dataclass(frozen=True)
class Start:
    """A play begins: the hosts it is for, and those it would be for without --limit."""

    hosts: list[str]
    inventory: list[str]


@dataclass(frozen=True)
class Task:
    """A task begins."""

    name: str


@dataclass(frozen=True)
class Result:
    """What became of a task on a host. What the `answer` holds may be of any type: the host decides it."""

    outcome: Outcome
    host: str
    answer: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """Ansible's own reason as one line, with what was said on the host where that tells more."""
        message = one_line(self._text("msg")).removeprefix("Task failed: ") or "Ansible gives no reason"
        last = [said for said in self._text("stderr").splitlines() if said.strip()][-1:]
        said = [self._text("module_stderr"), self._text("module_stdout"), *last]
        detail = next(filter(None, map(one_line, said)), "")
        return f"{message.rstrip('.')}: {detail}" if detail and detail not in message else message

    @property
    def failure(self) -> HostError | None:
        """The host and the reason, where the task failed."""
        failed = self.outcome in ("failed", "unreachable")
        return HostError(f"host {displayable(self.host)}: {self.reason}") if failed else None

    def _text(self, key: str) -> str:
        """What the answer says where Ansible has text, and a module may have put anything."""
        said = self.answer.get(key)
        return said if isinstance(said, str) else "" if said is None else quoted(said)


@dataclass(frozen=True)
class Unreadable:
    """A line of the callback that tells nothing, and why."""

    why: str


Event = Start | Task | Result | Unreadable


def read(text: str) -> Event | None:
    """The event that a line of Ansible's standard output tells; None for any line that is not the callback's."""
    if not text.startswith(MARK):
        return None
    if len(text) >= LONGEST_LINE:
        return Unreadable(f"it is longer than {number(LONGEST_LINE)} characters")
    try:
        return _event(json.loads(text[len(MARK) :]))
    except RecursionError:
        return Unreadable("it is nested too deeply")
    except ValueError as error:
        return Unreadable(line(error, 100))


def _event(document: object) -> Event:
    match document:
        case {"kind": "start", "hosts": list(hosts), "inventory": list(inventory)} if _names(hosts + inventory):
            return Start(hosts, inventory)
        case {"kind": "task", "name": str(name)}:
            return Task(name)
        case {"kind": outcome, "host": str(host), "answer": dict(answer)} if outcome in get_args(Outcome):
            return Result(outcome, host, answer)
    return Unreadable("it is no event of Ansible's")


def _names(values: list[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def displayable(host: str) -> str:
    """A host's name for people: escaped where it holds what cannot be shown."""
    return printable(host, LONGEST_REASON)


def one_line(text: str) -> str:
    """A text of others as one printable line of bearable length."""
    said = text[:LONGEST_TEXT].split("\n")
    return line(" ".join(each for each in said if not each.startswith("Warning: Permanently added")), LONGEST_REASON)
