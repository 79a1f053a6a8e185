"""Gathers host facts with Ansible. Writes a document for each host."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from farrier.ansible.events import Event, Result, Start, Unreadable, displayable
from farrier.ansible.runner import Ansible
from farrier.errors import FarrierError, HostError, InputError
from farrier.facts.documents import gathered, parse, settled
from farrier.facts.files import earlier, remove_others, require_writable, valid_host_name, write_atomically
from farrier.facts.model import require_supported
from farrier.wording import shown

MOST_UNREADABLE = 20
"""Answers that cannot be read, of which a run tells."""

LARGEST_ANSWER = 1_000_000
"""Characters of one host's answer as JSON; facts take a few thousand."""


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
class Gathering:
    """One run of Ansible while it goes on."""

    output: Path
    on_event: Callable[[HostEvent], None]
    start: Start | None = None
    gathered: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """A host's answer is kept, or why it is none."""
        match event:
            case Start(hosts):
                self.start = event
                self.on_event(HostEvent("start", "", "", 0, len(hosts)))
            case Result():
                self.on_event(self._taken(event))
            case Unreadable(why):
                self.unreadable = [*self.unreadable, f"an answer cannot be read: {why}"][:MOST_UNREADABLE]

    def _taken(self, result: Result) -> HostEvent:
        host, reason = displayable(result.host), ""
        kind: Literal["gathered", "unreachable", "failed"] = "failed"
        try:
            if result.outcome != "ok":
                kind = "unreachable" if result.outcome == "unreachable" else "failed"
                raise HostError(result.reason)
            self.keep(result.host, result.answer.get("facts"))
            self.gathered.append(host)
            kind = "gathered"
        except FarrierError as error:
            reason = "; ".join(error.messages)
            self.failed[host] = reason
            if isinstance(error, InputError):
                self.refused.append(host)
        done = len(self.gathered) + len(self.failed)
        return HostEvent(kind, host, reason, done, len(self.start.hosts) if self.start else 0)

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
    ansible = Ansible(cwd, str(inventory), [*extra, *(["--limit", limit] if limit else [])])
    ansible.require_inventory()
    require_writable(output)
    run = Gathering(output, on_event)
    ended = ansible.module(pattern, "farrier_facts", {"application": application}, run.take, largest=LARGEST_ANSWER)
    if run.start is None or not run.start.hosts:
        selection = f"--limit {shown(limit)}" if limit else shown(pattern)
        raise ansible.no_hosts(selection, ended, started=run.start is not None)
    for host in map(displayable, run.start.hosts):
        if host not in run.failed and host not in run.gathered:
            run.failed[host] = [*ended.errors, "Ansible ended before it came to this host"][0]
    # A source that Ansible could not read does not mean that its hosts are gone.
    everyone = set(run.start.hosts) == set(run.start.inventory) and not ended.unread
    return CollectResult(
        gathered=tuple(sorted(run.gathered)),
        failed=dict(sorted(run.failed.items())),
        removed=remove_others(output, run.start.inventory) if everyone else (),
        refused=tuple(sorted(run.refused)),
        notes=(*ended.notes, *run.unreadable),
    )
