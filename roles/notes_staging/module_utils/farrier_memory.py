"""Whether a unit's processes were killed because the unit's memory ended, while it starts and after."""

from __future__ import annotations

import os
import re

from ansible.module_utils.farrier_host import logged, read

LINES = 1000
NEAR_SHARE = 0.5
"""The last look at a process that grows may be some time before its end."""
CGROUPS = "/sys/fs/cgroup"


def megabytes(number: int) -> int:
    """Bytes in whole MB, rounded."""
    return round(number / (1 << 20))


class MemoryWatch:
    """What a unit's control group told each time that it was looked at; it is gone when the unit has ended."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.kills = 0
        self.largest = 0
        """Bytes of the largest process."""
        self.peak = 0
        """Bytes of all of them together, at the most."""

    def look(self, group: str, top: str = CGROUPS, proc: str = "/proc") -> None:
        """Look at the control group again, of version 2 or 1."""
        if not group.startswith("/"):
            return
        for place, events in (
            (f"{top}{group}", "memory.events"),
            (f"{top}/memory{group}", "memory.oom_control"),
        ):
            found = re.search(r"(?m)^oom_kill (\d+)$", read(os.path.join(place, events)))
            self.kills = max(self.kills, int(found.group(1)) if found else 0)
            for usage in ("memory.peak", "memory.current", "memory.max_usage_in_bytes"):
                number = read(os.path.join(place, usage)).strip()
                self.peak = max(self.peak, int(number) if number.isdecimal() else 0)
            for pid in read(os.path.join(place, "cgroup.procs")).split()[:1000]:
                resident = re.search(r"(?m)^VmHWM:\s+(\d+) kB$", read(f"{proc}/{pid}/status"))
                self.largest = max(self.largest, int(resident.group(1)) << 10 if resident else 0)

    def killed(self, unit: str, since: int, limit: str) -> bool:
        """Whether the kernel has killed one of its processes for memory since a time; also when the group is gone.

        systemd tells of it in so many words with control groups of version 2 only. Where a main process was killed that had
        come near the limit, nobody else can have done it: what systemd kills itself ends otherwise.
        """
        if self.kills:
            return True
        said = logged(since, LINES, f"--unit={unit}", "_PID=1")
        near = limit.isdecimal() and self.peak > NEAR_SHARE * int(limit)
        words = r"killed by the OOM killer" + (r"|code=killed, status=9/KILL" if near else "")
        return any(re.search(words, line) for line in said)


def told(unit: str, limit: str, largest: int, assumed: bool, measure: str) -> str:
    """What an OOM kill is, with its figures and what can be done; `limit` is systemd's MemoryMax."""
    bound = f"its limit of {megabytes(int(limit))} MB (MemoryMax)" if limit.isdigit() else "the host's memory"
    took = f" One of its processes alone had taken {megabytes(largest)} MB." if largest else ""
    guess = " What a worker takes was assumed for the plan, not measured." if assumed else ""
    cure = f"Measure it with `{measure}`, or " if measure else ""
    state = "state" if cure else "State"
    return (
        f"{unit} ran out of memory: the kernel killed a process of it at {bound}.{took}{guess} {cure}{state} "
        "workload.memory_private_mb in farrier.yml, generate the role again and deploy."
    )
