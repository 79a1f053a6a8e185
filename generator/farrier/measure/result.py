"""What a request costs, as it was measured: over all paths by weight, with how surely that is known. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median

from farrier import policy
from farrier.measure.machine_speed import Pace


@dataclass(frozen=True)
class UrlCost:
    """One path: seconds of CPU and of waiting per request, and the squared coefficient of variation of their sum."""

    path: str
    weight: float
    status: int
    requests: int
    cpu_seconds: float
    wait_seconds: float
    spread: float
    size_bytes: int
    cpu_variance: float
    variance: float
    follows_speed: bool


@dataclass(frozen=True)
class WorkerMemory:
    """MB: `private` of one worker; `shared` is what master and workers hold together, counted once."""

    private_mb: float
    shared_mb: float


@dataclass(frozen=True)
class Measured:
    """What a request costs, over all paths in proportion to their weights; `skipped` says what was not measured."""

    urls: tuple[UrlCost, ...]
    skipped: tuple[str, ...]
    boots: tuple[float, ...]
    longest_segment_seconds: float
    plain: WorkerMemory
    preloaded: WorkerMemory | None
    thread_mb: float
    alone: tuple[int, int]
    busy: tuple[int, int]
    """Requests and their CPU in µs of a worker that had one at a time, and of one that had many, by turns."""
    unsafe: tuple[str, ...]
    delayed_share: float
    stolen_share: float
    """Of the time, how much the hypervisor kept each CPU from computing."""
    python: str
    reference_seconds: float
    others: tuple[tuple[str, float], ...] = ()
    """CPU seconds of other services of the host for a request, the largest first."""

    @property
    def requests(self) -> int:
        """Measured requests of all paths."""
        return sum(url.requests for url in self.urls)

    @property
    def other_cpu_seconds(self) -> float:
        """What other services of the host compute for a request, together."""
        return sum(seconds for _, seconds in self.others)

    @property
    def cpu_seconds(self) -> float:
        """C."""
        return self._mean([url.cpu_seconds for url in self.urls])

    def cpu_seconds_at(self, pace: Pace) -> float:
        """C at another speed of the machine; what computes by the clock keeps its own."""
        fixed = self._mean([0.0 if url.follows_speed else url.cpu_seconds for url in self.urls])
        return fixed + pace.factor * (self.cpu_seconds - fixed)

    @property
    def wait_seconds(self) -> float:
        """W."""
        return self._mean([url.wait_seconds for url in self.urls])

    @property
    def spread(self) -> float:
        """Cs^2 of CPU and wait together."""
        service = [url.cpu_seconds + url.wait_seconds for url in self.urls]
        return self._scv(service, [url.variance for url in self.urls])

    @property
    def cpu_spread(self) -> float:
        """Cs^2 of CPU alone."""
        return self._scv([url.cpu_seconds for url in self.urls], [url.cpu_variance for url in self.urls])

    @property
    def busy_share(self) -> float:
        """CPU of a request of a busy worker, as a share of one that comes alone; at most 1.

        The requests of both turns tell it best, as the machine was as fast for both. Where these vary too much for so few,
        those that came alone at other times count too, which are many more.
        """
        (requests, cpu), (busy_requests, busy_cpu) = self.alone, self.busy
        if not requests or not busy_requests or cpu <= 0:
            return 1.0
        chance = self._mean([url.cpu_variance for url in self.urls]) / self.cpu_seconds**2
        by_turns = sqrt(chance * (1 / requests + 1 / busy_requests)) <= policy.MEASURE_UNCERTAIN
        beside = cpu / requests if by_turns else 1e6 * self.cpu_seconds
        return min(1.0, busy_cpu / busy_requests / beside)

    @property
    def uncertainty(self) -> float:
        """The standard error of C, as a share of it."""
        return self._error([url.cpu_variance for url in self.urls]) / self.cpu_seconds

    @property
    def service_uncertainty(self) -> float:
        """The standard error of H = C + W, as a share of it."""
        return self._error([url.variance for url in self.urls]) / (self.cpu_seconds + self.wait_seconds)

    @property
    def boot_seconds(self) -> float:
        """The median boot."""
        return median(self.boots)

    @property
    def preload_safe(self) -> bool:
        """Whether nothing was found that a fork would break."""
        return not self.unsafe

    @property
    def memory(self) -> WorkerMemory:
        """The figures for the way in which the plan will run it, such that `sizing.memory.Cost` gives what was seen.

        Each worker that was seen had one busy thread, which is counted as such. Without preload a worker costs both;
        what master and workers share through the page cache is the shared part.
        """
        if self.preload_safe and self.preloaded:
            private, shared = self.preloaded.private_mb, self.preloaded.shared_mb
        else:
            private, shared = self.plain.private_mb - self.plain.shared_mb, self.plain.shared_mb
        return WorkerMemory(max(1.0, private - self.thread_mb), shared)

    def _scv(self, means: Sequence[float], variances: Sequence[float]) -> float:
        """The variance within the paths and between them, over the mean squared."""
        mean = self._mean(means)
        between = self._mean([(each - mean) ** 2 for each in means])
        return (self._mean(variances) + between) / mean**2

    def _error(self, variances: Sequence[float]) -> float:
        """Of the mean over all paths, from the variance within each: what lies between paths is no chance."""
        total = sum(url.weight for url in self.urls)
        parts = [(url.weight / total) ** 2 * v / url.requests for url, v in zip(self.urls, variances, strict=True)]
        return sqrt(sum(parts))

    def _mean(self, values: Sequence[float]) -> float:
        weights = [url.weight for url in self.urls]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
