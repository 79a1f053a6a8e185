"""The speed of a shared machine varies: measurements of one host are scaled to one speed. Pure.

Neighbours on the same silicon change what the CPU's own clock says of a request, by a fifth and more from minute to minute.
So before each measured request the worker does a piece of work that is always the same, the reference, whose CPU time rises
and falls with the machine's speed as that of requests does. The first measurement on a host notes its mean; a later one
multiplies CPU times by what it was then over what it is now, but for paths whose CPU does not follow the speed. The fast
moments of a run are no such measure: how fast the fastest are depends on the neighbours as well, and more than the mean does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from farrier import policy
from farrier.project.workload import Reference, Workload
from farrier.wording import number

BLOCK = 20
"""Requests whose mean is compared with that of their references: enough to tell the machine's speed from noise."""

LEAST_BLOCKS = 10
STEADY = 0.01
"""Standard deviation of the blocks' references, as a share, below which they say nothing."""


@dataclass(frozen=True)
class Pace:
    """The factor that scales CPU times to the speed of `reference`."""

    reference: Reference | None = None
    factor: float = 1.0

    @property
    def note(self) -> str | None:
        """A note about a speed that differs."""
        if abs(self.factor - 1) < policy.REFERENCE_NOTICEABLE or self.reference is None:
            return None
        by, how = (1 / self.factor - 1, "slower") if self.factor < 1 else (1 - 1 / self.factor, "faster")
        return (
            f"a fixed task took {number(100 * abs(by), 0)} % {'longer' if how == 'slower' else 'less'} than at the "
            f"first measurement on {self.reference.on}: the machine was {how}, and the figures are scaled to its speed then"
        )


def pace(now: Reference | None, before: Workload | None) -> Pace:
    """How to scale a measurement to the speed of the one `before`; not at all on another host, or at a very different speed."""
    then = before.reference if before else None
    if now is None or then is None or then.on != now.on:
        return Pace(now)
    factor, limit = then.seconds / now.seconds, policy.REFERENCE_COMPARABLE
    return Pace(then, factor) if 1 / limit <= factor <= limit else Pace(now)


def follows_speed(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether CPU times follow those of their references, from pairs of both; False only if they clearly do not.

    Requests that compute by the clock cost the same on a slow machine.
    """
    blocks = [pairs[start : start + BLOCK] for start in range(0, len(pairs) - BLOCK + 1, BLOCK)]
    if len(blocks) < LEAST_BLOCKS:
        return True
    cpu, reference = ([sum(pair[i] for pair in block) / BLOCK for block in blocks] for i in (0, 1))
    mean_cpu, mean = sum(cpu) / len(cpu), sum(reference) / len(reference)
    if not mean or not mean_cpu:
        return True
    spread = sum((each / mean - 1) ** 2 for each in reference)
    if spread < STEADY**2 * len(blocks):
        return True
    points = [(y / mean_cpu - 1, x / mean - 1) for y, x in zip(cpu, reference, strict=True)]
    slope = sum(y * x for y, x in points) / spread
    error = sqrt(sum((y - slope * x) ** 2 for y, x in points) / (len(points) - 2) / spread)
    return slope + 2 * error > policy.REFERENCE_FOLLOWED
