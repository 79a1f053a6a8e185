"""The result of one step of load, checked as it comes from the load generator: counts, rates and latency. Pure."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from farrier.errors import HostError
from farrier.loadtest.samples import KIND, UNANSWERED, is_good
from farrier.measure.answer import first_error

LARGEST = 10**12
"""No time, count or amount of memory of a load test is larger."""

Amount = Annotated[float, Field(strict=True, ge=0, le=LARGEST, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Kind = Annotated[str, Field(pattern=f"^{KIND.pattern}$")]


@dataclass(frozen=True)
class Latency:
    """Seconds from when a request was due to the end of its good response; None if there was no good response."""

    p50: Amount | None = None
    p95: Amount | None = None
    p99: Amount | None = None
    mean: Amount | None = None
    longest: Amount | None = None


@dataclass(frozen=True)
class Outcome:
    """Outcomes of the requests due in the measured window."""

    offered: Count
    kinds: Annotated[Mapping[Kind, Count], Field(max_length=1000)]
    latency: Latency

    @property
    def answered(self) -> int:
        """Those with a response of any status."""
        return sum(count for kind, count in self.kinds.items() if kind not in UNANSWERED)

    @property
    def good(self) -> int:
        """Those with a response of status 2xx or 3xx."""
        return sum(count for kind, count in self.kinds.items() if is_good(kind))


@dataclass(frozen=True)
class Step(Outcome):
    """A step of constant rate. `good_rps` counts the good responses within the window, whenever they were due."""

    rps: Amount
    seconds: Annotated[Amount, Field(ge=1e-3)]
    warm_seconds: Amount
    good_rps: Amount
    paths: Annotated[Mapping[str, Outcome], Field(max_length=10_000)]
    in_flight: Count
    """Requests without a response when the window ended."""
    lateness_p95_seconds: Amount
    """How late the load generator itself was in sending; part of the latency."""
    cpu_share: Amount
    """CPU of the busiest process of the load generator during the window, as a share of one core; 1 is its limit."""
    drain_seconds: Amount
    """Seconds until the last response."""
    begun: Amount
    """When the window began, in seconds since the epoch, by the clock of the master generator."""
    workers: Count = 1

    @property
    def offered_rps(self) -> float:
        """Arrivals a second in the window; it differs from `rps` by chance, as Poisson arrivals do."""
        return self.offered / self.seconds


STEP = TypeAdapter(Step)


def step_from(answer: object) -> Step:
    """The step that the load generator reports; HostError when it cannot be used."""
    try:
        step = STEP.validate_python(answer)
    except ValidationError as error:
        raise HostError(f"the load generator: its answer cannot be used: {first_error(error)}") from None
    for outcome in (step, *step.paths.values()):
        if (found := sum(outcome.kinds.values())) != outcome.offered:
            raise HostError(
                f"the load generator: its answer cannot be used: {outcome.offered} requests offered, but its kinds make {found}"
            )
    return step
