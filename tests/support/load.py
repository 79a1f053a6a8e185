"""Open-loop load on a host: each request leaves when it is due, whatever became of earlier ones, and each answer is kept.

It runs as a process of its own, so that neither pytest nor Ansible makes it late, and is bounded in count and time.
"""

import asyncio
import http.client
import io
import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

REQUESTS_PER_SECOND = 60
# One of 15 requests is a long POST: 4 a second, so that some are always under way.
POST_EVERY = 15
POST_SECONDS = 0.7
POST = ("POST", f"/work/?wait_ms={POST_SECONDS * 1000:.0f}")
GETS = (("GET", "/release/"), ("GET", "/work/?cpu_ms=1&wait_ms=20"))
BODY = b"iron " * 400
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Record:
    """One request and its answer. Times are the machine's monotonic clock; `seconds` counts from when it was due."""

    method: str
    due: float
    seconds: float
    status: int = 0
    release: str = ""
    retry_after: str = ""
    error: str = ""

    @property
    def lost(self) -> bool:
        """Whether it got anything else than a whole 2xx answer."""
        return bool(self.error) or not 200 <= self.status < 300


@dataclass(frozen=True)
class Report:
    """What became of all requests."""

    records: tuple[Record, ...]

    @property
    def lost(self) -> tuple[Record, ...]:
        """The requests without a 2xx answer."""
        return tuple(record for record in self.records if record.lost)

    @property
    def counts(self) -> Counter[tuple[int, str]]:
        """Answers by status and release."""
        return Counter((record.status, record.release) for record in self.records)

    @property
    def releases(self) -> set[str]:
        """The releases that answered."""
        return {record.release for record in self.records if not record.lost}

    def seconds(self, share: float, method: str = "GET") -> float:
        """The time within which this share of the answers came, by nearest rank; 1 is the longest."""
        times = sorted(record.seconds for record in self.records if record.method == method)
        return times[max(0, -int(-share * len(times) // 1) - 1)]

    def due(self, *windows: tuple[float, float]) -> "Report":
        """The requests that were due in one of these windows of time."""
        return Report(tuple(each for each in self.records if any(begin <= each.due < end for begin, end in windows)))

    @property
    def longest_gap(self) -> float:
        """The longest time in which no 2xx answer came."""
        came = sorted(record.due + record.seconds for record in self.records if not record.lost)
        return max((after - before for before, after in itertools.pairwise(came)), default=float("inf"))

    def require_none_lost(self) -> None:
        """Fails with what the lost requests got instead."""
        found = Counter((record.method, record.status, record.error) for record in self.lost)
        assert not found, f"{len(self.lost)} of {len(self.records)} requests lost: {dict(found)}"

    def __str__(self) -> str:
        """The report in a few lines."""
        lines = [
            f"{count:6d} x {status or 'none'} from {release or 'nobody'}"
            for (status, release), count in self.counts.items()
        ]
        p50, p99 = self.seconds(0.5), self.seconds(0.99)
        times = f"GET p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest gap {self.longest_gap * 1000:.0f} ms"
        return "\n".join([*lines, times])


class _Received:
    """Bytes that have been received, in the form in which http.client reads them."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def makefile(self, *_arguments: object) -> io.BytesIO:
        return io.BytesIO(self.raw)


def parsed(raw: bytes) -> dict[str, str | int]:
    """Status, release and Retry-After of a whole answer; raises HTTPException for one that was cut."""
    answer = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type] # all it wants of a socket is makefile
    answer.begin()
    body = answer.read()
    try:
        release = str(json.loads(body).get("release", ""))
    except (ValueError, AttributeError):
        release = ""
    return {"status": answer.status, "release": release, "retry_after": answer.headers.get("Retry-After", "")}


async def ask(port: int, host: str, method: str, path: str, due: float) -> Record:
    """Sends one request on a connection of its own."""
    body = BODY if method == "POST" else b""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}\r\n"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head.encode() + body)
                found = parsed(await reader.read())
            finally:
                writer.close()
        return Record(method, due, time.monotonic() - due, **found)  # type: ignore[arg-type] # by name
    except (OSError, http.client.HTTPException) as error:
        return Record(method, due, time.monotonic() - due, error=repr(error))


async def send(port: int, host: str, limit_seconds: float, rate: float = REQUESTS_PER_SECOND) -> None:
    """Prints a line for each answer, until SIGTERM or the limit; then waits for those that are under way."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    begun = time.monotonic()
    under_way: set[asyncio.Task[None]] = set()

    async def keep(method: str, path: str, due: float) -> None:
        print(json.dumps(asdict(await ask(port, host, method, path, due))), flush=True)  # noqa: T201 - its output

    for number in range(int(limit_seconds * rate)):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if stop.is_set():
            break
        method, path = POST if number % POST_EVERY == 0 else GETS[number % len(GETS)]
        task = asyncio.create_task(keep(method, path, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)


def burst(port: int, host: str, count: int, path: str = POST[1]) -> Report:
    """POSTs all at one moment, and waits for all answers."""

    async def all_at_once() -> list[Record]:
        now = time.monotonic()
        return await asyncio.gather(*(ask(port, host, "POST", path, now) for _ in range(count)))

    return Report(tuple(asyncio.run(all_at_once())))


class Load:
    """Load that is running."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self.process, self.output = process, output

    def report(self) -> Report:
        """What has been answered so far."""
        whole = self.output.read_text(encoding="utf-8").rpartition("\n")[0]
        return Report(tuple(Record(**json.loads(line)) for line in whole.splitlines()))

    def stop(self) -> Report:
        """Sends nothing more, and waits for the answers to what was sent. Fails when its own limit had ended it."""
        if self.process.poll() is None:
            self.process.terminate()
        else:
            raise AssertionError(f"the load had ended by itself, with status {self.process.returncode}")
        assert self.process.wait(ANSWER_SECONDS + 10) == 0
        return self.report()


@contextmanager
def load(
    port: int, host: str, output: Path, limit_seconds: float = 120, rate: float = REQUESTS_PER_SECOND
) -> Iterator[Load]:
    """Load from now on; whoever asks for its report stops it, and the end of the block does in any case."""
    with output.open("wb") as file:
        command: Sequence[str] = [sys.executable, __file__, str(port), host, str(limit_seconds), str(rate)]
        with subprocess.Popen(command, stdout=file) as process:
            running = Load(process, output)
            try:
                give_up = time.monotonic() + 10
                while len(running.report().records) < REQUESTS_PER_SECOND and time.monotonic() < give_up:
                    time.sleep(0.05)
                yield running
            except BaseException:
                process.kill()  # nobody will ask for the answers that are still to come
                raise
            finally:
                process.terminate()


if __name__ == "__main__":
    asyncio.run(send(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
