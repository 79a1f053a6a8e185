"""Text of others, so that people can read it: a terminal shows it as it is and obeys nothing of it."""

from __future__ import annotations


def printable(text: str, keep: str = "\t\n") -> str:
    """The text with every character written out that a terminal would obey, but for those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shown(text: object, width: int = 200) -> str:
    """It in one bearable line."""
    line = printable(str(text)[: width + 1], keep="")
    return line if len(line) <= width else f"{line[:width]}…"
