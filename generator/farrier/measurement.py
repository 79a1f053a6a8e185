"""From what was seen on a host to what a request costs: means, spread, memory, whether preload is safe. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import Any

from farrier import policy
from farrier.errors import DoesNotFitError, InputError
from farrier.pace import Pace, follows_speed
from farrier.units import ceil_to, counted, mb, milliseconds, number

Document = Mapping[str, Any]


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
class Memory:
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
    plain: Memory
    preloaded: Memory | None
    thread_mb: float
    alone: tuple[int, int]
    busy: tuple[int, int]
    """Requests and their CPU in µs of a worker that had one at a time, and of one that had many, by turns."""
    unsafe: tuple[str, ...]
    delayed_share: float
    stolen_share: float
    """For each second that the CPUs computed, how long the hypervisor kept them from it."""
    python: str
    reference_seconds: float

    @property
    def requests(self) -> int:
        """Measured requests of all paths."""
        return sum(url.requests for url in self.urls)

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
    def memory(self) -> Memory:
        """The figures for the way in which the plan will run it, such that `sizing.memory.Cost` gives what was seen.

        Each worker that was seen had one busy thread, which is counted as such. Without preload a worker costs both;
        what master and workers share through the page cache is the shared part.
        """
        if self.preload_safe and self.preloaded:
            private, shared = self.preloaded.private_mb, self.preloaded.shared_mb
        else:
            private, shared = self.plain.private_mb - self.plain.shared_mb, self.plain.shared_mb
        return Memory(max(1.0, private - self.thread_mb), shared)

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


def evaluate(
    found: Document, weights: Mapping[str, float], notes: Sequence[str] = (), seconds: float | None = None
) -> Measured:
    """What the phases `plain`, `preload` and `threads` of a measurement of `seconds` say together; `weights` by name.

    Raises:
        InputError: no path was answered often enough, or at random speed.
        DoesNotFitError: the workers grew all the time.
    """
    plain = found["plain"]
    skipped = [*notes, *(_not_answered(probe) for probe in plain["probes"] if not 200 <= probe["status"] < 400)]
    urls = []
    for path in dict.fromkeys(plain["names"]):
        samples = [sample for sample in plain["samples"] if plain["names"][sample[0]] == path]
        good = [sample for sample in samples if 200 <= sample[1] < 400]
        if len(good) < len(samples):
            skipped.append(f"{path}: {len(samples) - len(good)} of {len(samples)} answers were no 2xx or 3xx")
        if len(good) >= policy.MEASURE_MINIMUM_REQUESTS:
            urls.append(_cost(path, weights[path], good, plain["stolen_share"]))
        elif len(good) == len(samples):
            skipped.append(f"{path}: {len(good)} answers are too few; measure for longer with --seconds")
    if not urls:
        raise InputError("no URL could be measured: " + "; ".join(skipped))
    _refuse_growth(plain["growth_kb"], len(plain["samples"]))
    walls = sum(sample[4] for sample in plain["samples"])
    preloaded = found["preload"]
    measured = Measured(
        tuple(urls),
        tuple(skipped),
        tuple(plain["boots"]),
        plain["longest_segment"],
        memory_of(plain["memory"]),
        memory_of(preloaded["memory"]) if "memory" in preloaded else None,
        thread_mb(found["threads"]["steps"]),
        tuple(found["threads"]["alone"]),
        tuple(found["threads"]["busy"]),
        tuple(unsafe_to_preload(plain["held"], preloaded)),
        sum(sample[6] for sample in plain["samples"]) / walls if walls else 0.0,
        plain["stolen_share"],
        plain["held"]["python"],
        _average([sample[8] for sample in plain["samples"]]) / 1e6,
    )
    _refuse_chance(measured, seconds)
    return measured


def _not_answered(probe: Document) -> str:
    return f"{probe['path']}: {probe['error'] or 'answers ' + str(probe['status'])}; not measured"


def _cost(path: str, weight: float, samples: Sequence[Sequence[int]], stolen_share: float) -> UrlCost:
    """Samples hold position, status, bytes, and microseconds: all CPU; wall, CPU, delay, own CPU of the client; reference.

    Those from wall to own CPU are between question and answer; delay is standing ready without a CPU, here or there.
    """
    cpu = [sample[3] / 1e6 for sample in samples]
    # Who computes, there or here, makes the other one stand ready: the larger figure holds the smaller one. What the hypervisor
    # takes from a CPU that computes is in no process' clock: its mean is taken out. The rest is waiting for somebody else.
    wait = [(w - c - max(delay, own) - stolen_share * (c + own + ref)) / 1e6 for *_, w, c, delay, own, ref in samples]
    mean_cpu, mean_wait = max(1e-6, _average(cpu)), max(0.0, _average(wait))
    variance = _variance([max(0.0, c + w) for c, w in zip(cpu, wait, strict=True)])
    return UrlCost(
        path,
        weight,
        samples[-1][1],
        len(samples),
        mean_cpu,
        mean_wait,
        variance / (mean_cpu + mean_wait) ** 2,
        round(median(sample[2] for sample in samples)),
        _variance(cpu),
        variance,
        follows_speed([(sample[3], sample[8]) for sample in samples]),
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _average(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def memory_of(found: Document) -> Memory:
    """Memory of master and workers together: each one's private pages, and the shared ones once."""
    workers = found["workers"]
    shared = max(process["shared"] for process in [found["master"], *workers]) + found["master"]["private"]
    return Memory(median(worker["private"] for worker in workers) / 1024, shared / 1024)


