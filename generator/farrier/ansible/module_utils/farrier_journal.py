"""What a unit said at its end, so that it can be shown: bounded, without control characters and without secrets."""

from __future__ import annotations

import re
import subprocess

from ansible.module_utils import farrier_text

LINES = 60
LINE_CHARACTERS = 500
CHARACTERS = 10_000
SHORTEST_SECRET = 4
"""A shorter value is no secret, and would take the letters out of every other word."""


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


def printable(text: str) -> str:
    """A text of somebody else's that a terminal shows as it is: bounded, its end kept, control characters escaped."""
    kept = []
    for line in text.split("\n"):
        shown = line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}..."
        kept.append(farrier_text.printable(shown))
    whole = "\n".join(kept)
    return whole if len(whole) <= CHARACTERS else f"...{whole[-CHARACTERS:]}"


def values(environment: bytes, names: list[str]) -> list[str]:
    """The values of some variables out of a systemd environment file as this role writes it."""
    found = re.findall(r'(?ms)^(\w+)="((?:[^"\\]|\\.)*)"$', environment.decode("utf-8", "replace"))
    return [re.sub(r"(?s)\\(.)", r"\1", value) for name, value in found if name in names]


def masked(text: str, hidden: list[str]) -> str:
    """A text without these values, nor a line of one, nor as Python shows it."""
    words = {part for value in hidden for part in (value, repr(value)[1:-1], *value.splitlines())}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, "********")
    return text
