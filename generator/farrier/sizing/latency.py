"""How long a request takes at a rate: the time in service, and the wait for what is scarce.

X is the capacity in requests a second, rho the rate as a share of it, N = P T the concurrency, c the usable CPUs.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from farrier.sizing.capacity import Utilisation, capacity_rps, erlang_c, process_utilisation

TAIL = 0.05
"""p95: this share of the requests may take longer."""

NORMAL_P95 = 1.6449
"""The 95th percentile of the standard normal distribution."""

KNEE_STEPS = 400
"""Rates at which the knee is looked for, from nothing to capacity: finer than anybody can read off a plot."""


def wait_p95_seconds(servers: float, rate: float, saturation_rps: float) -> float:
    """95 % of requests wait at most this for one of `servers`, which together carry `saturation_rps`.

    P(wait > t) = C(s, s rho) exp(-(X - rate) t), Erlang C's tail with s/H = X; infinite at or above saturation.
    """
    if rate >= saturation_rps:
        return math.inf
    delayed = erlang_c(servers, servers * rate / saturation_rps)
    return 0.0 if delayed <= TAIL else math.log(delayed / TAIL) / (saturation_rps - rate)


@dataclass(frozen=True)
class Service:
    """Workers and their concurrent requests at one kind of work (C and W in seconds) on `cpus`."""

    workers: int
    per_worker: int
    cpu_seconds: float
    wait_seconds: float
    cpus: float
    service_scv: float = 0.0
    utilisation: Utilisation = process_utilisation
    """How the concurrent requests of a worker share a CPU."""
    other_cpu_seconds: float = 0.0
    """O: what other services on the same CPUs compute for a request, while it waits."""

    @property
    def concurrency(self) -> int:
        """N: requests in service at once."""
        return self.workers * self.per_worker

    @property
    def service_seconds(self) -> float:
        """H: one request alone."""
        return self.cpu_seconds + self.wait_seconds

    @cached_property
    def service_p95_seconds(self) -> float:
        """95 % of requests take at most this alone: the lognormal distribution with mean H and the spread Cs^2."""
        variance = math.log(1 + self.service_scv)
        return self.service_seconds * math.exp(NORMAL_P95 * math.sqrt(variance) - variance / 2)

    @property
    def usable_cpus(self) -> float:
        """A process computes on one CPU at a time, so few of them cannot use all CPUs."""
        return min(self.cpus, float(self.workers))

    @cached_property
    def capacity_rps(self) -> float:
        """X: requests a second at saturation."""
        wait_ratio = self.wait_seconds / self.cpu_seconds
        return capacity_rps(
            self.workers,
            self.per_worker,
            self.cpu_seconds,
            wait_ratio,
            self.cpus,
            utilisation=self.utilisation,
            other_cpu_seconds=self.other_cpu_seconds,
        )

    def thread_wait_seconds(self, rate: float) -> float:
        """p95 of the wait for a free worker thread: Erlang C over all N, which carry X; first come, first served.

        Allen and Cunneen multiply by (Ca^2 + Cs^2) / 2, with Poisson arrivals (Ca^2 = 1) and no less than Erlang's own.
        """
        return max(1.0, (1 + self.service_scv) / 2) * wait_p95_seconds(self.concurrency, rate, self.capacity_rps)

    def cpu_wait_seconds(self, rate: float) -> float:
        """p95 of the wait for a CPU: Erlang C over the usable CPUs, which carry c / C, or with other services c / (C + O).

        Kernel and GIL share a CPU in slices, and the wait for a shared server does not depend on the spread.
        """
        carried = min(self.workers / self.cpu_seconds, self.cpus / (self.cpu_seconds + self.other_cpu_seconds))
        return wait_p95_seconds(self.usable_cpus, rate, carried)

    def p95_seconds(self, rate: float) -> float:
        """95 % of requests are answered within this: p95 alone and the larger of the two waits; infinite from X on."""
        return self.service_p95_seconds + max(self.thread_wait_seconds(rate), self.cpu_wait_seconds(rate))

    def rate_within(self, p95_seconds: float) -> float:
        """The highest rate at which 95 % are answered within `p95_seconds`; 0 where requests alone take longer."""
        if p95_seconds < self.service_p95_seconds:
            return 0.0
        low, high = 0.0, self.capacity_rps
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p95_seconds(middle) <= p95_seconds else (low, middle)
        return low

    @cached_property
    def knee_rps(self) -> float:
        """Where the most rate is had for the latency: the rate at which rate / p95 is largest (Kleinrock's power)."""
        rates = [self.capacity_rps * step / KNEE_STEPS for step in range(1, KNEE_STEPS)]
        return max(rates, key=lambda rate: rate / self.p95_seconds(rate))
