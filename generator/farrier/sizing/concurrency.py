"""How many workers and threads: the most capacity that fits into memory, then the least memory for it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from farrier import policy
from farrier.sizing.capacity import (
    Utilisation,
    capacity_rps,
    concurrency_for,
    host_rps,
    host_wait_ratio,
    process_utilisation,
    threads_for,
    utilisations,
)
from farrier.sizing.memory import Cost, largest_threads, largest_workers


@dataclass(frozen=True)
class Demand:
    """The work (C, W/C), the CPUs it may use, and what the operator has fixed already (None: free)."""

    cpu_seconds: float
    wait_ratio: float
    cpus: float
    workers: int | None = None
    per_worker: int | None = None
    few_threads: bool = False
    """Whether threads hold each other up, so that processes are worth some memory."""
    utilisation: Utilisation = process_utilisation
    """How the concurrent requests of a worker share a CPU."""
    other_cpu_seconds: float = 0.0
    """O: what other services on the same CPUs compute for a request, while it waits."""

    def capacity(self, workers: int, per_worker: int) -> float:
        """Requests a second at saturation."""
        return capacity_rps(
            workers,
            per_worker,
            self.cpu_seconds,
            self.wait_ratio,
            self.cpus,
            utilisation=self.utilisation,
            other_cpu_seconds=self.other_cpu_seconds,
        )

    def host_rps(self, concurrency: int) -> float:
        """What the CPUs can do for so many requests in service, whatever the processes can."""
        return host_rps(concurrency, self.cpu_seconds, self.wait_ratio, self.cpus, self.other_cpu_seconds)

    @property
    def ideal_rps(self) -> float:
        """What the CPUs could do if nothing stood in the way: c / (C + O)."""
        return self.cpus / (self.cpu_seconds + self.other_cpu_seconds)

    @property
    def own_cpus(self) -> float:
        """CPUs that are left for Gunicorn and NGINX when all are busy: c C / (C + O)."""
        return self.cpus * (self.cpu_seconds / (self.cpu_seconds + self.other_cpu_seconds))

    @property
    def host_wait_ratio(self) -> float:
        """What a request waits for something else than this host's CPUs, for each second in which it keeps one busy."""
        return host_wait_ratio(self.cpu_seconds, self.wait_ratio, self.other_cpu_seconds)


@dataclass(frozen=True)
class Choice:
    """Workers and concurrent requests of each; `bound` is what keeps them down: `cpu`, `memory`, `database` or `override`."""

    workers: int
    per_worker: int
    bound: str
    instead_of: "Choice | None" = None
    """The cheapest choice, where another one has fewer threads."""

    @property
    def concurrency(self) -> int:
        """Requests in service at once."""
        return self.workers * self.per_worker


def choose(
    demand: Demand, cost: Cost, available_mb: float, copies: int, connections: int | None = None
) -> Choice | None:
    """The best workers and threads of which `copies` slots fit into `available_mb`, or None where not one worker does.

    Unlimited memory is asked first: the cheapest pair at the knee of the capacity. Where that does not fit,
    the pair with the most capacity that does, and of equals the smaller one. A slot has at most `connections` requests
    in service; where fewer than would be chosen, they are the bound.
    """
    each_mb = math.floor(available_mb / copies)  # whole, as MemoryMax will be
    hopeless = demand.workers is None and cost.slot_mb(_fewest_workers(demand), 1) > each_mb
    options = () if hopeless else _at_the_knee(demand, cost)
    wanted = _preferred(options, demand, each_mb / policy.MEMORY_MAX_FACTOR)
    chosen = _fit(wanted, demand, cost, each_mb)
    if connections is None or (chosen and chosen.concurrency <= connections):
        return chosen
    return _fit(_of_connections(demand, cost, connections), demand, cost, each_mb, connections)


