"""Makes documents strange, the same way each time; what must hold of every message about them."""

import json
import math
import random
from contextlib import suppress
from typing import Any

from farrier.ansible.events import MARK, Event, read
from farrier.errors import FarrierError

SEED = 20261
LONGEST_MESSAGE = 1000


def seeded() -> random.Random:
    """The same chance each time."""
    return random.Random(SEED)  # noqa: S311 - mutations, no secrets


def deep(levels: int, kind: str = "list") -> object:
    """A value nested so deep."""
    value: object = 1
    for _ in range(levels):
        value = [value] if kind == "list" else {"a": value}
    return value


STRANGE = tuple(json.dumps(value) for value in (
    None, True, False, 0, -1, 1e308, -0.5, math.nan, math.inf, -math.inf, 2**63, -(2**70), 10**400, "", "4", "\x1b[31mred",
    "a\nhost web2: facts gathered", "\ud800", "\u202egnp", "x" * 100_000, [], {}, [None], [[]], ["x"] * 5000, {"": None},
    {"\ud800": "\x00"}, {"usable": {"usable": 1}}, [{"name": "\x1b]0;x\x07", "memory_mb": 1, "cpus": 0}], deep(200),
    deep(200, "object"), deep(900),
))  # fmt: skip


def places(document: Any, path: tuple[Any, ...], found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Every place in a document, the document itself included."""
    found.append(path)
    if isinstance(document, dict):
        for key, value in document.items():
            places(value, (*path, key), found)
    elif isinstance(document, list):
        for index, value in enumerate(document):
            places(value, (*path, index), found)
    return found


def mutated(document: Any, chance: random.Random) -> Any:
    """The document with one to three places replaced, removed, doubled or renamed."""
    found = json.loads(json.dumps(document))  # several times as fast as a deep copy
    for path in chance.choices(places(document, (), []), k=chance.randint(1, 3)):
        if not path:
            if chance.random() < 0.2:
                return strange(chance)
            continue
        with suppress(AttributeError, KeyError, IndexError, TypeError):  # an earlier mutation took the place away
            mutate(found, path, chance)
    return found


def mutate(document: Any, path: tuple[Any, ...], chance: random.Random) -> None:
    """One place made strange."""
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    match chance.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[chance.choice(["\ud800", "x" * 300, "\x1b[2J", "schema", "host", "others"])] = parent.pop(key)
        case 1:
            parent.extend([parent[key]] * 50)
        case _:
            parent[key] = strange(chance)


def strange(chance: random.Random) -> Any:
    """One of the strange values, nobody else's."""
    return json.loads(chance.choice(STRANGE))


def checked(error: FarrierError, begins: tuple[str, ...] = ("",)) -> None:
    """A message for people: whole, printable, bounded."""
    assert error.messages
    assert len(error.messages) <= 30
    for message in error.messages:
        assert message.isprintable(), message
        assert message.startswith(begins), message
        assert len(message) <= LONGEST_MESSAGE


def event(kind: str, **content: object) -> Event:
    """What is read of a line of the callback."""
    found = read(MARK + json.dumps({"kind": kind, **content}))
    assert found is not None
    return found
