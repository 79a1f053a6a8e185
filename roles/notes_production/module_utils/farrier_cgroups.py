# SPDX-License-Identifier: MIT
"""The control groups of a host as a system service is bound by them: CPUs, quotas, memory limits. Reads files only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from .farrier_host import read


class Limit(NamedTuple):
    """The tightest limit found, and the file that sets it."""

    value: float
    source: str


def fields(text: str) -> dict[str, str]:
    """`Key:  value` lines, as in /proc/meminfo and /proc/<pid>/status."""
    parts = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in parts}


def counters(text: str) -> dict[str, int]:
    """`key number` lines, as in memory.stat."""
    return {key: int(number) for key, number in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}


def leading_number(text: str) -> int | None:
    """The whole number that a text starts with."""
    found = re.match(r"\s*(\d+)", text)
    return int(found.group(1)) if found else None


def cpu_list(text: str) -> set[int]:
    """The CPUs of a kernel list such as `0-3,8`."""
    cpus: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


class Cgroups:
    """The cgroup trees as this process sees them, and the chain of groups that limits a system service."""

    def __init__(self, root: Path, application: str | None) -> None:
        """Version 2 is the controller ""; a mount is its root and its place; a later one hides an earlier."""
        self.root = root
        self.mounts: dict[str, tuple[str, Path]] = {}
        kinds = set()
        for line in read(root / "proc/self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            if right.startswith("cgroup"):
                kind, _, options = right.split(" ", 2)
                place = left.split()
                controllers = options.split()[-1].split(",") if kind == "cgroup" else [""]
                self.mounts.update(dict.fromkeys(controllers, (place[3], root / place[4].lstrip("/"))))
                kinds.add(kind)
        names = {"cgroup": "v1", "cgroup2": "v2", "cgroup cgroup2": "hybrid"}
        self.version = names.get(" ".join(sorted(kinds)))
        self.init = memberships(read(root / "proc/1/cgroup"))
        # systemd names the slice of a template's instances after the template, with dashes escaped.
        own = (application or "").replace("-", "\\x2d")
        self.below = ["system.slice", *([f"system.slice/system-{own}.slice"] if application else [])]

    def directory(self, controller: str, path: str) -> Path | None:
        """Where a group of this controller is; the mount itself when the path is out of our sight."""
        if controller not in self.mounts:
            return None
        mount_root, place = self.mounts[controller]
        if mount_root != "/" and (path + "/").startswith(mount_root + "/"):
            path = path[len(mount_root) :]
        elif mount_root != "/" or ".." in path.split("/"):
            path = ""
        return place / path.strip("/")

    def chain(self, controller: str) -> list[Path]:
        """Every group from the top of the visible tree down to the one that system services live in."""
        key = controller if controller in self.init else ""
        path = self.init.get(key, "/")
        services = self.directory(key, path[: -len("/init.scope")] if path.endswith("/init.scope") else path)
        if services is None:
            return []
        top = self.mounts[key][1]
        above = [group for group in reversed(services.parents) if group == top or top in group.parents]
        return [*above, services, *(services / name for name in self.below)]

    def shown(self, path: Path) -> str:
        """A path as the host knows it."""
        return "/" + str(path.relative_to(self.root))

    def cpus(self) -> set[int]:
        """The CPUs that PID 1, whose affinity services inherit, and the cpuset groups allow."""
        allowed = cpu_list(fields(read(self.root / "proc/1/status")).get("Cpus_allowed_list", ""))
        if not allowed and hasattr(os, "sched_getaffinity"):
            allowed = os.sched_getaffinity(0)
        for group in self.chain("cpuset"):
            names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
            text = next(filter(None, (read(group / name).strip() for name in names)), "")
            allowed = allowed & cpu_list(text) or allowed
        return allowed

    def quota(self) -> Limit | None:
        """The tightest CPU quota, in CPUs."""
        found = []
        for group in self.chain("cpu"):
            quota, _, period = read(group / "cpu.max").partition(" ")
            name = "cpu.max" if quota else "cpu.cfs_quota_us"
            if not quota:
                quota, period = read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us")
            if leading_number(quota) and leading_number(period):
                found.append(Limit(int(quota) / int(period), self.shown(group / name)))
        return min(found, default=None)

    def memory_limit(self) -> tuple[Limit | None, float]:
        """The tightest memory limit, and what is in use below it but page cache that can go; in bytes."""
        found: list[tuple[Limit, Path]] = []
        for group in self.chain("memory"):
            numbers = {
                name: leading_number(read(group / name))
                for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
            }
            # Version 1 tells here of limits above a container, too, in groups that are out of sight.
            numbers["memory.stat"] = counters(read(group / "memory.stat")).get("hierarchical_memory_limit")
            for name, number in numbers.items():
                if number is not None:
                    found.append((Limit(number, self.shown(group / name)), group))
        if not found:
            return None, 0
        limit, group = min(found, key=lambda entry: entry[0].value)
        stat = counters(read(group / "memory.stat"))
        used = read(group / "memory.current") or read(group / "memory.usage_in_bytes")
        cache = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        return limit, max(0, (leading_number(used) or 0) - cache)

    def service_memory_kb(self, unit: str, groups: dict[str, str]) -> int | None:
        """What the kernel counted for the service of a process in these groups; None when it does not count it by itself."""
        controller = "memory" if "memory" in groups else ""
        path = groups.get(controller, "")
        group = self.directory(controller, unit)
        if not unit or group is None or not (path + "/").startswith(unit + "/"):
            return None
        stat = counters(read(group / "memory.stat"))
        if "total_rss" in stat:
            return (stat["total_rss"] + stat.get("total_shmem", 0)) // 1024
        return (stat["anon"] + stat.get("shmem", 0)) // 1024 if "anon" in stat else None


def memberships(text: str) -> dict[str, str]:
    """Controller -> path from a /proc/<pid>/cgroup; the key of version 2 is empty."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def unit_path(cgroups: dict[str, str]) -> str:
    """The path of the innermost service or scope; empty when systemd did not start the process."""
    for path in (cgroups.get("", ""), cgroups.get("name=systemd", "")):
        parts = path.split("/")
        for end in range(len(parts), 0, -1):
            if parts[end - 1].endswith((".service", ".scope")):
                return "/".join(parts[:end])
    return ""
