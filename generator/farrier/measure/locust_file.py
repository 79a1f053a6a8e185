"""What the users of a Locust file send, as a few requests with weights. Pure."""

import base64
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from farrier.errors import InputError
from farrier.measure.requests import Request, RequestMix, Tally, clean, has_token, kind, share
from farrier.project.values import REQUEST_PATH
from farrier.wording import line

TARGET = re.compile(REQUEST_PATH)
HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
VALUE = re.compile(r"[\x20-\x7e]{0,4096}")

CLIENTS_OWN = frozenset({"Host", "User-Agent", "Accept-Encoding", "Connection", "Content-Length", "Transfer-Encoding"})
"""Headers set by the client itself; the measuring client sends its own."""

ANSWER_SECONDS = 0.1
"""Assumed response time when users of different pace are compared."""

LONGEST_PATH = 500
SHOWN = 120
"""Characters of a name in Farrier's own output."""


def asked_by_users(
    users: Sequence[Mapping[str, Any]], source: str, methods: Collection[str], static_url: str | None = None
) -> RequestMix:
    """Requests with weights from `locust_recorder`'s records; users with more weight or a faster pace count more.

    Raises:
        InputError: none of it may be asked for.
    """
    tally, notes, total = Tally(), [f"paths are from {source}"], 0.0
    left: dict[str, float] = {}
    for user in users:
        own = line(user["name"], SHOWN)
        notes += [f"{own}: {line(each, SHOWN)}" for each in user["notes"][:3]]
        repeated = [each for each in user["requests"] if not each["starting"]]
        if once := {f"{each['method']} {line(each['target'], SHOWN)}" for each in user["requests"] if each["starting"]}:
            notes.append(
                f"{own} requests {', '.join(sorted(once)[:3])} once, when it starts; requests are measured without a "
                "session that this may start"
            )
        seconds = float(user["seconds"]) + ANSWER_SECONDS * len(repeated)
        for each in repeated:
            weight = float(user["weight"]) / seconds
            total += weight
            if why := _refused(each, methods, static_url):
                left[why] = left.get(why, 0.0) + weight
            else:
                tally.add(_request(each), weight)
    notes += [f"left out: {share(weight, total)} {why}" for why, weight in left.items()]
    if not tally.total:
        raise InputError(
            f"{source}: its users send nothing that can be measured; "
            + ("; ".join(notes[1:]) or "it needs a subclass of HttpUser or FastHttpUser with tasks")
        )
    return tally.asked(tuple(notes))


def _refused(each: Mapping[str, Any], methods: Collection[str], static_url: str | None) -> str | None:
    """Why a request is left out; None if it is not."""
    method, target = each["method"], each["target"]
    if method not in methods:
        wanted = ",".join([*sorted(methods), method])
        return f"are {method}, which may change data; --methods {wanted} includes them"
    if each["body"] is None:
        return f"are {method} with a body of more than 256 KB"
    if len(target) > LONGEST_PATH or not TARGET.fullmatch(target):
        return "have a path that is too long or has unquoted characters"
    if static_url and target.startswith(static_url):
        return "are answered by NGINX itself"
    if has_token(target):
        return "have what looks like a token in the path"
    return None


def _request(each: Mapping[str, Any]) -> Request:
    method, target, name = each["method"], clean(each["target"]), line(each["name"], SHOWN)
    label = kind(target) if each["name"] == each["target"] else name
    headers = tuple(
        (header, value)
        for header, value in sorted(each["headers"].items())
        if header not in CLIENTS_OWN
        and (header, value) != ("Accept", "*/*")
        and HEADER.fullmatch(header)
        and VALUE.fullmatch(value)
    )
    body = base64.b64decode(each["body"])
    return Request(label if method == "GET" else f"{method} {label}", method, target, headers, body)
