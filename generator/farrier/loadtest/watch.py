"""Has a host watched while load is sent to it; `load_watch` is the part that runs there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, ValidationError

from farrier.ansible.runner import Ansible
from farrier.errors import FarrierError, HostError
from farrier.loadtest.rows import Running, Usage
from farrier.loadtest.step import Amount, Count, Step
from farrier.loadtest.usage import HostSample, ReadyMark, offset_seconds, usage
from farrier.measure.answer import first_error, rows
from farrier.wording import shown

WATCH_SPARE_SECONDS = 120
"""The watch on the host outlives the longest run by this much: Ansible needs time to come back for it."""


class HostState(BaseModel):
    """What `load_watch` returns from a host; the samples only once the watch has ended."""

    slot: Literal["a", "b"] | None
    nginx: StrictBool
    workers: Count
    memory_mb: Amount
    time: Amount
    machine_cpus: Count = 0
    running: ReadyMark = ReadyMark()
    samples: Annotated[list[HostSample], Field(max_length=20_000), BeforeValidator(rows)] = []


def host_state(answer: object, host: str) -> HostState:
    """The host's answer; HostError when it cannot be used."""
    try:
        return HostState.model_validate(answer)
    except ValidationError as error:
        raise HostError(f"host {shown(host)}: what its watch answered cannot be used: {first_error(error)}") from None


class Watch:
    """The host while it is watched, `before` the first request and `after` the last one."""

    def __init__(self, ask: Callable[[str], HostState]) -> None:
        self.ask = ask
        self.before = ask("begin")
        self.ahead = offset_seconds(self.before.time, time.time())
        self.after: HostState | None = None

    def end(self) -> None:
        """Ends watching, once."""
        if self.after is None:
            self.after = self.ask("end")

    def usage(self, step: Step) -> Usage:
        """What the host spent in the window of a step."""
        samples = self.after.samples if self.after else ()
        return usage(samples, step.begun + self.ahead, step.seconds, nginx=self.before.nginx)

    @property
    def running(self) -> Running | None:
        """What serves; None where no worker says."""
        return self.before.running.running

    @property
    def memory_mb(self) -> tuple[float, float] | None:
        """Of the slot, before and after; None where no slot serves."""
        if not self.after or not (self.before.memory_mb and self.after.memory_mb):
            return None
        return self.before.memory_mb, self.after.memory_mb


@contextmanager
def watched(ansible: Ansible, application: str, host: str, seconds: float) -> Iterator[Watch]:
    """Has the host watched as long as the block runs; whatever ends it, the watch ends, too."""

    def ask(phase: str) -> HostState:
        arguments = {
            "phase": phase,
            "application": application,
            "home": f"/srv/{application}",
            "seconds": seconds + WATCH_SPARE_SECONDS,
        }
        # As root: memory and ready marks of other users' processes, and the first turn on a saturated CPU.
        return host_state(ansible.ask(host, "load_watch", arguments, "--become").get("measured"), host)

    watch = Watch(ask)
    try:
        yield watch
    except BaseException:
        # What goes wrong now matters less than what went wrong before; the watch ends by itself in any case.
        with suppress(FarrierError):
            watch.end()
        raise
