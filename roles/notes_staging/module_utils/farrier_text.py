"""Text of others, so that people can read it: a terminal shows it as it is and obeys nothing of it."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Mapping
from urllib.parse import unquote

LINE_CHARACTERS = 500
CHARACTERS = 10_000
NAME_CHARACTERS = 80

SHORTEST_SECRET = 4
"""A shorter value is no secret, and would take the letters out of every other word."""


def printable(text: str, keep: str = "\t\n") -> str:
    """The text with every character written out that a terminal would obey, but for those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shown(text: object, width: int = 200) -> str:
    """It in one bearable line."""
    line = printable(str(text)[: width + 1], keep="")
    return line if len(line) <= width else f"{line[:width]}…"


def plain(name: str) -> str:
    """A name that somebody else chose, as facts hold it: of ASCII, without blanks."""
    return re.sub(r"[^\x21-\x7e]", "?", name)[:NAME_CHARACTERS]


def excerpt(text: str) -> str:
    """Several lines that a terminal shows as they are: bounded, the end kept, control characters escaped."""
    lines = (line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}..." for line in text.split("\n"))
    whole = "\n".join(map(printable, lines))
    return whole if len(whole) <= CHARACTERS else f"...{whole[-CHARACTERS:]}"


def masked(text: str, hidden: list[str]) -> str:
    """A text without these values, nor a line of one, nor as Python shows it."""
    words = {part for value in hidden for part in (value, repr(value)[1:-1], *value.splitlines())}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, "********")
    return text


def redacted(text: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """The text without the user and password of any URL, and without the passwords of URLs among these variables."""
    text = re.sub(r"://[^/\s]+@", "://***@", text)
    for value in environment.values():
        for user in re.findall(r"://([^/\s]*)@", value):
            password = user.rpartition(":")[2]
            for secret in (password, unquote(password)):
                if len(secret) >= SHORTEST_SECRET:
                    text = text.replace(secret, "***")
    return text
