"""Parses and checks option values: facts, a peak, settings."""

from collections.abc import Sequence

from farrier.errors import InputError
from farrier.facts.model import FACTS, Number, is_a
from farrier.settings import BY_NAME
from farrier.wording import nearest, number, shown

MOST_RPS = 1_000_000
"""The largest peak that a workload file accepts."""


def parse_stated(
    options: Sequence[str], cpus: str | None = None, memory: str | None = None
) -> dict[str, float | int | str]:
    """`--fact NAME=VALUE` options by name, each checked; `--cpus` and `--memory` are short for two of them."""
    stated: dict[str, float | int | str] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if name not in FACTS or not equals:
            raise InputError(f"--fact {shown(option)}: expected NAME=VALUE with one of {', '.join(FACTS)}")
        stated[name] = _fact(f"--fact {name}", name, text)
    for option, name, given in (("--cpus", "cpus", cpus), ("--memory", "memory_mb", memory)):
        if given is not None:
            if name in stated:
                raise InputError(
                    f"{option} {given} and --fact {name}={number(float(stated[name]))}: give only one of them"
                )
            stated[name] = _fact(option, name, given)
    return stated


def _fact(option: str, name: str, text: str) -> float | int | str:
    kind = FACTS[name].kind
    value: float | int | str = text
    if isinstance(kind, Number):
        try:
            value = int(text) if kind.whole else float(text)
        except ValueError:
            raise InputError(f"{option}: {shown(text)} is not {kind}") from None
    if not is_a(kind, value):
        raise InputError(f"{option}: {shown(text)} is not {kind}")
    return value


def parse_peak(text: str | None) -> float | None:
    """`--peak-rps`, within the same bounds as in a workload."""
    if text is None:
        return None
    try:
        peak = float(text)
    except ValueError:
        peak = 0.0
    if not 0 < peak <= MOST_RPS:
        raise InputError(f"--peak-rps: {shown(text)} is not a number above 0 to {MOST_RPS}")
    return peak


def parse_settings(names: Sequence[str]) -> list[str]:
    """The settings of `--explain`, in the order given."""
    for name in names:
        if name not in BY_NAME:
            raise InputError(f"--explain {shown(name)} is not a setting; {nearest(name, BY_NAME)}")
    return list(dict.fromkeys(names))
