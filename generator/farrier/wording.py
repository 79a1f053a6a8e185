"""Rounding and writing numbers the way the plan, the role and the errors show them."""

import difflib
import math
import re
import textwrap
from collections.abc import Iterable, Sequence

MB = 1024 * 1024
"""Bytes in a megabyte as Linux tools count it (`free -m`, systemd's `M`, NGINX's `m`)."""

NO_BREAK = "\N{NO-BREAK SPACE}"


def ceil_to(value: float, step: int) -> int:
    """The smallest multiple of `step` that is not below `value`, ignoring float noise."""
    return step * math.ceil(round(value / step, 9))


def number(value: float, digits: int = 2) -> str:
    """A number for a sentence: thousands separated, no trailing zeros: `1,234.5`, `3`."""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def mb(value: float) -> str:
    """Megabytes for a sentence: `1,536 MB`."""
    return f"{number(value, 0)} MB"


def milliseconds(seconds: float) -> str:
    """A short duration for a sentence: `12.5 ms`."""
    return f"{number(seconds * 1000, 1)} ms"


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 worker`, `3 workers`."""
    return f"{number(count)} {noun if count == 1 else plural or noun + 's'}"


def per_second(rate: float, digits: int = 1, more: str = "") -> str:
    """A rate for a sentence: `98.5 requests a second`."""
    rounded = round(rate, digits)
    return f"{number(rounded, digits)} {more}{'request' if rounded == 1 else 'requests'} a second"


def shown(value: object, width: int = 60) -> str:
    """A bad value as an error quotes it: control characters escaped, cut at `width` characters."""
    return f"'{printable(value if isinstance(value, str) else repr(value), width)}'"


def quoted(value: object) -> str:
    """A bad value for a message, short whatever it is."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**60:
        return "a number of more than 60 digits"
    return shown(value) if isinstance(value, str) else shown(value).strip("'").replace("True", "true")


def printable(text: str, width: int) -> str:
    """Foreign text on one line: control characters escaped, cut at `width` characters."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: width + 1])
    return f"{line[:width]}…" if len(line) > width else line


def line(text: object, width: int) -> str:
    """Foreign text as one printable line of limited length."""
    whole = "".join(c if c.isprintable() else "?" for c in " ".join(str(text)[: 4 * width].split()))
    return whole if len(whole) <= width else whole[: width - 1] + "…"


def wrapped(text: str, width: int) -> list[str]:
    """A sentence in lines of at most `width`, if its words allow it; a number and what it counts stay on one line."""
    bound = re.sub(r"(?<=\d) (?=[\w%])", NO_BREAK, text)
    lines = textwrap.wrap(bound, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(NO_BREAK, " ") for line in lines]


def some(names: Sequence[str], most: int) -> str:
    """The first few names and the number of the rest: `web1, web2 and 1,998 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {number(more)} more" if more > 0 else "")


def few(items: Sequence[str], joint: str = "; ", most: int = 5) -> str:
    """The first few items, joined, and the number of the rest."""
    more = len(items) - most
    return joint.join([*items[:most], *([f"{number(more)} more"] if more > 0 else [])])


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion for a mistyped name, for an error; the last part of a dotted name is enough."""
    names = {name: name for name in known}
    for candidates in (names, {name.rpartition(".")[2]: name for name in names}):
        near = difflib.get_close_matches(word, candidates, 1, 0.5)
        if near:
            return f"did you mean {candidates[near[0]]}?"
    return f"known are {', '.join(names)}"
