#!/usr/bin/python
# SPDX-License-Identifier: MIT
"""Ansible module and plain library: what a host can really give to an application.

`/proc/cpuinfo` and MemTotal describe the machine. A service may use less: by CPU affinity, by a cgroup limit
anywhere above it, and because other services are already there. `probe` reads files and needs no privileges.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

DOCUMENTATION = r"""
---
module: farrier_facts
short_description: Finds the CPUs, memory and kernel limits that a service on this host may really use
description:
  - Reads CPU affinity, cgroup limits, what other services use, kernel limits and the versions of the system.
  - Changes nothing and needs no privileges.
options:
  application:
    description: Name of the application. Its own units do not count as other services.
    type: str
  disk_path:
    description: The space of the file system that holds this path is reported.
    type: str
    default: /srv
  packages:
    description: Debian packages to look for. Those that are not installed are returned.
    type: list
    elements: str
author: Farrier contributors
"""

EXAMPLES = r"""
- name: Learn what this host can give
  farrier_facts:
    application: notes
    packages: [nginx, python3-venv]
  register: host
"""

RETURN = r"""
facts:
  description: The fact document of this host, without its name.
  returned: always
  type: dict
packages_missing:
  description: Those of the requested packages that are not installed.
  returned: when packages were asked for
  type: list
  elements: str
"""

MEMORY_STEP_MB = 16
"""Memory used by others is rounded up to this, so that an idle host gives the same answer twice."""
AVAILABLE_STEP_MB = 64
"""MemAvailable moves more than anything else; it is rounded down to this."""
DISK_STEP_MB = 1024
"""Free disk space is rounded down to this while there is at least ten times as much."""
LISTED_MB = 8
"""A service is listed by name from this memory on, in steps of as much; smaller ones are in the sum only."""
OLD_ENOUGH_SECONDS = 600
"""CPU use is an average over a process's life; of a younger one it says nothing about tomorrow."""
LISTED_CPUS = 0.1
"""Less CPU than this is noise: neither listed nor taken off."""
LEAST_CPUS = 0.1
"""What is reported as usable when others use everything; the plan will say that nothing fits."""
OWN_UNITS = ("@a", "@b", "-activate", "-preflight", "-metrics")
"""What follows the application's name in the names of the role's own services."""
HIDDEN = (
    "/proc hides the processes of other users here (hidepid, or a unit's ProtectProc): what others use and what limits a "
    "service cannot be seen; gather as root (farrier facts ENVIRONMENT -- --become), or as a user of the group that /proc is "
    "mounted with (gid=)"
)
"""Why facts would be other figures, and the cure."""
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
"""Unit of the CPU times in /proc/<pid>/stat."""


class Limit(NamedTuple):
    """The tightest limit found, and the file that sets it."""

    value: float
    source: str


class Process(NamedTuple):
    """One process; CPU is an average over its life, `unit` the path of its service or scope, or empty."""

    parent: int
    name: str
    anonymous_kb: int
    shared_kb: int
    cpus: float
    unit: str
    cgroups: dict[str, str]


def read(path: Path) -> str:
    """The text of a file; empty when it is missing or not ours to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


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

    def service_memory_kb(self, process: Process) -> int | None:
        """What the kernel counted for this process's service; None when it does not count it by itself."""
        controller = "memory" if "memory" in process.cgroups else ""
        path = process.cgroups.get(controller, "")
        group = self.directory(controller, process.unit)
        if not process.unit or group is None or not (path + "/").startswith(process.unit + "/"):
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


def processes(root: Path) -> Iterator[tuple[int, Process]]:
    """All processes by number, but kernel threads and dead ones, which have no memory of their own."""
    uptime = float((read(root / "proc/uptime").split() or ["0"])[0])
    for directory in (root / "proc").glob("[0-9]*"):
        status = fields(read(directory / "status"))
        # After the name: state, parent, ... user time (11), system time (12), ... start time (19).
        stat = read(directory / "stat").rpartition(")")[2].split()
        if "RssAnon" not in status or not stat:
            continue
        alive = uptime - int(stat[19]) / CLOCK_TICKS
        cpu_seconds = (int(stat[11]) + int(stat[12])) / CLOCK_TICKS
        cgroups = memberships(read(directory / "cgroup"))
        yield (
            int(directory.name),
            Process(
                parent=int(stat[1]),
                name=status.get("Name", "?"),
                anonymous_kb=leading_number(status["RssAnon"]) or 0,
                shared_kb=leading_number(status.get("RssShmem", "")) or 0,
                cpus=cpu_seconds / alive if alive >= OLD_ENOUGH_SECONDS else 0.0,
                unit=unit_path(cgroups),
                cgroups=cgroups,
            ),
        )


def printable(text: str) -> str:
    """A name that somebody else chose, safe to show."""
    return re.sub(r"[^\x21-\x7e]", "?", text)[:80]


