"""Who is answering: the release, the slot and the process."""

import os
from pathlib import Path

# Read once, when the worker starts: the directory that it was started in is the release it has loaded.
STARTED_IN = Path.cwd()


def release_name(directory: Path) -> str:
    """The name under `releases/`; elsewhere, as on a development machine, the directory's own."""
    parts = directory.parts
    if "releases" in parts[:-1]:
        return parts[parts.index("releases") + 1]
    return directory.name


def slot_name(runtime_directory: str) -> str | None:
    """`a` from `/run/notes-a`, the directory that systemd makes for each slot; None without one."""
    name = runtime_directory.rpartition("/")[2]
    _, dash, slot = name.rpartition("-")
    return slot if dash else None


def identity() -> dict[str, str | int | None]:
    """What tells one answering process from another."""
    return {
        "release": release_name(STARTED_IN),
        "directory": str(STARTED_IN),
        "slot": slot_name(os.environ.get("RUNTIME_DIRECTORY", "")),
        "pid": os.getpid(),
    }
