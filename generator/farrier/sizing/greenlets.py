"""How many processes, and how many requests at once in each, where gevent's greenlets take the place of threads."""

import math

from farrier import policy
from farrier.sizing.concurrency import Choice, Demand
from farrier.sizing.memory import Cost, largest_threads


def choose(
    demand: Demand, cost: Cost, available_mb: float, copies: int, connections: int | None = None
) -> Choice | None:
    """A process for each CPU, with a multiple of the requests that are in service at its capacity; None where not one fits.

    A process uses one CPU, whatever its greenlets do. Where memory or connections hold less than all, the pair of the most
    capacity that they do hold.
    """
    slot_mb = math.floor(available_mb / copies)
    most = demand.workers or max(policy.MINIMUM_WORKERS, math.ceil(demand.cpus))
    best: Choice | None = None
    best_rps = 0.0
    for workers in range(most, 0, -1) if demand.workers is None else (most,):
        wanted = demand.per_worker or in_service(demand, workers)
        fits = largest_threads(slot_mb, cost, workers)
        granted = wanted if connections is None else connections // workers
        least = demand.per_worker or 1
        if min(fits, granted) < least:
            continue
        found = Choice(workers, min(wanted, fits, granted), _bound(demand, wanted, fits, granted))
        reached = demand.capacity(found.workers, found.per_worker)
        if best is None or reached > best_rps * (1 + 1e-9):
            best, best_rps = found, reached
    return best


def in_service(demand: Demand, workers: int) -> int:
    """Little's law at the capacity of one process, which is C / c of a CPU, times the margin: m (1 + W/C) min(1, c / P)."""
    return math.ceil(policy.GREENLET_MARGIN * (1 + demand.wait_ratio) * min(1.0, demand.own_cpus / workers))


def _bound(demand: Demand, wanted: int, fits: int, granted: int) -> str:
    if min(fits, granted) < wanted:
        return "memory" if fits <= granted else "database"
    return "override" if demand.workers or demand.per_worker else "cpu"
