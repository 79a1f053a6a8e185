"""Host facts, checked here whether a module or a person wrote them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any, NamedTuple

from farrier.ansible.module_utils.farrier_systems import SUPPORTED, is_supported
from farrier.errors import InputError
from farrier.wording import quoted, shown

SCHEMA = 1
"""Version of the fact document that this Farrier writes and reads."""

OLDEST_SYSTEMD = 247
"""The oldest systemd that supports all directives of the units (`ProcSubset=` came with 247)."""

OLDEST_PYTHON = (3, 9)
"""The oldest Python on a host that runs the role's own modules."""


class Number(NamedTuple):
    """What a number may be; `above` excludes its own value."""

    most: int
    least: int = 0
    above: int | None = None
    whole: bool = True

    def __str__(self) -> str:
        """What is expected, for a message."""
        kind = "a whole number" if self.whole else "a number"
        least = f"from {self.least}" if self.above is None else f"above {self.above}"
        return f"{kind} {least} to {self.most}"

    def fits(self, value: int | float) -> bool:
        """Whether a finite number is within the bounds."""
        low = value > self.above if self.above is not None else value >= self.least
        return low and value <= self.most and (not self.whole or value == int(value))


class Text(NamedTuple):
    """What a text may be: printable, and at most this long."""

    longest: int = 256

    def __str__(self) -> str:
        """What is expected, for a message."""
        return f"text of at most {self.longest} printable characters"


CPUS = 4096
"""More CPUs than one Linux machine has today."""
MEMORY_MB = 64 * 1024 * 1024
"""64 TB: more than one machine has today."""
DISK_MB = 1024 * MEMORY_MB
FILES = 2**31
"""The kernel's own ceilings of open files and of queue lengths."""


class Fact(NamedTuple):
    """One fact: where the fact document keeps it, what it may be, what it means, and what follows if it is unknown."""

    place: str
    kind: Number | Text
    meaning: str
    unknown: str = ""


_PREFLIGHT = "is only checked by the role's preflight"
_CPUS, _MEMORY, _DISK = Number(CPUS, above=0, whole=False), Number(MEMORY_MB, 1), Number(DISK_MB)
FACTS = {
    "cpus": Fact("cpus.usable", _CPUS, "CPUs that the application may use, less what other services take"),
    "cpus_online": Fact("cpus.online", Number(CPUS, 1), "CPUs of the machine"),
    "cpus_affinity": Fact("cpus.affinity", Number(CPUS, 1), "CPUs that a process may run on"),
    "cpu_quota": Fact("cpus.quota", _CPUS, "CPUs that the tightest cgroup quota allows; null for no quota"),
    "cpu_quota_source": Fact("cpus.quota_source", Text(), "the file that holds this quota"),
    "cpus_used_by_others": Fact(
        "cpus.used_by_others",
        Number(CPUS, whole=False),
        "CPUs that other services used while the facts were gathered",
        "the CPU use of other services is not subtracted",
    ),
    "memory_mb": Fact(
        "memory_mb.usable", _MEMORY, "memory that the application may use, less what other services take"
    ),
    "memory_total_mb": Fact("memory_mb.total", _MEMORY, "memory of the machine"),
    "memory_limit_mb": Fact("memory_mb.limit", _MEMORY, "the tightest cgroup limit on memory; null for no limit"),
    "memory_limit_source": Fact("memory_mb.limit_source", Text(), "the file that holds this limit"),
    "memory_used_by_others_mb": Fact(
        "memory_mb.used_by_others",
        Number(MEMORY_MB),
        "memory that other services take",
        "the memory of other services is not subtracted",
    ),
    "memory_available_mb": Fact(
        "memory_mb.available",
        Number(MEMORY_MB),
        "memory that was free when the facts were gathered",
        f"whether that much memory is free {_PREFLIGHT}",
    ),
    "kernel_release": Fact("kernel.release", Text(), "release of the kernel"),
    "somaxconn": Fact(
        "kernel.somaxconn",
        Number(FILES),
        "net.core.somaxconn, the longest accept queue that the kernel allows",
        "the role sets what the plan needs, whatever the host has now",
    ),
    "nofile_hard": Fact(
        "kernel.nofile_hard",
        Number(FILES, 1),
        "hard limit on the open files of a process",
        "the plan's limits on open files are not compared with the host's",
    ),
    "distribution": Fact(
        "system.distribution", Text(), "distribution", f"whether the system is supported {_PREFLIGHT}"
    ),
    "version": Fact("system.version", Text(), "its version", f"whether the release is supported {_PREFLIGHT}"),
    "codename": Fact("system.codename", Text(), "code name of that version"),
    "systemd": Fact(
        "system.systemd", Number(9999), "version of systemd", f"whether systemd is new enough {_PREFLIGHT}"
    ),
    "init": Fact("system.init", Text(), "the program that runs as process 1"),
    "python": Fact(
        "system.python", Text(), "version of /usr/bin/python3", f"whether Python is new enough {_PREFLIGHT}"
    ),
    "cgroup": Fact("system.cgroup", Text(), "how control groups are mounted: v1, v2 or hybrid"),
    "disk_free_mb": Fact(
        "disk_mb.srv_free", _DISK, "free space for releases (/srv)", f"whether a release fits on the disk {_PREFLIGHT}"
    ),
    "disk_total_mb": Fact("disk_mb.srv_total", _DISK, "size of the file system that holds /srv"),
}
"""Every fact by its name in `HostFacts`, which operators also use to set it."""