def _fit(
    wanted: Choice | None, demand: Demand, cost: Cost, slot_mb: int, connections: int | None = None
) -> Choice | None:
    """What is wanted where it fits into memory, else the most capacity that does."""
    if wanted and cost.slot_mb(wanted.workers, wanted.per_worker) <= slot_mb:
        return wanted
    pairs = [
        (workers * process_utilisation(threads, demand.wait_ratio) / demand.cpu_seconds, workers, threads)
        for workers, threads in _fitting(demand, cost, slot_mb, connections)
    ]
    if not pairs:
        return None
    enough = _most_rps(demand, pairs) / (1 + 1e-9)
    workers, threads = next(
        (workers, threads)
        for by_processes, workers, threads in pairs
        if by_processes >= enough and demand.host_rps(workers * threads) >= enough
    )
    return Choice(workers, threads, "memory")


def _most_rps(demand: Demand, pairs: list[tuple[float, int, int]]) -> float:
    """The most that any of the pairs carries: the lesser of what its processes can do, and what the CPUs can do for its concurrency.

    Of pairs with less concurrency only those count whose processes can do more; along these the one rises and the other falls, so
    the best is where they cross.
    """
    front: list[tuple[float, int]] = []
    for concurrency, by_processes in sorted(
        ((workers * threads, rps) for rps, workers, threads in pairs), reverse=True
    ):
        if not front or by_processes > front[-1][0]:
            front.append((by_processes, concurrency))
    low, high = 0, len(front)
    while low < high:
        middle = (low + high) // 2
        if front[middle][0] >= demand.host_rps(front[middle][1]):
            high = middle
        else:
            low = middle + 1
    below = front[low - 1][0] if low else 0.0
    return max(below, demand.host_rps(front[low][1]) if low < len(front) else 0.0)


@lru_cache(maxsize=1024)
def _of_connections(demand: Demand, cost: Cost, connections: int) -> Choice | None:
    """The cheapest pair near the most that so many requests in service can do, memory set aside."""
    pairs = [(demand.capacity(*pair), *pair) for pair in _sharing(demand, connections)]
    if not pairs:
        return None
    most, enough = max(pairs)[0], policy.KNEE * demand.ideal_rps
    near = enough if most >= enough else policy.KNEE * most
    _, threads, workers = min((cost.slot_mb(p, t), t, p) for reached, p, t in pairs if reached >= near)
    return Choice(workers, threads, "cpu" if most >= enough else "database")


