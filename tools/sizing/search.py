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


def highest(probe: Callable[[float], Probe], start: float, refine: int) -> tuple[float, list[Probe]]:
    """The highest rate that held and all probes; `refine` halves the gap so many times. 0 where nothing held."""
    probes: list[Probe] = []
    low, high, step, rate = 0.0, 0.0, STEP, start
    while len(probes) < MOST_PROBES and not (low and high):
        probes.append(probe(rate))
        if probes[-1].held:
            low, rate = rate, rate * STEP
        else:
            high, rate = rate, rate / step
            step = min(2.0, step * step)
    for _ in range(refine if low and high else 0):
        probes.append(probe(sqrt(low * high)))
        if probes[-1].held:
            low = probes[-1].rate
        else:
            high = probes[-1].rate
    return low, probes
