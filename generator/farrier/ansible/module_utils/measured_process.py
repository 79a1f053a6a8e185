# SPDX-License-Identifier: MIT
"""Looks at living processes through /proc, and writes HTTP requests; for `application_measurement`."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_host import parent
from ansible.module_utils.farrier_text import shown
from ansible.module_utils.measured_place import MeasurementFailure

MOST_NAMES = 100
MOST_REFERENCE_BYTES = 1 << 20
"""What workers note of their fixed work at a time; real ones write eight bytes for each request."""


def cpu_ns(pid: int) -> int:
    """CPU time of a process and all its threads, from its own clock; ProcessLookupError when it is gone."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes it
    except OSError:
        raise ProcessLookupError(pid) from None


def vanished(error: BaseException | None) -> bool:
    """Whether that is what comes of asking or looking at a process that is no longer there.

    A file is missing together with its /proc/PID; a socket, whose error names no file, because systemd removed it with its unit.
    """
    if isinstance(error, FileNotFoundError):
        return error.filename is None or not Path(error.filename).parent.exists()
    return isinstance(error, (ProcessLookupError, ConnectionError, http.client.HTTPException))


def schedule_ns(pids: list[int]) -> dict[str, tuple[int, int]]:
    """By thread: its CPU time, and how long it stood ready without a CPU; nothing where the kernel keeps no account."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                used, ready = Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[:2]
                found[task] = int(used), int(ready)
    return found


def delay_ns(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> int:
    """How long the thread that computed most in between stood ready.

    Others stand ready while this one computes (every worker wakes up for a connection), which delays nobody.
    """
    changes = []
    for task, (used, ready) in after.items():
        used_before, ready_before = before.get(task, (0, 0))
        changes.append((used - used_before, ready - ready_before))
    return max(changes, default=(0, 0))[1]


def machine_seconds(stat: str = "/proc/stat") -> tuple[float, float]:
    """How long all CPUs together have computed, and how long the hypervisor kept them from it (its "steal")."""
    user, nice, system, _, _, irq, softirq, steal = (int(word) for word in Path(stat).read_text().split(None, 9)[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, steal / ticks


def stolen_seconds(stat: str = "/proc/stat") -> float:
    """How long the hypervisor kept each CPU from computing, in the mean of all CPUs."""
    cpus = len(re.findall(r"^cpu\d", Path(stat).read_text(), re.MULTILINE))
    return machine_seconds(stat)[1] / max(1, cpus)


def memory_kb(pid: int) -> dict[str, int]:
    """Private and shared memory of a process in KB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return {
        "private": found["Private_Clean"] + found["Private_Dirty"],
        "shared": found["Shared_Clean"] + found["Shared_Dirty"],
    }


def signal_child(pid: int, master: int, what: signal.Signals) -> None:
    """Send a signal to a child of `master`, and to nothing else: a number may by now be that of another process."""
    if pid <= 1 or master <= 1:
        return
    with contextlib.suppress(ProcessLookupError):
        try:
            handle = os.pidfd_open(pid)
        except OSError as error:
            if error.errno != errno.ENOSYS:  # before Linux 5.3 the moment between look and signal stays
                raise
            if parent(pid) == master:
                os.kill(pid, what)
            return
        try:
            if parent(pid) == master:
                signal.pidfd_send_signal(handle, what)
        finally:
            os.close(handle)


def address(word: str) -> str:
    """`0100007F:1538` of /proc/net/tcp as `127.0.0.1:5432`."""
    digits, port = word.split(":")
    packed = b"".join(bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8))
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, packed)}:{int(port, 16)}"


