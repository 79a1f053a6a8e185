"""Whether a host still has what its plan counts with: CPUs, memory, and room on the disk for a release."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.module_utils.farrier_beneath import Refused, names, read_json, size_mb

FEWEST_CPUS = 0.5
"""With a smaller share of the CPUs that were planned, requests pile up faster than the queue budget allows."""
LARGER = 1.1
"""From here on it is worth to be sized again."""
LEAST_MB = 50
"""Whatever releases took so far; the next one may bring a little more."""
ARCHIVE_COPIES = 2
"""Of the code: the archive that is sent, and what is unpacked from it."""
LEAST_INODES = 20_000
"""A virtual environment of 100 MB has about 10,000 files."""
MOST_ENTRIES = 100_000
"""Entries of a tree that are looked at to measure it."""
NAMED = 3
"""So many of the other services are named."""
MB = 2**20


def told_of_others(others: Any, key: str, unit: str) -> str:
    """The services that take most, in brackets; nothing when none is worth a name."""
    rows = [row for row in others if isinstance(row, dict) and row.get(key)] if isinstance(others, list) else []
    rows.sort(key=lambda row: -row[key])
    named = ", ".join(f"{row.get('name')} {row[key]}{unit}" for row in rows[:NAMED])
    return f" ({named})" if rows else ""


class Room:
    """What the plan counts with, and what the host has."""

    def __init__(self, params: dict[str, Any], facts: dict[str, Any]) -> None:
        """Take both sides."""
        self.host, self.facts = params["host"], facts
        self.accept, self.hint = params["accept_smaller_host"], params["accept_smaller_host_hint"]
        self.cpus, self.memory_mb = params["sized_for_cpus"], params["sized_for_memory_mb"]
        self.slot_mb, self.slots = params["slot_memory_mb"], params["slots"]
        self.same_memory_mb = self.memory_mb * params["same_memory_share"]
        self.again = "Gather its facts and generate the role again"
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        self.check_cpus()
        self.check_memory()
        self.check_larger()

    def smaller(self, what: str, cure: str) -> None:
        """Refuse a host that is smaller than planned, unless it was accepted."""
        if self.accept:
            self.warnings.append(f"{what} Accepted as asked.")
        else:
            self.refusals.append(f"{what} {cure}, or go on all the same: {self.hint}")

    def check_cpus(self) -> None:
        """Fewer CPUs than planned are refused; what others use of them only when it is more than half."""
        found, usable = self.facts["cpus"], self.facts["cpus"].get("usable")
        if usable is None:
            self.refusals.append(f"{self.host} does not say how many CPUs it has: /proc/1/status cannot be read.")
            return
        bound = found.get("quota") or found.get("affinity") or usable
        rows = told_of_others(self.facts.get("others"), "cpus", "")
        taken = f"other services take {found.get('used_by_others')}{rows}"
        said = f"{self.host} was sized for {self.cpus:g} CPUs and now has {usable:g} to use ({taken})."
        if bound < self.cpus - 0.01 or usable < self.cpus * FEWEST_CPUS:
            self.smaller(said, self.again)
        elif usable < self.cpus - 0.01:
            self.warnings.append(f"{said} It will carry less than was predicted.")

    def check_memory(self) -> None:
        """A host that has shrunk is refused, and one whose other services leave no room for the slots."""
        found, usable = self.facts["memory_mb"], self.facts["memory_mb"].get("usable")
        if usable is None:
            self.refusals.append(f"{self.host} does not say how much memory it has: /proc/meminfo cannot be read.")
            return
        bound = found.get("limit") or found.get("total") or usable
        rows = told_of_others(self.facts.get("others"), "memory_mb", " MB")
        taken = f"of {bound} MB other services take {found.get('used_by_others')} MB{rows}"
        said = f"{self.host} was sized for {self.memory_mb} MB and now has {usable} MB to use ({taken})."
        need = self.slot_mb * self.slots
        if need > usable:
            several = f"{self.slots} slots of {self.slot_mb} MB, as side by side in a deploy, need"
            slots = "a slot needs" if self.slots == 1 else several
            self.smaller(f"{said} But {slots} {need} MB.", f"Free some, or: {self.again[0].lower()}{self.again[1:]}")
        elif bound < self.same_memory_mb:
            self.smaller(said, self.again)
        elif usable < self.same_memory_mb:
            self.warnings.append(f"{said} The {need} MB that its slots should need still fit.")

    def check_larger(self) -> None:
        """Tell that a host could do more."""
        cpus, memory = self.facts["cpus"].get("usable") or 0, self.facts["memory_mb"].get("usable") or 0
        if cpus > self.cpus * LARGER or memory > self.memory_mb * LARGER:
            self.warnings.append(
                f"{self.host} has {cpus:g} CPUs and {memory} MB and was sized for {self.cpus:g} and {self.memory_mb} MB: "
                "it can be sized again."
            )


def number(value: Any) -> float | None:
    """A size that a document gives; None when it gives none that can be one."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e7
    return float(value) if good else None


def largest(home: str) -> tuple[float, float] | None:
    """MB of code and of virtual environment of the largest release that is there; None where there is none."""
    found: list[tuple[float, float]] = []
    try:
        releases = [name for name in names(home, "releases") if not name.startswith(".")]
    except Refused:
        return None
    for name in releases:
        note = read_json(home, f"releases/{name}/RELEASE.json")
        code, venv = number(note.get("size_mb")), number(note.get("venv_mb"))
        with contextlib.suppress(OSError):
            if note and code is None:
                code = size_mb(home, f"releases/{name}", MOST_ENTRIES)
            if note and venv is None and isinstance(note.get("venv"), str) and "/" not in note["venv"]:
                venv = size_mb(home, f"venvs/{note['venv']}", MOST_ENTRIES)
        if code is not None and venv is not None:
            found.append((code, venv))
    return max(found, key=sum) if found else None


def check_disk(host: str, home: str, assumed_mb: int) -> list[str]:
    """Whether a release like those before fits, or one of the assumed size where there is none."""
    place = home
    while not os.path.exists(place):
        place = os.path.dirname(place)
    space = os.statvfs(place)
    free_mb = space.f_bavail * space.f_frsize // MB
    before = largest(home)
    if before:
        code, venv = before
        need = max(LEAST_MB, round(code * ARCHIVE_COPIES + venv))
        why = (
            f"{need} MB: the largest so far took {code:.0f} MB, as much again while its archive is there, and {venv:.0f} MB "
            "for its virtual environment"
        )
    else:
        need, why = assumed_mb, f"{assumed_mb} MB, as is assumed while none is there"
    if free_mb < need:
        return [f"{host} has {free_mb} MB free below /srv; a release with its virtual environment wants {why}."]
    if space.f_files and space.f_favail < LEAST_INODES:
        return [
            f"{host} has {space.f_favail} inodes free below /srv; a release with its virtual environment may want {LEAST_INODES}."
        ]
    return []
