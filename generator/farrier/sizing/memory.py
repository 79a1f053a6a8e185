"""What Gunicorn needs in memory, and what a host has left for it. All figures in MB."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from farrier import policy
from farrier.wording import mb, number


@dataclass(frozen=True)
class Cost:
    """Memory of the application: `private` of a worker after warm traffic, `shared` after preload, `request` of each concurrent request."""

    private_mb: float
    shared_mb: float
    preload: bool
    request_mb: float = policy.THREAD_MB
    unit: str = "thread"
    """What serves a concurrent request."""

    @cached_property
    def process_mb(self) -> float:
        """One worker more costs this without its requests."""
        return (0.0 if self.preload else self.shared_mb) + self.private_mb

    def worker_mb(self, per_worker: int) -> float:
        """One worker more costs this."""
        return self.process_mb + per_worker * self.request_mb

    def slot_mb(self, workers: int, per_worker: int) -> float:
        """One slot: the master, which holds the shared part when it preloads, and its workers."""
        return self.shared_mb + workers * self.worker_mb(per_worker)

    def times(self, factor: float) -> Self:
        """The cost of an application that takes so many times as much."""
        each = {name: factor * getattr(self, name) for name in ("private_mb", "shared_mb", "request_mb")}
        return replace(self, **each)

    def breakdown(self, workers: int, per_worker: int) -> str:
        """The sum of `slot_mb` written out."""
        process = number(self.process_mb)
        return (
            f"{number(self.shared_mb)} MB master + {number(workers)} x ({process} MB worker + {number(per_worker)} x "
            f"{number(self.request_mb)} MB {self.unit}s) = {mb(math.ceil(self.slot_mb(workers, per_worker)))}"
        )


@dataclass(frozen=True)
class Budget:
    """Memory that Gunicorn may take: what the host has, less the reserve and NGINX."""

    usable_mb: float
    reserve_mb: float
    nginx_mb: float

    @property
    def gunicorn_mb(self) -> float:
        """Left for both slots together; negative where even the reserve does not fit."""
        return self.usable_mb - self.reserve_mb - self.nginx_mb

    def breakdown(self) -> str:
        """How the budget comes about."""
        return (
            f"{mb(self.usable_mb)} usable - {mb(self.reserve_mb)} reserve - {mb(self.nginx_mb)} for NGINX = "
            f"{mb(self.gunicorn_mb)}"
        )


def budget(usable_mb: float, nginx_processes: int) -> Budget:
    """The budget of a host that has `usable_mb` for everything."""
    return Budget(
        usable_mb,
        max(policy.RESERVE_MINIMUM_MB, math.ceil(usable_mb * policy.RESERVE_SHARE)),
        nginx_processes * policy.NGINX_PROCESS_MB,
    )


def largest_workers(slot_mb: float, cost: Cost, threads: int) -> int:
    """The most workers with `threads` threads that fit into a slot of `slot_mb`; 0 where none fits."""
    return max(0, math.floor((slot_mb - cost.shared_mb) / cost.worker_mb(threads)))


def largest_threads(slot_mb: float, cost: Cost, workers: int) -> int:
    """The most threads per worker that fit into a slot of `slot_mb`; 0 where not even one does."""
    processes_mb = cost.shared_mb + workers * cost.process_mb
    return max(0, math.floor((slot_mb - processes_mb) / (workers * cost.request_mb)))
