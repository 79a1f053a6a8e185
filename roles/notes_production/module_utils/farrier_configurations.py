"""The configurations of an application on its host: what it is started with besides a release.

Each is a directory C(configurations/<id>) below the application's home, root's alone: C(environment), C(gunicorn.conf.py),
and C(configuration.json), which says which releases have served with it. A slot holds copies, so that it restarts as it
was whatever is laid out later, and names its configuration in C(slot.json). An id is random: a hash would tell of secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from typing import Any

from ansible.module_utils import farrier_beneath as beneath

MODES = {"environment": 0o600, "gunicorn.conf.py": 0o644}
"""The files of a configuration and who may read a slot's copy: systemd reads the environment, the application the other."""

SLOTS = ("a", "b")
LARGEST_FILE = 4 << 20
ID = re.compile("[0-9a-f]{12}")
"""How releases, virtual environments and configurations are named."""


def is_id(name: Any) -> bool:
    """Whether this can name a release, a virtual environment or a configuration."""
    return isinstance(name, str) and bool(ID.fullmatch(name))


def content(home: str, directory: str) -> dict[str, bytes]:
    """The files of a configuration or of a slot; what is missing is left out."""
    found = {}
    for name in MODES:
        with contextlib.suppress(OSError):
            found[name] = beneath.read(home, f"{directory}/{name}", LARGEST_FILE)
    return found


def differing(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """The files in which two differ, in order."""
    return [name for name in MODES if found.get(name) != wanted.get(name)]


def lay_out(home: str, wanted: dict[str, bytes]) -> str:
    """Make a configuration of these files; it serves nobody yet."""
    name = secrets.token_hex(6)
    os.makedirs(home, 0o755, exist_ok=True)
    beneath.make_directory(home, "releases")  # where a play puts a release's archive next
    beneath.make_directory(home, "configurations", 0o700)
    beneath.make_directory(home, f"configurations/{name}", 0o700)
    for file, text in wanted.items():
        beneath.write(home, f"configurations/{name}/{file}", text, MODES[file])
    return name


def planned(found: dict[str, bytes]) -> dict[str, int]:
    """How many workers and how long a queue a configuration asks for: Gunicorn itself reads them there."""
    text = found.get("gunicorn.conf.py", b"").decode("utf-8", "replace")
    return {name: int(number) for name, number in re.findall(r"(?m)^(workers|backlog) = (\d{1,9})$", text)}


def values(environment: bytes, names: list[str]) -> list[str]:
    """The values of some variables out of a systemd environment file as this role writes it."""
    found = re.findall(r'(?ms)^(\w+)="((?:[^"\\]|\\.)*)"$', environment.decode("utf-8", "replace"))
    return [re.sub(r"(?s)\\(.)", r"\1", value) for name, value in found if name in names]


def slot_facts(home: str, slot: str) -> dict[str, Any]:
    """What a slot was filled with; empty when it never was."""
    facts: dict[str, Any] = beneath.read_json(home, f"slots/{slot}/slot.json")
    return facts


def active_slot(home: str) -> str:
    """The slot that counts; empty before the first release."""
    with contextlib.suppress(OSError):
        name = os.path.basename(os.readlink(os.path.join(home, "active")))
        return name if name in SLOTS else ""
    return ""


def write_json(home: str, path: str, facts: dict[str, Any]) -> None:
    """Write facts for the next play, and for people."""
    beneath.write(home, path, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())


def served(home: str) -> dict[str, dict[str, int]]:
    """Of each configuration the releases that served with it, each with the number of the last switch to it."""
    found = {}
    for name in filter(is_id, beneath.names(home, "configurations")):
        numbers = beneath.read_json(home, f"configurations/{name}/configuration.json").get("served")
        known = numbers.items() if isinstance(numbers, dict) else ()
        found[name] = {release: number for release, number in known if isinstance(number, int)}
    return found


def last_of(release: str, known: dict[str, dict[str, int]]) -> str | None:
    """The configuration with which a release served last."""
    numbers = {name: releases[release] for name, releases in known.items() if release in releases}
    return max(numbers, key=lambda name: numbers[name], default=None)


def note_served(home: str, name: str | None, release: str) -> None:
    """Note that a release serves with a configuration; a number, because clocks go back."""
    known = served(home)
    if name in known:
        number = max((each for releases in known.values() for each in releases.values()), default=0) + 1
        write_json(home, f"configurations/{name}/configuration.json", {"served": {**known[name], release: number}})


def used(home: str) -> set[Any]:
    """The configurations that a slot was filled with, and the one that the slot that counts goes back to."""
    active = slot_facts(home, active_slot(home) or "a")
    return {slot_facts(home, slot).get("configuration") for slot in SLOTS} | {active.get("previous_configuration")}


def prune(home: str, keep: str | None = None) -> None:
    """Remove what no slot names and no release on this host served with last, as that of a play that was killed."""
    known = served(home)
    releases = [name for name in beneath.names(home, "releases") if is_id(name)]
    kept = used(home) | {keep} | {last_of(release, known) for release in releases}
    for name in beneath.names(home, "configurations"):
        if name not in kept:
            remove(home, name)


def remove(home: str, name: str) -> None:
    """Remove a configuration."""
    shutil.rmtree(os.path.join(home, "configurations", name))


def take_over(home: str) -> bool:
    """Give slots that were filled before there were configurations one of their own, as they run; none is restarted."""
    filled = {slot: slot_facts(home, slot) for slot in SLOTS}
    new = [slot for slot, facts in filled.items() if is_id(facts.get("release")) and "configuration" not in facts]
    new = [slot for slot in new if len(content(home, f"slots/{slot}")) == len(MODES)]
    active = active_slot(home)
    for slot in sorted(new, key=lambda slot: slot == active):  # the active one last, because it names the other's
        facts, other = filled[slot], filled["b" if slot == "a" else "a"]
        facts["configuration"] = lay_out(home, content(home, f"slots/{slot}"))
        same = bool(other) and other.get("release") == facts.get("previous")
        facts["previous_configuration"] = other.get("configuration") if same else None
        write_json(home, f"slots/{slot}/slot.json", {**planned(content(home, f"slots/{slot}")), **facts})
        note_served(home, facts["configuration"], facts["release"])
    return bool(new)