def thread_mb(steps: Sequence[Sequence[float]]) -> float:
    """MB that each further thread took, from (threads, private KB) with few and with many of them busy."""
    (few, little), (many, much) = steps
    return max(0.0, (much - little) / (many - few) / 1024) if many > few else 0.0


def unsafe_to_preload(plain: Document, preloaded: Document) -> list[str]:
    """What a fork would break, each in words; `plain` is the master without the application."""
    if "failed" in preloaded:
        return [f"with preload {preloaded['failed']}"]
    held = preloaded["held"]
    found = [f"import starts a thread named {name}" for name in held["threads"]]
    native = len(held["native"]) - len(plain["native"]) - len(held["threads"])
    if native > 0:
        found.append(
            f"import starts {counted(native, 'thread')} outside Python ({', '.join(sorted(set(held['native'])))})"
        )
    before = list(plain["sockets"])
    for each in held["sockets"]:
        if each in before:
            before.remove(each)
        else:
            found.append(f"import opens a socket {each}")
    return found


def _refuse_growth(growth_kb: Sequence[int], requests: int) -> None:
    """A leak: memory of the workers grows by much, and in the second half of the requests about as fast as in the first."""
    begin, half, end = growth_kb
    total, second = end - begin, end - half
    if total < max(policy.MEASURE_LEAK_MB * 1024, policy.MEASURE_LEAK_SHARE * begin):
        return
    if second >= policy.MEASURE_LEAK_PERSISTS * (half - begin):
        raise DoesNotFitError(
            f"the application leaks: its workers grew from {mb(begin / 1024)} to {mb(end / 1024)} during "
            f"{requests} requests, about {number(total / requests, 1)} KB each, and did not stop; if that is a cache that "
            "fills, measure for longer with --seconds"
        )


def _refuse_chance(measured: Measured, seconds: float | None) -> None:
    """Requests at random speed: what one more run would find is anybody's guess, and so would be the plan."""
    cpu, service = measured.uncertainty, measured.service_uncertainty
    worst = max(cpu, service)
    if worst <= policy.MEASURE_UNKNOWN:
        return
    what = "CPU" if cpu >= service else "CPU and wait"
    mean = measured.cpu_seconds if cpu >= service else measured.cpu_seconds + measured.wait_seconds
    advice = "measure for longer with --seconds"
    if seconds is not None:
        needed = ceil_to(seconds * (worst / policy.MEASURE_UNKNOWN) ** 2, 10)
        advice = f"measure with --seconds {needed} or more"
        if needed > policy.MEASURE_MOST_SECONDS:
            advice = "no bearable time would do"
    raise InputError(
        f"requests are answered at random speed: {what} of one is {milliseconds(mean)}, but after "
        f"{counted(measured.requests, 'request')} that is known to ±{number(200 * worst, 0)} % only, where "
        f"±{number(200 * policy.MEASURE_UNKNOWN, 0)} % is the least that a plan can follow from; {advice}, or ask with "
        "`application.urls` for paths that do the same work each time"
    )
