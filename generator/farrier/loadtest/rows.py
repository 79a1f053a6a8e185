"""One step of a load test beside its prediction, and the host's CPU use. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from farrier.loadtest import bounds
from farrier.loadtest.samples import UNSENT
from farrier.loadtest.step import Step
from farrier.wording import counted, milliseconds, number


@dataclass(frozen=True)
class Usage:
    """What the host used in the window of a step, in CPU seconds per second; None if it could not be observed."""

    host: float | None = None
    application: float | None = None
    nginx: float | None = None
    workers: int | None = None
    """The fewest ready workers at any moment."""
    restarted: bool = False
    elsewhere: float | None = None
    """CPU of the machine used outside this host, if it is a container."""
    stolen: float | None = None
    """CPU that the hypervisor withheld from the machine."""
    services: Mapping[str, float] = field(default_factory=dict)
    """CPU of the busiest other services, by unit."""

    @property
    def others(self) -> float | None:
        """CPU used by neither the application nor NGINX."""
        if self.host is None or self.application is None or self.nginx is None:
            return None
        return max(0.0, self.host - self.application - self.nginx)


@dataclass(frozen=True)
class Running:
    """What the slot on the host runs with, according to its ready marks; `each` is the number of requests a worker takes at once."""

    workers: int
    each: int
    backlog: int

    def __str__(self) -> str:
        """As a sentence has it."""
        return f"{self.workers} x {self.each} (backlog {self.backlog})"


@dataclass(frozen=True)
class StepResult:
    """One step beside its prediction and the host's CPU use."""

    step: Step
    usage: Usage
    predicted_p95: float

    @property
    def limited(self) -> str | None:
        """Why the generator limited this step; None if it did not."""
        step = self.step
        if unsent := step.kinds.get(UNSENT, 0):
            return f"{counted(unsent, 'request')} could not be sent: the limit of requests in flight was reached"
        if step.cpu_share >= bounds.GENERATOR_CPU:
            return f"it used {number(100 * step.cpu_share, 0)} % of one core"
        allowed = max(bounds.GENERATOR_LATE_SECONDS, bounds.GENERATOR_LATE_SHARE * (step.latency.p50 or 0.0))
        if step.lateness_p95_seconds > allowed:
            return f"it sent requests up to {milliseconds(step.lateness_p95_seconds)} late (p95)"
        return None

    @property
    def failed_share(self) -> float:
        """Share of the requests without a good response."""
        return 1 - self.step.good / self.step.offered if self.step.offered else 0.0

    @property
    def carried(self) -> bool:
        """Whether the good responses kept up with the arrivals."""
        step = self.step
        short = step.offered - step.good_rps * step.seconds
        # Requests begin before the window and end after it: by Little's law this many, with the chance of their number.
        chance = 2 * (step.offered_rps * (step.latency.mean or 0.0)) ** 0.5 + 1
        kept = step.offered - step.good <= bounds.LOADTEST_FAILED * step.offered
        return kept and short <= bounds.LOADTEST_BEHIND * step.offered + chance

    def cpu_per_request(self) -> float | None:
        """CPU seconds of the application per good response."""
        return _per(self.usage.application, self.step.good_rps)

    def nginx_per_request(self) -> float | None:
        """CPU seconds of NGINX per arrival: it also answers the requests it rejects."""
        return _per(self.usage.nginx, self.step.offered_rps)

    def cpu_both(self) -> float | None:
        """CPU seconds of the application and NGINX per request, one after the other."""
        cpu = self.cpu_per_request()
        return None if cpu is None else cpu + (self.nginx_per_request() or 0.0)


def _per(spent: float | None, rate: float) -> float | None:
    return spent / rate if spent is not None and rate > 0 else None