def sockets(pid: int) -> list[str]:
    """Stream sockets that a process has open, each as what it is connected to or listens on."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(each)):
                inodes.add(found[1])
    named = []
    for protocol in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{protocol}").read_text(errors="replace").splitlines()[1:]:
                words = line.split()
                if words[9] in inodes:
                    listens = words[3] == "0A"
                    named.append(f"{'listening on' if listens else 'to'} {address(words[1 if listens else 2])}")
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/net/unix").read_bytes().decode("utf-8", "replace").split("\n")[1:]:
            words = line.split()
            # Datagrams survive a fork; a name may hold a line break, after which there is no such line.
            if len(words) > 6 and words[6] in inodes and words[4] == "0001":
                named.append(shown(f"unix {words[7]}") if len(words) > 7 else "unix, connected")
    return sorted(named)[:MOST_NAMES]


def native_threads(pid: int) -> list[str]:
    """Names of all threads of a process but the main one, as the kernel has them."""
    tasks = Path(f"/proc/{pid}/task")
    names = ((tasks / each / "comm").read_text(errors="replace") for each in os.listdir(tasks) if each != str(pid))
    return sorted(shown(name.strip()) for name in names)[:MOST_NAMES]


def in_turn(weights: list[float]) -> Iterator[int]:
    """Positions in proportion to their weights, evenly mixed: 2 and 1 give 0, 1, 0, 0, 1, 0."""
    credit = [0.0] * len(weights)
    while True:
        credit = [have + weight for have, weight in zip(credit, weights)]  # noqa: B905 - the oldest Python has no strict=
        chosen = max(range(len(weights)), key=credit.__getitem__)
        credit[chosen] -= sum(weights)
        yield chosen


class _Unsent(http.client.HTTPConnection):
    """Keeps what it would send."""

    content = b""

    def send(self, data: Any) -> None:
        """Keep it."""
        self.content += data


def request_content(method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    """The bytes of an HTTP request."""
    unsent = _Unsent("localhost")
    unsent.request(method, path, body, headers)
    return unsent.content


class References:
    """The CPU time of the work that workers do before each request only to show how fast the machine is."""

    def __init__(self, runtime: Path, pids: list[int]) -> None:
        """Begin with what comes from now on; before, workers do no such work.

        The directory is the application's: what lies there under these names may be anything.
        """
        self._runtime = str(runtime)
        self.total_ns = self.last_ns = 0
        self._files: list[int] = []
        try:
            beneath.write(self._runtime, "references-wanted", b"")
            with beneath.directory(self._runtime) as fd:
                for pid in pids:
                    self._files.append(beneath.regular(fd, f"references-{pid}"))
            self.read()
        except FileNotFoundError:
            self.close()
            raise ProcessLookupError(f"worker {pids}") from None
        except IsADirectoryError:
            self.close()
            raise MeasurementFailure(
                "the application puts a directory where its workers look for what is wanted"
            ) from None
        except BaseException:
            self.close()
            raise
        self.total_ns = 0

    def read(self) -> None:
        """Take what is new."""
        for file in self._files:
            new = os.read(file, MOST_REFERENCE_BYTES)
            if len(new) == MOST_REFERENCE_BYTES:
                raise MeasurementFailure(
                    "something else writes into the file in which a worker notes how fast the machine is"
                )
            for start in range(0, len(new), 8):
                self.last_ns = int.from_bytes(new[start : start + 8], "little")
                self.total_ns += self.last_ns

    def close(self) -> None:
        """No more."""
        with contextlib.suppress(OSError), beneath.directory(self._runtime) as fd:
            os.unlink("references-wanted", dir_fd=fd)
        for file in self._files:
            os.close(file)


def columns(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The same with each name once: thousands of samples go to the control node."""
    return {name: [each[name] for each in samples] for name in (samples[0] if samples else ())}


class SegmentWatch:
    """Watches the threads of some processes while it is entered: how long does one compute without pausing by itself?"""

    def __init__(self, pids: list[int]) -> None:
        """Say whose threads."""
        self.tasks = [f"/proc/{pid}/task/{task}" for pid in pids for task in os.listdir(f"/proc/{pid}/task")]
        self.longest_ns = 0
        self._begun: dict[str, tuple[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        """Begin."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.001):
            for task in self.tasks:
                with contextlib.suppress(OSError, IndexError):
                    self._look(task)

    def _look(self, task: str) -> None:
        used = int(Path(task, "schedstat").read_text().split()[0])
        paused = Path(task, "status").read_text(errors="replace").rpartition("\nvoluntary_ctxt_switches:")[2].split()[0]
        if self._begun.setdefault(task, (paused, used))[0] != paused:
            self._begun[task] = (paused, used)
        self.longest_ns = max(self.longest_ns, used - self._begun[task][1])
