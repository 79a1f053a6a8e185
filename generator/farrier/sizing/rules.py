"""Other people's rules of thumb for the number of workers, as they are published: n CPUs, R MB of memory, M MB a process."""

import math
from collections.abc import Callable
from typing import NamedTuple


class Host(NamedTuple):
    """What the rules look at; nobody's rule asks what a request costs."""

    cpus: int
    memory_mb: float
    process_mb: float


class Rule(NamedTuple):
    """One rule: `formula` as its source writes it, `threads` of each worker (1: sync), and where it comes from."""

    name: str
    formula: str
    workers: Callable[[Host], float]
    threads: int
    source: str

    def choose(self, cpus: float, memory_mb: float, process_mb: float) -> tuple[int, int]:
        """Workers and threads for a host; at least one worker, and part of a CPU counts as a whole one."""
        host = Host(max(1, math.ceil(cpus)), memory_mb, process_mb)
        return max(1, math.floor(self.workers(host))), self.threads


RULES = (
    Rule("Gunicorn's defaults", "1", lambda host: 1, 1, "Gunicorn's settings reference: workers 1, threads 1, sync"),
    Rule("Gunicorn", "2n + 1", lambda host: 2 * host.cpus + 1, 1, "Gunicorn's design page, How Many Workers?"),
    Rule(
        "Passenger",
        "0.75 R / M",
        lambda host: 0.75 * host.memory_mb / host.process_mb,
        1,
        "Passenger's server optimization guide",
    ),
    Rule(
        "Heroku",
        "min(2n + 1, R / 256)",
        lambda host: min(2 * host.cpus + 1, host.memory_mb / 256),
        1,
        "Heroku's Python buildpack, WEB_CONCURRENCY",
    ),
    Rule(
        "sclorg",
        "min(2n, (R - 43) / 40, 12)",
        lambda host: min(2 * host.cpus, (host.memory_mb - 43) / 40, 12),
        1,
        "sclorg's s2i-python-container, WEB_CONCURRENCY",
    ),
    Rule("debops", "n + 1", lambda host: host.cpus + 1, 1, "DebOps, role gunicorn: vcpus + 1"),
    Rule("GitLab", "max(2, n), 4 threads", lambda host: max(2, host.cpus), 4, "GitLab's Puma defaults"),
    Rule("tiangolo", "max(n, 2)", lambda host: max(host.cpus, 2), 1, "tiangolo's uvicorn-gunicorn images"),
)
"""Eight rules in common use, each as its authors wrote it; GitLab's is the only one that also names threads."""
