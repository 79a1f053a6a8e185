"""The requests of a measurement with their weights, and how a few of many are chosen. Pure."""

import base64
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from farrier import policy
from farrier.wording import counted, number

VARIABLE = re.compile(r"[0-9]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[a-zA-Z]*[0-9])[0-9a-fA-F]{12,}")
"""A path segment that identifies one of many objects: a number, a UUID, a long hexadecimal word."""

TRACKING = re.compile(r"utm_.*|fbclid|gclid|msclkid|_", re.IGNORECASE)
"""Parameters that applications ignore: advertising, and cache busters."""

SECRET = re.compile(
    r"(.*[_-])?(access|activat\w*|api|assertion|auth|bearer|code|confirm\w*|credentials?|csrf\w*|hash|hmac|invit\w*|jwt|"
    r"key|mac|magic|nonce|otp|passw\w*|pin|pwd|reset\w*|secret|session\w*|share\w*|sid|sig|signature|signed|state|ticket|token|"
    r"unsubscribe\w*|verif\w*)([_-].*)?|.*(token|password|passwd|secret|apikey|email|signature)",
    re.IGNORECASE,
)
"""Parameters whose values do not belong in a file; without them a path may respond differently, or not at all."""

HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where the second word of `resetCode` starts."""

HANDED = re.compile(
    r"(.*[_-])?(activat\w*|confirm\w*|invit\w*|jwt|magic\w*|otp|reset\w*|share\w*|tokens?|unsubscribe\w*|verif\w*)([_-].*)?",
    re.IGNORECASE,
)
"""Path segments after which a segment that is not a word is a token issued to somebody."""

LEAST_HANDED = 6
RANDOM_LETTERS, RANDOM_HEX = 16, 32
"""Runs of characters, of any kind or hexadecimal, that nobody types by hand: 96 bits and more, 128 bits."""


@dataclass(frozen=True)
class Request:
    """One request; those of one `name`, such as `/notes/*/`, are measured together."""

    name: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Counted = TypeVar("Counted")


@dataclass(frozen=True)
class RequestMix:
    """Requests with their weights; `notes` say what is left out and why."""

    weights: Mapping[Request, float]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, float]:
        """Weights by name."""
        found: dict[str, float] = {}
        for request, weight in self.weights.items():
            found[request.name] = found.get(request.name, 0.0) + weight
        return found

    def document(self) -> list[dict[str, object]]:
        """The requests as `application_measurement` takes them."""
        return [
            {
                "name": request.name,
                "method": request.method,
                "path": request.path,
                "headers": dict(request.headers),
                "body": base64.b64encode(request.body).decode(),
                "weight": weight,
            }
            for request, weight in self.weights.items()
        ]


def of_urls(urls: Mapping[str, float]) -> RequestMix:
    """The paths in the project file."""
    return RequestMix({Request(path, "GET", path): weight for path, weight in urls.items()})


def kind(target: str) -> str:
    """The name that requests for the same work share: `/notes/17/?page=2&q=x` and `/notes/8/?q=y&page=1` are one kind."""
    path, mark, query = target.partition("?")
    parts = ["*" if VARIABLE.fullmatch(part) else part for part in path.split("/")]
    names = sorted({each.partition("=")[0] for each in query.split("&")})
    return "/".join(parts) + mark + "&".join(names)


def clean(target: str) -> str:
    """A path without parameters that are secret or that the application ignores."""
    path, _, query = target.partition("?")
    kept = []
    for each in query.split("&"):
        name, _, value = each.partition("=")
        name = HUMP.sub("_", urllib.parse.unquote_plus(name))
        if each and not TRACKING.fullmatch(name) and not SECRET.fullmatch(name) and not is_random(value):
            kept.append(each)
    return path + ("?" + "&".join(kept) if kept else "")


def is_random(text: str) -> bool:
    """Whether it contains a run of characters that only a machine makes: a key, a signature, a token."""
    for run in re.findall(r"[A-Za-z0-9_+=-]+", urllib.parse.unquote(text)):
        for word in re.split(r"[_+=-]", run):
            if len(word) >= RANDOM_HEX and re.fullmatch(r"[0-9a-fA-F]*[0-9][0-9a-fA-F]*", word):
                return True
            kinds = [re.search(kind, word) for kind in ("[A-Z]", "[a-z]", "[0-9]")]
            if len(word) >= RANDOM_LETTERS and all(kinds):
                return True
    return False


def has_token(target: str) -> bool:
    """Whether a segment of the path is itself a secret, without which there is nothing to request."""
    before = ""
    for part in urllib.parse.unquote(target.partition("?")[0]).split("/"):
        handed = HANDED.fullmatch(before) and len(part) >= LEAST_HANDED and re.search("[0-9]", part)
        if handed or is_random(part):
            return True
        before = part
    return False


class Tally:
    """Counts requests by name in bounded memory, forgetting the rarest of very many."""

    def __init__(self) -> None:
        self.total = 0.0
        self._names: dict[str, float] = {}
        self._requests: dict[Request, float] = {}

    def add(self, request: Request, weight: float = 1.0) -> None:
        """Count a request."""
        self.total += weight
        self._names[request.name] = self._names.get(request.name, 0.0) + weight
        self._requests[request] = self._requests.get(request, 0.0) + weight
        if len(self._requests) > policy.ASKED_REMEMBERED:
            self._names = _most(self._names, policy.ASKED_REMEMBERED // 2)
            self._requests = _most(self._requests, policy.ASKED_REMEMBERED // 2)

    def asked(self, notes: tuple[str, ...] = ()) -> RequestMix:
        """The most frequent names, each with its most frequent requests, which represent all of that name."""
        names = _most(self._names, policy.ASKED_NAMES)
        found: dict[Request, float] = {}
        by_name: dict[str, dict[Request, float]] = {name: {} for name in names}
        for request, weight in self._requests.items():
            if request.name in by_name:
                by_name[request.name][request] = weight
        for name, whole in names.items():
            few = _most(by_name[name], policy.ASKED_VARIANTS)
            found |= {request: whole * weight / sum(few.values()) for request, weight in few.items()}
        left = self.total - sum(names.values())
        if left > 1e-9 * self.total:
            others = len(self._names) - len(names)
            which = f"{counted(others, 'other path')}, " if others else ""
            notes = (*notes, f"{which}{share(left, self.total)}, are rarer and left out")
        return RequestMix(found, notes)


def share(part: float, whole: float) -> str:
    """`12 % of the requests`."""
    return f"{number(100 * part / whole, 1)} % of the requests"


def _most(counts: Mapping[Counted, float], many: int) -> dict[Counted, float]:
    """The most frequent ones; of equals the first."""
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:many])