INDISPENSABLE = ("cpus", "memory_mb")
"""Without these nothing can be sized."""

Raw = Mapping[str, tuple[str, Any]]
"""Unchecked facts: the name in `HostFacts` -> its source's name for it, and the value."""


class Missing(NamedTuple):
    """An unknown fact and its consequence, phrased to follow `<fact>: `."""

    fact: str
    consequence: str


class Other(NamedTuple):
    """A service beside the application."""

    name: str
    memory_mb: float
    cpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Checked facts of one host; None is unknown. `cpus` and `memory_mb` are what the application may use."""

    host: str
    cpus: float
    memory_mb: int
    cpus_online: int | None = None
    cpus_affinity: int | None = None
    cpu_quota: float | None = None
    cpu_quota_source: str | None = None
    cpus_used_by_others: float | None = None
    memory_total_mb: int | None = None
    memory_limit_mb: int | None = None
    memory_limit_source: str | None = None
    memory_used_by_others_mb: int | None = None
    memory_available_mb: int | None = None
    others: tuple[Other, ...] = ()
    kernel_release: str | None = None
    somaxconn: int | None = None
    nofile_hard: int | None = None
    distribution: str | None = None
    version: str | None = None
    codename: str | None = None
    systemd: int | None = None
    init: str | None = None
    python: str | None = None
    cgroup: str | None = None
    disk_free_mb: int | None = None
    disk_total_mb: int | None = None
    origin: str = ""
    """Where they came from, for messages: a file, or `this machine`."""
    stated: frozenset[str] = frozenset()
    """The facts set by the operator."""
    missing: tuple[Missing, ...] = ()

    @property
    def size(self) -> tuple[object, ...]:
        """Everything a plan depends on: hosts of the same size get the same plan."""
        return self.cpus, self.memory_mb, self.somaxconn, self.nofile_hard, self.visible_cpus, self.stated

    @property
    def visible_cpus(self) -> int:
        """CPUs as counted by a program that ignores quotas: the machine's, and at least the usable ones."""
        return max(self.cpus_online or 0, self.cpus_affinity or 0, ceil(self.cpus))


def check(raw: Raw, where: str) -> tuple[dict[str, Any], list[str]]:
    """The facts with valid values, and a sentence for each invalid one; null is left out."""
    values: dict[str, Any] = {}
    problems = []
    for name, (label, value) in raw.items():
        if name not in FACTS:
            problems.append(f"{where}{shown(label)} is not a fact; known are {', '.join(FACTS)}")
        elif value is not None:
            kind = FACTS[name].kind
            if not is_a(kind, value):
                problems.append(f"{where}{label} is {quoted(value)}; it must be {kind}")
            elif isinstance(kind, Number):
                values[name] = int(value) if kind.whole else float(value)
            else:
                values[name] = value
    return values, problems


def is_a(kind: Number | Text, value: object) -> bool:
    """Whether a value is of this kind; True and NaN are not numbers."""
    if isinstance(kind, Text):
        return isinstance(value, str) and len(value) <= kind.longest and value.isprintable()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (isinstance(value, int) or isfinite(value)) and kind.fits(value)


def still_missing(missing: tuple[Missing, ...], stated: frozenset[str]) -> tuple[Missing, ...]:
    """What remains unknown; setting CPUs or memory also settles what limits and shares them."""
    moot = set(stated)
    if "cpus" in stated:
        moot |= {"cpu_quota", "cpus_used_by_others"}
    if "memory_mb" in stated:
        moot |= {"memory_limit_mb", "memory_used_by_others_mb"}
    return tuple(entry for entry in missing if entry.fact not in moot)


def require_supported(facts: HostFacts) -> None:
    """InputError for a system that the role would refuse; unknowns are left to its preflight."""
    where = f"host {facts.host}{f' ({facts.origin})' if facts.origin else ''}: "
    problems = []
    name, version = facts.distribution, facts.version or ""
    if name is not None and not is_supported(name, version):
        problems.append(
            f"{where}the system is {shown(f'{name} {version}'.strip())}; it must be {', or '.join(SUPPORTED)}"
        )
    if facts.systemd is not None and facts.systemd < OLDEST_SYSTEMD:
        problems.append(f"{where}systemd is {facts.systemd}; it must be {OLDEST_SYSTEMD} or newer")
    python = re.match(r"(\d+)\.(\d+)", facts.python or "")
    if python and (int(python[1]), int(python[2])) < OLDEST_PYTHON:
        problems.append(
            f"{where}Python is {shown(facts.python)}; it must be {'.'.join(map(str, OLDEST_PYTHON))} or newer"
        )
    if problems:
        raise InputError(*problems)
