"""Reads NGINX access logs, line by line: the `combined` format and the one of the generated role. Pure."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from farrier.errors import InputError
from farrier.measure.requests import Request, RequestMix, Tally, clean, has_token, kind, share
from farrier.project.values import REQUEST_PATH
from farrier.wording import counted, number, shown

LONGEST_LINE = 65_536
"""Bytes of a line that are read; NGINX itself accepts no more than 32 KB of request line and headers."""

LONGEST_PATH = 500
"""Longer ones are attacks, or carry data."""

TARGET = re.compile(REQUEST_PATH)
METHOD = re.compile(r"[A-Z]{3,10}")
UNCHANGING = ("GET", "HEAD")
"""Methods that need no body and change nothing."""


@dataclass(frozen=True)
class LogLine:
    """One line's content; `by_nginx` if the response did not come from the application."""

    request: str
    status: int
    by_nginx: bool


def entry(line: str) -> LogLine | None:
    """One line of either format; None if it is in another one.

    NGINX escapes quotes within values by their number, so a quote always ends one.
    """
    if line.startswith("time="):
        _, found, rest = line.partition(' request="')
        request, ended, rest = rest.partition('" status=')
        upstream = rest.partition(' upstream_status="')[2].partition('"')[0]
    else:
        _, found, rest = line.partition('] "')
        request, ended, rest = rest.partition('" ')
        upstream = ""
    status = rest[:3]
    if not (found and ended and status.isascii() and status.isdigit()):
        return None
    return LogLine(request, int(status), upstream == "-")


@dataclass
class _Seen:
    """Counts of what the lines were."""

    tally: Tally = field(default_factory=Tally)
    lines: int = 0
    unread: int = 0
    by_nginx: int = 0
    refused: int = 0
    odd: int = 0
    tokens: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    first_unread: str = ""


def asked_in_log(
    lines: Iterable[bytes], source: str, methods: Collection[str] = UNCHANGING, static_url: str | None = None
) -> RequestMix:
    """The most frequent requests of a log that the application answered with 2xx or 3xx.

    Raises:
        InputError: no line is of a known format, or none was of use.
    """
    seen = _Seen()
    for line in lines:
        _look(seen, line.decode("utf-8", "replace"), methods, static_url)
    if not seen.tally.total:
        raise InputError(f"{source}: {_useless(seen)}")
    return seen.tally.asked((f"paths are from {source}: {counted(round(seen.tally.total), 'request')}", *_notes(seen)))


def _look(seen: _Seen, line: str, methods: Collection[str], static_url: str | None) -> None:
    if not line.strip():
        return
    seen.lines += 1
    found = entry(line)
    if found is None:
        seen.unread += 1
        seen.first_unread = seen.first_unread or line.strip()
        return
    method, _, rest = found.request.partition(" ")
    target = rest.rpartition(" ")[0]
    if not METHOD.fullmatch(method) or len(target) > LONGEST_PATH or not TARGET.fullmatch(target):
        seen.odd += 1
    elif found.by_nginx or (static_url and target.startswith(static_url)):
        seen.by_nginx += 1
    elif not 200 <= found.status < 400:
        seen.refused += 1
    elif method not in methods:
        seen.methods[method] = seen.methods.get(method, 0) + 1
    elif has_token(target):
        seen.tokens += 1
    else:
        target = clean(target)
        name = kind(target) if method == "GET" else f"{method} {kind(target)}"
        seen.tally.add(Request(name, method, target))


def _notes(seen: _Seen) -> list[str]:
    left = [
        (seen.refused, "were answered with an error"),
        (seen.by_nginx, "were answered by NGINX itself"),
        (seen.odd, "request no path that a browser would"),
        (seen.unread, "are in another format"),
        (seen.tokens, "have what looks like a token in the path"),
    ]
    left += [
        (many, f"are {method}, whose bodies a log does not record") for method, many in sorted(seen.methods.items())
    ]
    return [f"left out: {share(many, seen.lines)} {what}" for many, what in left if many]


def _useless(seen: _Seen) -> str:
    if not seen.lines:
        return "has no lines; name an NGINX access log that contains requests"
    if seen.unread == seen.lines:
        return (
            f"{shown(seen.first_unread, 100)} is neither in NGINX's `combined` log format nor in the role's own; both "
            "are read, also gzipped"
        )
    return f"none of its {number(seen.lines)} lines can be used; {'; '.join(_notes(seen))}"
