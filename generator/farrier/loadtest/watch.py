"""Has a host watched while load is sent to it; `load_watch` is the part that runs there."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from farrier.ansible.runner import Ansible
from farrier.errors import FarrierError
from farrier.loadtest import answers
from farrier.loadtest.rows import Running, Usage
from farrier.loadtest.step import Step
from farrier.loadtest.usage import HostSample, offset_seconds, running, usage

WATCH_SPARE_SECONDS = 120
"""The watch on the host outlives the longest run by this much: Ansible needs time to come back for it."""


class Watch:
    """The host while it is watched."""

    def __init__(self, ask: Callable[[str], dict[str, Any]]) -> None:
        self.ask = ask
        self.before = ask("begin")
        self.ahead = offset_seconds(self.before["time"], time.time())
        self.after: dict[str, Any] | None = None

    def end(self) -> None:
        """Ends watching, once."""
        if self.after is None:
            self.after = self.ask("end")

    def usage(self, step: Step) -> Usage:
        """What the host spent in the window of a step."""
        samples: Sequence[HostSample] = self.after["samples"] if self.after else ()
        return usage(samples, step.begun + self.ahead, step.seconds, nginx=self.before["nginx"])

    @property
    def running(self) -> Running | None:
        """What serves; None where no worker says."""
        return running(self.before["running"])

    @property
    def machine_cpus(self) -> int:
        """CPUs of the machine that the host is on, or is."""
        cpus: int = self.before["machine_cpus"]
        return cpus

    @property
    def memory_mb(self) -> tuple[float, float] | None:
        """Of the slot, before and after; None where no slot serves."""
        if not self.after or not (self.before["memory_mb"] and self.after["memory_mb"]):
            return None
        return self.before["memory_mb"], self.after["memory_mb"]


@contextmanager
def watched(ansible: Ansible, application: str, host: str, seconds: float) -> Iterator[Watch]:
    """Has the host watched as long as the block runs; whatever ends it, the watch ends, too."""

    def ask(phase: str) -> dict[str, Any]:
        arguments = {
            "phase": phase,
            "application": application,
            "home": f"/srv/{application}",
            "seconds": seconds + WATCH_SPARE_SECONDS,
        }
        # As root: memory and ready marks of other users' processes, and the first turn on a saturated CPU.
        return answers.watched(ansible.ask(host, "load_watch", arguments, "--become").get("measured"), host)

    watch = Watch(ask)
    try:
        yield watch
    except BaseException:
        # What goes wrong now matters less than what went wrong before; the watch ends by itself in any case.
        with suppress(FarrierError):
            watch.end()
        raise
