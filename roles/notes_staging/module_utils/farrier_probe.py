# SPDX-License-Identifier: MIT
"""What a host can really give to an application.

`/proc/cpuinfo` and MemTotal describe the machine. A service may use less: by CPU affinity, by a cgroup limit
anywhere above it, and because other services are already there. `probe` reads files and needs no privileges.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from .farrier_cgroups import Cgroups, cpu_list, fields, leading_number
from .farrier_host import output, read
from .farrier_services import LISTED_CPUS, others
from .farrier_text import plain

MEMORY_STEP_MB = 16
"""Memory used by others is rounded up to this, so that an idle host gives the same answer twice."""

AVAILABLE_STEP_MB = 64
"""MemAvailable moves more than anything else; it is rounded down to this."""

DISK_STEP_MB = 1024
"""Free disk space is rounded down to this while there is at least ten times as much."""

LEAST_CPUS = 0.1
"""What is reported as usable when others use everything; the plan will say that nothing fits."""

HIDDEN = (
    "/proc hides the processes of other users here (hidepid, or a unit's ProtectProc): what others use and what limits a "
    "service cannot be seen; gather as root (farrier facts ENVIRONMENT -- --become), or as a user of the group that /proc is "
    "mounted with (gid=)"
)
"""Why facts would be other figures, and the cure."""


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
        number = leading_number(output("systemctl", "--version").partition(" ")[2])
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
        "init": plain(read(root / "proc/1/comm").strip()) or None,
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
