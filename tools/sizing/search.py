"""The highest rate at which an objective holds, found by probing. Pure but for the probe."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

STEP = 1.12
"""Between two probes until one holds and one does not; downwards it doubles, for a first guess far off."""

MOST_PROBES = 9


@dataclass(frozen=True)
class Probe:
    """One rate that was tried: p95 in seconds, and whether the objective held there."""

    rate: float
    p95_seconds: float
    held: bool


def highest(probe: Callable[[float], Probe], start: float, refine: int, low: float = 0.0) -> float:
    """The highest rate that held, 0 where none did; `low` is one that is known to. `refine` halves the gap so many times."""
    high, step, rate = 0.0, STEP, start
    for _ in range(MOST_PROBES):
        if probe(rate).held:
            low, rate = rate, rate * STEP
        else:
            high, rate = rate, rate / step
            step = min(2.0, step * step)
        if low and high:
            break
    for _ in range(refine if low and high else 0):
        middle = sqrt(low * high)
        if probe(middle).held:
            low = middle
        else:
            high = middle
    return low
