"""Starts the generator as a process and talks to it; Locust itself stays out of the caller's process."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from farrier.errors import HostError
from farrier.loadtest.job import Job
from farrier.loadtest.step import Step, step_from
from farrier.wording import line, quoted, shown

START_SECONDS = 60
"""Locust takes a second to import on a fast machine; a pinned and busy CPU needs longer."""

GRACE_SECONDS = 15
"""More than the generator itself waits for a worker, so that it can say which one is missing."""

END_SECONDS = 15

LONGEST_ANSWER = 16 * 1024 * 1024
"""Bytes of one answer; that of a step has a few thousand for each path."""

LONGEST_ERROR, LONGEST_REASON = 10_000, 300
"""Bytes of its errors that are looked at, and characters of the reason that is made of them."""


class LoadGenerator:
    """A generator that runs until the end of the `with` block, on `cpus` if they are given.

    HostError when it ends early or does not answer, with what it said last.
    """

    def __init__(self, job: Job, cpu: int | Iterable[int] | None = None) -> None:
        self.job = job
        self.cpus = () if cpu is None else (cpu,) if isinstance(cpu, int) else tuple(cpu)
        self.unread = b""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "farrier.loadtest.load_generator"]
        if self.cpus:
            command = ["taskset", "--cpu-list", ",".join(map(str, self.cpus)), *command]
        self.errors = tempfile.TemporaryFile()
        # A session of its own: Ctrl-C is for the caller, who ends it with its standard input.
        self.process = subprocess.Popen(  # noqa: S603 - this program itself
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True
        )
        try:
            self._tell(self.job.document())
            self._answer(START_SECONDS + self.job.workers_seconds)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def step(self, rps: float, *, seconds: float, warm_seconds: float = 0.0, chance: str = "") -> Step:
        """Load at one rate; returns when all its answers have come or were given up.

        Steps of equal `chance` have equal arrivals, scaled to their rates, so that what differs is what answers.
        """
        self._tell({"rps": rps, "seconds": seconds, "warm_seconds": warm_seconds, "chance": chance})
        return step_from(self._answer(warm_seconds + seconds + self.job.drain_limit_seconds + GRACE_SECONDS))

    def close(self) -> None:
        """Ends it, whatever it is doing."""
        for end in (self.process.stdin.close, self.process.terminate, self.process.kill):  # type: ignore[union-attr]
            try:
                end()
                self.process.wait(END_SECONDS)
                break
            except (OSError, subprocess.TimeoutExpired):
                continue
        self.process.stdout.close()  # type: ignore[union-attr]
        self.errors.close()

    def _tell(self, document: dict[str, Any]) -> None:
        try:
            self.process.stdin.write(json.dumps(document).encode() + b"\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            raise self._ended() from None

    def _answer(self, seconds: float) -> dict[str, Any]:
        give_up = time.monotonic() + seconds
        output = self.process.stdout.fileno()  # type: ignore[union-attr]
        while b"\n" not in self.unread:
            if not select.select([output], [], [], max(0.0, give_up - time.monotonic()))[0]:
                raise HostError(f"the load generator gave no answer within {seconds:.0f} s")
            part = os.read(output, 1 << 16)
            if not part:
                raise self._ended()
            self.unread += part
            if len(self.unread) > LONGEST_ANSWER:
                raise self._unusable(f"its answer is longer than {LONGEST_ANSWER:,} bytes")
        answer, _, self.unread = self.unread.partition(b"\n")
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError):
            raise self._unusable(f"its answer is not JSON: {shown(answer.decode(errors='replace'))}") from None
        if not isinstance(document, dict):
            raise self._unusable(f"its answer is {quoted(document)}; it must be an object")
        if "error" in document:
            raise HostError(f"the load generator: {line(document['error'], LONGEST_REASON)}")
        return document

    def _unusable(self, why: str) -> HostError:
        """What answers so is no generator, and would not end when its input does."""
        self.process.kill()
        return HostError(f"the load generator: {why}")

    def _ended(self) -> HostError:
        """Why it is gone, by its own last line."""
        self.errors.seek(max(0, self.errors.seek(0, os.SEEK_END) - LONGEST_ERROR))
        said = self.errors.read().decode(errors="replace").split("\n")
        last = next((line(each, LONGEST_REASON) for each in reversed(said) if each.strip()), "it gives no reason")
        return HostError(f"the load generator ended by itself: {last}")
