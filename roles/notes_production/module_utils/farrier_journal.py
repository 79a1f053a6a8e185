"""What a unit has logged."""

from __future__ import annotations

import subprocess

LINES = 60


def latest(since: int, lines: int, *which: str) -> list[str]:
    """The last lines of the journal since a time, in seconds, in their order.

    Asked for in reverse, because journalctl up to version 254 takes --lines of --since from its beginning.
    """
    bounds = (f"--since=@{since}", "--reverse", f"--lines={lines}", "--no-pager", "--quiet", "--output=cat")
    done = subprocess.run(["journalctl", *which, *bounds], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace").split("\n")[::-1]


def sync() -> None:
    """Wait until what was logged until now can be read."""
    subprocess.run(["journalctl", "--sync"], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def tail(unit: str, since: int) -> str:
    """The last lines that a unit logged since a time; Gunicorn's own remarks are left out."""
    sync()
    said = latest(since, 2 * LINES, f"--unit={unit}")  # more than are shown, as some of them are remarks
    kept = [line for line in said if line.strip() and "[INFO]" not in line]
    return "\n".join(kept[-LINES:])