def _sharing(demand: Demand, connections: int) -> Iterator[tuple[int, int]]:
    """Pairs with at most so many requests in service: for each number of workers, threads as far as they help."""
    enough = demand.per_worker or _saturating_threads(demand)
    most = min(policy.MAX_WORKERS, connections // (demand.per_worker or 1))
    low = min(most, _fewest_workers(demand))
    for workers in range(max(1, low), most + 1) if demand.workers is None else (demand.workers,):
        threads = min(enough, connections // workers)
        if threads >= (demand.per_worker or 1):
            yield workers, threads


def _preferred(options: Sequence[tuple[float, Choice]], demand: Demand, ample_mb: float) -> Choice | None:
    """The cheapest of the options, or with `few_threads` the one of the fewest threads that takes little more."""
    if not options:
        return None
    least_mb, cheapest = options[0]
    best = cheapest
    for need, option in options if demand.few_threads else ():
        if need <= min(ample_mb, policy.CONVOY_MEMORY_FACTOR * least_mb) and option.per_worker < best.per_worker:
            best = option
    return cheapest if best is cheapest else replace(best, instead_of=cheapest)


@lru_cache(maxsize=1024)
def _at_the_knee(demand: Demand, cost: Cost) -> tuple[tuple[float, Choice], ...]:
    """Pairs that reach `policy.KNEE` of what the CPUs can do, memory set aside, with what a slot of each takes in MB.

    The cheapest comes first, then those that cost more but have fewer threads.
    """
    if demand.workers is not None and demand.per_worker is not None:
        chosen = Choice(demand.workers, demand.per_worker, "override")
        return ((cost.slot_mb(chosen.workers, chosen.per_worker), chosen),)
    concurrency = concurrency_for(policy.KNEE, demand.host_wait_ratio, demand.cpus)
    pairs = []
    first, last = _worker_range(demand, concurrency)
    reached, most = utilisations(demand.wait_ratio), demand.per_worker or policy.MAX_THREADS
    workers = first
    while most and workers <= last:
        threads = _threads_beside(workers, concurrency, demand)
        if threads is not None:
            pairs.append((cost.slot_mb(workers, threads), threads, workers))
            most = threads - 1  # another process only costs more unless it saves threads
        least = policy.KNEE * demand.own_cpus * (1 - 1e-9) / reached[min(most, len(reached)) - 1]
        workers = max(workers + 1, math.ceil(concurrency / max(1, most)), math.floor(least))
    if not pairs and demand.workers is not None:  # these cannot use all CPUs: as many threads as still help
        threads = _saturating_threads(demand)
        pairs.append((cost.slot_mb(demand.workers, threads), threads, demand.workers))
    found: list[tuple[float, Choice]] = []
    for need, threads, workers in sorted(pairs):
        if not found or threads < found[-1][1].per_worker:
            found.append((need, Choice(workers, threads, "override" if demand.workers else "cpu")))
    return tuple(found)


def _worker_range(demand: Demand, concurrency: int) -> tuple[int, int]:
    """The fewest and the most workers that are worth a look."""
    if demand.workers is not None:
        return demand.workers, demand.workers
    low = _fewest_workers(demand)
    return low, min(policy.MAX_WORKERS, max(low, math.ceil(concurrency * 1.5)))


def _fewest_workers(demand: Demand) -> int:
    """A process for each CPU; with fewer, some CPU has nothing to do."""
    return max(policy.MINIMUM_WORKERS, math.ceil(demand.cpus))


def _threads_beside(workers: int, concurrency: int, demand: Demand) -> int | None:
    """The fewest threads with which `workers` processes hold `concurrency` requests and keep the CPUs busy under their GILs."""
    least = threads_for(policy.KNEE * demand.own_cpus / workers, demand.wait_ratio)
    if least is None:
        return None
    least = max(least, math.ceil(concurrency / workers))
    if demand.per_worker is not None:
        return demand.per_worker if demand.per_worker >= least else None
    return least if least <= policy.MAX_THREADS else None


def _saturating_threads(demand: Demand) -> int:
    """The fewest threads at which a process is as busy as its GIL allows."""
    return threads_for(policy.KNEE * utilisations(demand.wait_ratio)[-1], demand.wait_ratio) or policy.MAX_THREADS


def _fitting(demand: Demand, cost: Cost, slot_mb: int, connections: int | None) -> Iterator[tuple[int, int]]:
    """Pairs at the edge of memory or connections: for each number of workers, threads up to what fits and still helps."""
    enough = demand.per_worker or _saturating_threads(demand)
    concurrency = policy.MAX_WORKERS * policy.MAX_THREADS if connections is None else connections
    all_cpus = math.floor(policy.KNEE * demand.cpus)
    many = min(policy.MAX_WORKERS, largest_workers(slot_mb, cost, demand.per_worker or 1), concurrency)
    for workers in _worker_steps(demand, many):
        threads = min(largest_threads(slot_mb, cost, workers), concurrency // workers, enough)
        if threads >= (demand.per_worker or 1):
            yield workers, threads
        if workers >= all_cpus and workers >= concurrency_for(policy.KNEE, demand.host_wait_ratio, demand.cpus):
            return  # one thread each is enough for the CPUs


def _worker_steps(demand: Demand, most: int) -> Iterator[int]:
    """Numbers of workers to try: each up to 32, then in steps of 3 %, and always the most that fits."""
    if demand.workers is not None:
        yield from [demand.workers] if demand.workers <= most else []
        return
    workers = 1
    while workers < most:
        yield workers
        workers += max(1, workers // 32)
    if most >= 1:
        yield most
