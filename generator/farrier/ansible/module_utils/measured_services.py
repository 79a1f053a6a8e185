# SPDX-License-Identifier: MIT
"""What the other services of a host compute meanwhile, such as a database; for `application_measurement`."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,200}\.(service|scope)")
"""What systemd keeps processes under; slices only hold such."""

HIERARCHIES = (
    ("/sys/fs/cgroup", "cpu.stat"),
    ("/sys/fs/cgroup/unified", "cpu.stat"),
    ("/sys/fs/cgroup/cpuacct", "cpuacct.usage"),
)
"""Where the kernel accounts CPU time by unit: cgroup v2, v2 beside v1, v1 with CPUAccounting."""

DEEPEST = 8
"""Slices within each other that are looked into."""


def own_units(cgroup: str = "/proc/self/cgroup") -> set[str]:
    """Units that this process runs in: what it computes to ask and to look is no request's."""
    return {part for line in Path(cgroup).read_text(errors="replace").splitlines() for part in line.split("/")}


def units_cpu_us(hierarchies: tuple[tuple[str, str], ...] = HIERARCHIES, proc: str = "/proc") -> dict[str, int]:
    """CPU time of each unit in microseconds since it began; from its processes where the kernel keeps no account."""
    for top, name in hierarchies:
        if found := dict(_accounts(top, name, DEEPEST)):
            return found
    return _of_processes(proc)


def _accounts(directory: str, name: str, depth: int) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                continue
            if UNIT.fullmatch(entry.name):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    yield entry.name, _account(os.path.join(entry.path, name))
            elif entry.name.endswith(".slice") and depth:
                yield from _accounts(entry.path, name, depth - 1)


def _account(path: str) -> int:
    text = Path(path).read_text(encoding="ascii")
    words = text.split()
    return int(words[words.index("usage_usec") + 1]) if "usage_usec" in words else int(words[0]) // 1000


def _of_processes(proc: str) -> dict[str, int]:
    found: dict[str, int] = {}
    tick_us = 1_000_000 // os.sysconf("SC_CLK_TCK")
    for pid in os.listdir(proc):
        if pid.isdigit() and pid.isascii():
            with contextlib.suppress(OSError, ValueError, IndexError):
                groups = re.split(r"[/\n]", Path(proc, pid, "cgroup").read_text(errors="replace"))
                unit = next((part for part in groups if UNIT.fullmatch(part)), None)
                user, system = Path(proc, pid, "stat").read_bytes().rpartition(b")")[2].split()[11:13]
                if unit:
                    found[unit] = found.get(unit, 0) + (int(user) + int(system)) * tick_us
    return found


class Others:
    """CPU time of units other than the measured one and our own, in stretches that are idle and that have requests."""

    def __init__(self, measured: str) -> None:
        """Say whose own time it is not."""
        self._not = own_units() | {f"{measured}.service"}
        self.seconds = {"idle": 0.0, "busy": 0.0}
        self.used: dict[str, dict[str, int]] = {}
        self._at, self._before = time.monotonic(), units_cpu_us()

    def count(self, kind: str | None) -> None:
        """What was used since the last call belongs to that kind of stretch; None: to neither."""
        now, at = units_cpu_us(), time.monotonic()
        if kind:
            self.seconds[kind] += at - self._at
            for unit, used in now.items():
                if unit not in self._not:
                    each = self.used.setdefault(unit, {"idle": 0, "busy": 0})
                    each[kind] += max(0, used - self._before.get(unit, used))
        self._at, self._before = at, now

    def document(self, most: int) -> dict[str, object]:
        """Both, for those units that have used the most while there were requests."""
        first = sorted(self.used.items(), key=lambda item: -item[1]["busy"])[:most]
        return {"seconds": self.seconds, "used_us": dict(first)}
