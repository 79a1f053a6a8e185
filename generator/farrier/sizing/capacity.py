"""How many requests a second a number of workers and threads can carry.

C is the CPU seconds of a request, W the seconds it waits, a = W/C, c the usable CPUs, P the workers, T the threads each;
O is what other services on the same CPUs compute for it, which for a process is a part of W.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate

from farrier import policy

Utilisation = Callable[[int, float], float]
"""Share of one CPU that a process puts to use, from its concurrent requests and W/C."""

NEVER_WAITS = 1e-6
"""Below this W/C a request does nothing but compute, and the chain of `busy_cpus` would divide by next to nothing."""

NOTHING = 1e-18
"""A share too small to change a float: the rest of a sum that only falls from here is left out."""


@lru_cache(maxsize=4096)
def erlang_b(servers: int, offered: float) -> float:
    """Probability that all `servers` are busy when `offered` erlangs arrive and none may wait (Erlang 1917)."""
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked


def erlang_c(servers: float, offered: float) -> float:
    """Probability that a request has to wait for one of `servers`, 0 to 1; 1 at or above saturation."""
    if offered >= servers:
        return 1.0
    whole = max(1, math.floor(servers))
    blocked = erlang_b(whole, offered * whole / servers)
    utilisation = offered / servers
    return blocked / (1 - utilisation * (1 - blocked))


@lru_cache(maxsize=4096)
def process_utilisation(threads: int, wait_ratio: float) -> float:
    """Share of one CPU that a process with `threads` under the GIL puts to use: 1 - B(T, W/C), a machine-repair queue.

    Threads do not lift it above `policy.GIL_CEILING`, and those in line for the GIL cost `policy.GIL_THREAD_OVERHEAD` each.
    """
    alone = 1.0 - erlang_b(1, wait_ratio)
    if threads == 1:
        return alone
    busy = min(1.0 - erlang_b(threads, wait_ratio), policy.GIL_CEILING)
    in_line = max(0.0, threads - busy * (1 + wait_ratio))
    return max(alone, busy / (1 + policy.GIL_THREAD_OVERHEAD * in_line))


@lru_cache(maxsize=256)
def utilisations(wait_ratio: float) -> tuple[float, ...]:
    """`process_utilisation` for 1 to `policy.MAX_THREADS` threads, up to its highest value; beyond that it stays there."""
    reached = (process_utilisation(threads, wait_ratio) for threads in range(1, policy.MAX_THREADS + 1))
    return tuple(accumulate(reached, max))


def threads_for(share: float, wait_ratio: float) -> int | None:
    """The fewest threads with which a process keeps `share` of a CPU busy, or None where none do."""
    reached = utilisations(wait_ratio)
    threads = bisect_left(reached, share * (1 - 1e-9)) + 1
    return threads if threads <= len(reached) else None


@lru_cache(maxsize=65536)
def busy_cpus(concurrency: int, wait_ratio: float, cpus: float) -> float:
    """CPUs that `concurrency` requests in service keep busy, each computing C and waiting W: the repairmen are the CPUs.

    The birth-death chain p(k+1) = p(k) (N-k) C / (W min(k+1, c)) for k requests that want a CPU; returns E[min(k, c)].
    The sum begins at its largest term and goes both ways until what is left is nothing.
    """
    if wait_ratio < NEVER_WAITS:
        return min(float(concurrency), cpus)
    most_likely = int(max(concurrency - wait_ratio * cpus, concurrency / (1 + wait_ratio)))
    total, busy = 1.0, min(most_likely, cpus)
    weight = 1.0
    for k in range(most_likely, concurrency):
        used = k + 1 if k + 1 < cpus else cpus
        weight *= (concurrency - k) / (wait_ratio * used)
        total += weight
        busy += weight * used
        if weight < NOTHING * total:
            break
    weight = 1.0
    for k in range(most_likely, 0, -1):
        weight *= wait_ratio * (k if k < cpus else cpus) / (concurrency - k + 1)
        total += weight
        busy += weight * (k - 1 if k - 1 < cpus else cpus)
        if weight < NOTHING * total:
            break
    return busy / total


@lru_cache(maxsize=4096)
def greenlet_utilisation(greenlets: int, wait_ratio: float) -> float:
    """The same with greenlets: they take turns by themselves, so that nobody stands in line for the GIL."""
    return 1.0 - erlang_b(greenlets, wait_ratio)


def host_wait_ratio(cpu_seconds: float, wait_ratio: float, other_cpu_seconds: float) -> float:
    """(W - O) / (C + O): seconds in which a request keeps no CPU of the host busy, for each in which it does."""
    if not other_cpu_seconds:
        return wait_ratio
    return max(0.0, wait_ratio * cpu_seconds - other_cpu_seconds) / (cpu_seconds + other_cpu_seconds)


def capacity_rps(
    workers: int,
    per_worker: int,
    cpu_seconds: float,
    wait_ratio: float,
    cpus: float,
    *,
    utilisation: Utilisation = process_utilisation,
    other_cpu_seconds: float = 0.0,
) -> float:
    """Requests a second at saturation: what the processes can do under their GILs, and what the CPUs can do for all."""
    return min(
        workers * utilisation(per_worker, wait_ratio) / cpu_seconds,
        host_rps(workers * per_worker, cpu_seconds, wait_ratio, cpus, other_cpu_seconds),
    )


def host_rps(
    concurrency: int, cpu_seconds: float, wait_ratio: float, cpus: float, other_cpu_seconds: float = 0.0
) -> float:
    """Requests a second that the CPUs can do for all processes together."""
    busy = busy_cpus(concurrency, host_wait_ratio(cpu_seconds, wait_ratio, other_cpu_seconds), cpus)
    return busy / (cpu_seconds + other_cpu_seconds)


@lru_cache(maxsize=4096)
def concurrency_for(share: float, wait_ratio: float, cpus: float) -> int:
    """The fewest requests in service at once that keep `share` of the CPUs busy, or the most that can be planned.

    Mean value analysis (Reiser and Lavenberg 1980): what one request more keeps busy follows from the probabilities that it
    finds all CPUs taken, or all but the last; these follow it in turn. So `busy_cpus` need not be summed for each number.
    """
    most = policy.MAX_WORKERS * policy.MAX_THREADS  # more cannot be planned anyway
    never_in_line = share * cpus * (1 + wait_ratio) * (1 - 1e-9)
    concurrency = min(most, max(1, math.ceil(never_in_line)))
    if concurrency <= cpus or wait_ratio < NEVER_WAITS:
        return concurrency
    but_one = math.ceil(cpus) - 1
    busy, taken, last_free = _occupancy(concurrency, wait_ratio, cpus)
    while busy < share * cpus and concurrency < most:
        idle = 1 - taken - (but_one + 1 - cpus) * last_free  # what one more finds free of the CPU that it would take
        concurrency += 1
        in_line = concurrency - (1 + wait_ratio) * busy - idle
        busy = concurrency / (1 + wait_ratio + in_line / cpus)
        taken = (taken + last_free) * busy / cpus
        last_free *= wait_ratio * busy / (concurrency - but_one)
    return concurrency


def _occupancy(concurrency: int, wait_ratio: float, cpus: float) -> tuple[float, float, float]:
    """The CPUs that more requests than CPUs keep busy, and the probabilities that all are taken, and all but the last.

    The sums of `busy_cpus`, from the last CPU both ways.
    """
    but_one = math.ceil(cpus) - 1
    weight, above = 1.0, 0.0
    for k in range(but_one, concurrency):
        weight *= (concurrency - k) / (wait_ratio * cpus)
        above += weight
        if weight < NOTHING * above:
            break
    weight, below, busy = 1.0, 1.0, float(but_one)
    for k in range(but_one, 0, -1):
        weight *= wait_ratio * k / (concurrency - k + 1)
        below += weight
        busy += weight * (k - 1)
        if weight < NOTHING * below:
            break
    total = below + above
    return (busy + cpus * above) / total, above / total, 1 / total
