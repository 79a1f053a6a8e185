"""Which rates a load test sends, and what was predicted for them."""

from collections.abc import Callable
from dataclasses import dataclass

from farrier.loadtest import bounds
from farrier.plan.draft import Draft

SPARE_SECONDS = 10
"""Seconds allowed between the steps."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one host: rates in requests a second, times in seconds, memory in MB."""

    host: str
    capacity_rps: float
    p95_seconds: Callable[[float], float]
    """The p95 at a rate; infinite from the capacity on."""
    rate_within: Callable[[float], float]
    """The highest rate at which the p95 stays within a time."""
    cpus: float
    workers: int
    threads: int
    cpu_seconds: float
    """Of the application alone; `proxy_cpu_seconds` is NGINX's."""
    wait_seconds: float
    proxy_cpu_seconds: float
    memory_mb: float
    objective_seconds: float | None
    peak_rps: float | None
    backlog: int
    other_cpu_seconds: float = 0.0
    """CPU that a request costs other services on the host, such as a database."""

    @property
    def service_seconds(self) -> float:
        """H: a request alone, as a client of NGINX sees it."""
        return self.cpu_seconds + self.proxy_cpu_seconds + self.wait_seconds


def prediction(host: str, draft: Draft) -> Prediction:
    """The predictions of a plan."""
    work = draft.workload
    return Prediction(
        host,
        draft.service.capacity_rps,
        draft.service.p95_seconds,
        draft.service.rate_within,
        draft.facts.cpus,
        draft.number("gunicorn.workers"),
        draft.per_worker,
        work.gunicorn_cpu_seconds,
        work.wait_seconds,
        work.proxy_cpu_seconds,
        draft.slot_mb,
        work.latency_p95_seconds,
        work.peak_rps,
        draft.number("gunicorn.backlog"),
        work.other_cpu_seconds,
    )


def rates(capacity_rps: float, steps: int, up_to: float) -> tuple[float, ...]:
    """Evenly spaced up to that multiple of the capacity, from a quarter of it or, where `up_to` is no more, from the first part."""
    first = bounds.LOADTEST_FIRST_SHARE if up_to > bounds.LOADTEST_FIRST_SHARE else up_to / steps
    shares = [first + (up_to - first) * i / (steps - 1) for i in range(steps)] if steps > 1 else [up_to]
    return tuple(round(share * capacity_rps, 2) for share in shares)


def warm_seconds(seconds: float) -> float:
    """How long a step sends before it measures."""
    return max(1.0, bounds.LOADTEST_WARM_SHARE * seconds)


def longest_seconds(steps: int, seconds: float, timeout_seconds: float) -> float:
    """Longest duration of a run, including the wait for each step's responses."""
    return steps * (warm_seconds(seconds) + seconds + timeout_seconds) + SPARE_SECONDS
