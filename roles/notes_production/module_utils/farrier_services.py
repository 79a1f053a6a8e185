# SPDX-License-Identifier: MIT
"""What the other services of a host take of its CPUs and memory, by their processes. Reads files only."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Iterator, NamedTuple

from .farrier_cgroups import Cgroups, fields, leading_number, memberships, unit_path
from .farrier_host import read
from .farrier_text import plain

LISTED_MB = 8
"""A service is listed by name from this memory on, in steps of as much; smaller ones are in the sum only."""

OLD_ENOUGH_SECONDS = 600
"""CPU use is an average over a process's life; of a younger one it says nothing about tomorrow."""

LISTED_CPUS = 0.1
"""Less CPU than this is noise: neither listed nor taken off."""

OWN_UNITS = ("@a", "@b", "-activate", "-preflight", "-metrics")
"""What follows the application's name in the names of the role's own services."""

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
"""Unit of the CPU times in /proc/<pid>/stat."""


class ServiceProcess(NamedTuple):
    """One process; CPU is an average over its life, `unit` the path of its service or scope, or empty."""

    parent: int
    name: str
    anonymous_kb: int
    shared_kb: int
    cpus: float
    unit: str
    cgroups: dict[str, str]


def processes(root: Path) -> Iterator[tuple[int, ServiceProcess]]:
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
            ServiceProcess(
                parent=int(stat[1]),
                name=status.get("Name", "?"),
                anonymous_kb=leading_number(status["RssAnon"]) or 0,
                shared_kb=leading_number(status.get("RssShmem", "")) or 0,
                cpus=cpu_seconds / alive if alive >= OLD_ENOUGH_SECONDS else 0.0,
                unit=unit_path(cgroups),
                cgroups=cgroups,
            ),
        )


def own_units(application: str | None) -> set[str]:
    """The services that Farrier itself makes; `notes-worker.service` is the operator's, whose memory is taken."""
    if not application:
        return {"nginx.service"}
    names = [application + end for end in OWN_UNITS] + [
        "farrier-measure-" + application + end for end in ("", "-expiry")
    ]
    return {"nginx.service", *(name + ".service" for name in names)}


def belongs_to_us(process: ServiceProcess, application: str | None) -> bool:
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
    services: dict[str, list[ServiceProcess]] = {}
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
        used_kb = None if key in shared_with_us else cgroups.service_memory_kb(members[0].unit, members[0].cgroups)
        if used_kb is None:
            used_kb = sum(each.anonymous_kb for each in members) + max(each.shared_kb for each in members)
        used_cpus = sum(each.cpus for each in members)
        memory_kb += used_kb
        cpus += used_cpus
        listed_mb = round(used_kb / 1024 / LISTED_MB) * LISTED_MB
        if listed_mb or used_cpus >= LISTED_CPUS:
            name = plain(key.rpartition("/")[2])
            rows.append({"name": name, "memory_mb": listed_mb, "cpus": round(used_cpus, 1)})
    rows.sort(key=lambda row: (row["name"], row["memory_mb"], row["cpus"]))
    return {"rows": rows, "memory_mb": -(-memory_kb // 1024), "cpus": cpus}