def own_units(application: str | None) -> set[str]:
    """The services that Farrier itself makes; `notes-worker.service` is the operator's, whose memory is taken."""
    if not application:
        return {"nginx.service"}
    names = [application + end for end in OWN_UNITS] + [
        "farrier-measure-" + application + end for end in ("", "-expiry")
    ]
    return {"nginx.service", *(name + ".service" for name in names)}


def belongs_to_us(process: Process, application: str | None) -> bool:
    """Whether a process is the application's, NGINX's (the plan counts it by itself) or a login's."""
    unit = process.unit.rpartition("/")[2]
    if unit in own_units(application) or re.fullmatch(r"session-.*\.scope", unit):
        return True
    # Without pam_systemd a login stays below the SSH daemon; a user's manager lives as long as the login.
    login = unit.startswith("ssh@") or (unit in ("ssh.service", "sshd.service") and process.parent != 1)
    return login or bool(re.search(r"/user@\d+\.service/init\.scope$", process.unit))


def others(base: Path, cgroups: Cgroups, application: str | None, own_pid: int) -> dict[str, Any]:
    """The services beside the application: `rows` worth a name; `memory_mb` and `cpus` of all of them."""
    everyone = dict(processes(base))
    ours: set[int] = set()
    while own_pid > 1 and own_pid in everyone:
        ours.add(own_pid)
        own_pid = everyone[own_pid].parent
    services: dict[str, list[Process]] = {}
    shared_with_us = set()
    for pid, process in everyone.items():
        key = process.unit or process.name
        if pid in ours or belongs_to_us(process, application):
            shared_with_us.add(key)
        else:
            services.setdefault(key, []).append(process)
    rows, memory_kb, cpus = [], 0, 0.0
    for key, members in services.items():
        # Where the kernel counts for a service, it counts a page once that several of its processes share.
        used_kb = None if key in shared_with_us else cgroups.service_memory_kb(members[0])
        if used_kb is None:
            used_kb = sum(each.anonymous_kb for each in members) + max(each.shared_kb for each in members)
        used_cpus = sum(each.cpus for each in members)
        memory_kb += used_kb
        cpus += used_cpus
        listed_mb = round(used_kb / 1024 / LISTED_MB) * LISTED_MB
        if listed_mb or used_cpus >= LISTED_CPUS:
            name = printable(key.rpartition("/")[2])
            rows.append({"name": name, "memory_mb": listed_mb, "cpus": round(used_cpus, 1)})
    rows.sort(key=lambda row: (row["name"], row["memory_mb"], row["cpus"]))
    return {"rows": rows, "memory_mb": -(-memory_kb // 1024), "cpus": cpus}


def installed_packages(root: Path) -> dict[str, str]:
    """Installed Debian packages with their versions."""
    found = {}
    for stanza in read(root / "var/lib/dpkg/status").split("\n\n"):
        if "\nStatus: install ok installed" in stanza or "\nStatus: hold ok installed" in stanza:
            name = re.search(r"^Package: (\S+)", stanza, re.MULTILINE)
            version = re.search(r"^Version: (\S+)", stanza, re.MULTILINE)
            if name:
                found[name.group(1)] = version.group(1) if version else ""
    return found


def python_version(root: Path, packages: dict[str, str]) -> str | None:
    """The version of /usr/bin/python3, which the application will run on, whatever runs this."""
    link = root / "usr/bin/python3"
    if root == Path("/") and link.exists() and link.samefile(sys.executable):
        return platform.python_version()
    try:
        name = Path(os.readlink(str(link))).name
    except OSError:
        return None
    found = re.match(r"(?:\d+:)?(3\.\d+\.\d+)", packages.get(name + "-minimal", packages.get(name, "")))
    return found.group(1) if found else name[len("python") :] or None


def systemd_version(root: Path, packages: dict[str, str]) -> int | None:
    """Version of systemd as packaged, or as it says itself."""
    number = leading_number(packages.get("systemd", ""))
    if number is None and root == Path("/"):
        try:
            # Its place differs between distributions, so it is looked up.
            command = ["systemctl", "--version"]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            number = leading_number(said.stdout.partition(" ")[2])
        except OSError:
            pass
    return number


def system(root: Path, packages: dict[str, str], cgroup: str | None) -> dict[str, Any]:
    """Distribution, init, Python: what decides whether a role runs there."""
    release = dict(re.findall(r"^([A-Z_]+)=[\"']?(.*?)[\"']?$", read(root / "etc/os-release"), re.MULTILINE))
    names = {"debian": "Debian", "ubuntu": "Ubuntu"}
    return {
        "distribution": names.get(release.get("ID", ""), release.get("NAME")),
        "version": release.get("VERSION_ID") or read(root / "etc/debian_version").strip() or None,
        "codename": release.get("VERSION_CODENAME") or None,
        "systemd": systemd_version(root, packages),
        "init": printable(read(root / "proc/1/comm").strip()) or None,
        "python": python_version(root, packages),
        "cgroup": cgroup,
    }


def disk(root: Path, disk_path: str) -> dict[str, Any]:
    """Space on the file system that holds the path, or will."""
    place = root / disk_path.lstrip("/")
    while not place.exists():
        place = place.parent
    space = os.statvfs(str(place))
    free = space.f_bavail * space.f_frsize // 2**20
    step = DISK_STEP_MB if free >= 10 * DISK_STEP_MB else AVAILABLE_STEP_MB
    return {"srv_free": free - free % step, "srv_total": space.f_blocks * space.f_frsize // 2**20}


def nofile_hard(root: Path) -> int | None:
    """The hard limit on open files that services inherit from PID 1."""
    found = re.search(r"^Max open files\s+\S+\s+(\S+)", read(root / "proc/1/limits"), re.MULTILINE)
    if found and found.group(1) == "unlimited":
        return leading_number(read(root / "proc/sys/fs/nr_open"))
    return leading_number(found.group(1)) if found else None


def cpus(cgroups: Cgroups, taken: float) -> dict[str, Any]:
    """The CPUs that services may use, and why not more."""
    affinity, quota = len(cgroups.cpus()), cgroups.quota()
    if quota and quota.value >= affinity:
        quota = None  # It does not bind.
    taken = round(taken, 1) if taken >= LISTED_CPUS else 0.0
    bound = quota.value if quota else affinity
    return {
        "usable": max(LEAST_CPUS, round(bound - taken, 2)) if affinity else None,
        "online": len(cpu_list(read(cgroups.root / "sys/devices/system/cpu/online"))) or None,
        "affinity": affinity or None,
        "quota": round(quota.value, 2) if quota else None,
        "quota_source": quota.source if quota else None,
        "used_by_others": taken,
    }


def memory(cgroups: Cgroups, taken_mb: int) -> dict[str, Any]:
    """The memory that services may use, and why not more."""
    meminfo = fields(read(cgroups.root / "proc/meminfo"))
    total = (leading_number(meminfo.get("MemTotal", "")) or 0) * 1024
    available = (leading_number(meminfo.get("MemAvailable", "")) or 0) * 1024
    limit, in_use = cgroups.memory_limit()
    if limit and limit.value < total:
        bound = int(limit.value)
        available = min(available, max(0, int(limit.value - in_use)))
    else:
        limit, bound = None, total  # What "no limit" looks like is a very large number.
    taken_mb = -(-taken_mb // MEMORY_STEP_MB) * MEMORY_STEP_MB
    available_mb = available // 2**20
    return {
        "usable": max(1, bound // 2**20 - taken_mb) if total else None,
        "total": total // 2**20 or None,
        "limit": bound // 2**20 if limit else None,
        "limit_source": limit.source if limit else None,
        "used_by_others": taken_mb,
        "available": available_mb - available_mb % AVAILABLE_STEP_MB if "MemAvailable" in meminfo else None,
    }


def hides(root: str = "/") -> bool:
    """Whether this process may not look at others: even PID 1, which everybody may otherwise read, cannot be seen."""
    return not read(Path(root, "proc/1/status"))


def probe(
    root: str = "/", application: str | None = None, disk_path: str = "/srv", own_pid: int | None = None
) -> dict[str, Any]:
    """The facts of this host as a document; null is not known. `root` and `own_pid` are for tests."""
    base = Path(root)
    cgroups = Cgroups(base, application)
    other = others(base, cgroups, application, os.getpid() if own_pid is None else own_pid)
    packages = installed_packages(base)
    return {
        "schema": 1,
        "cpus": cpus(cgroups, other["cpus"]),
        "memory_mb": memory(cgroups, other["memory_mb"]),
        "others": other["rows"],
        "kernel": {
            "release": read(base / "proc/sys/kernel/osrelease").strip() or None,
            "somaxconn": leading_number(read(base / "proc/sys/net/core/somaxconn")),
            "nofile_hard": nofile_hard(base),
        },
        "system": system(base, packages, cgroups.version),
        "disk_mb": disk(base, disk_path),
    }


def main() -> None:
    """The Ansible module."""
    # Only here: `farrier plan --local` uses the probe without Ansible.
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str"},
            "disk_path": {"type": "str", "default": "/srv"},
            "packages": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    if hides():
        module.fail_json(msg=HIDDEN)
    result: dict[str, Any] = {"facts": probe("/", module.params["application"], module.params["disk_path"])}
    if module.params["packages"] is not None:
        installed = installed_packages(Path("/"))
        result["packages_missing"] = [name for name in module.params["packages"] if name not in installed]
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
