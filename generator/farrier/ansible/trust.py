"""Which text Ansible may evaluate: Farrier's own, and none that came in as data."""

from collections.abc import Mapping


class Expression(str):
    """Text of Farrier's own that Ansible is meant to evaluate."""

    __slots__ = ()


class Free(str):
    """Text of somebody else's, in words that no allow-list limits: always written with the tag `!unsafe`."""

    __slots__ = ()


HEADER = "#jinja2:"
"""How a value begins that brings delimiters of its own, `JINJA2_OVERRIDE` in ansible-core's _jinja_bits.py."""

MARKS = ("{{", "{%", "{#")
"""What begins something that Ansible evaluates."""


def is_evaluated(text: str) -> bool:
    """Whether Ansible would evaluate a text that a file of variables or a play holds."""
    return text.startswith(HEADER) or any(mark in text for mark in MARKS)


def unsafe(value: object) -> object:
    """A value whose texts are all `Free`."""
    if isinstance(value, Mapping):
        return {key: unsafe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [unsafe(inner) for inner in value]
    return Free(value) if isinstance(value, str) else value
