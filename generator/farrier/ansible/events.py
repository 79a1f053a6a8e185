"""What Farrier's callbacks print while Ansible runs: one line for each event, bounded and checked before anything reads it."""

import json
import secrets
from typing import Any

MARK = f"farrier-event-{secrets.token_hex(8)} "
"""Begins every line of our callbacks, which learn it from the environment. It is another one in each process, so that
nothing that a host, a plugin or an inventory prints can pass for an event."""

MARK_VARIABLE = "FARRIER_EVENT_MARK"
"""The environment variable by which a callback learns the mark; its Python may be one without Farrier."""

LONGEST_LINE = 16 * 1024 * 1024
"""Characters of a line that are read at once; the callbacks end an answer before."""

HOSTS = ("hosts", "inventory")


def event_of(line: str) -> dict[str, Any] | None:
    """The event that a line of Ansible's standard output tells; None for any other line.

    It has a `kind`; a `start` has lists of names, a `task` its name, and every other kind the name of a host.
    """
    if not line.startswith(MARK):
        return None
    try:
        event = json.loads(line[len(MARK) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    if event.get("kind") == "start":
        lists = [event[key] for key in HOSTS if key in event]
        right = "hosts" in event and all(isinstance(names, list) for names in lists)
        right = right and all(isinstance(name, str) for names in lists for name in names)
    else:
        right = all(
            isinstance(event.get(key), str) for key in ("kind", "name" if event.get("kind") == "task" else "host")
        )
    return event if right else None
