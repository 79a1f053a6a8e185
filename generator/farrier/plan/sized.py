"""How many workers and threads, in numbers only: what a plan is made from, and what more of something would make of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from farrier import policy
from farrier.facts.model import HostFacts
from farrier.project.workload import Workload
from farrier.settings import Value
from farrier.sizing.concurrency import Choice, Demand
from farrier.sizing.connections import Connections
from farrier.sizing.latency import Service
from farrier.sizing.memory import Budget, Cost, budget
from farrier.sizing.worker import GTHREAD, KINDS, SYNC, WorkerKind


@dataclass(frozen=True)
class Basis:
    """What a plan is made from; the `hosts` of the environment share the database's connections."""

    facts: HostFacts
    workload: Workload
    overrides: Mapping[str, Value]
    hosts: int = 1


class Given(NamedTuple):
    """What workers and their concurrency are chosen from.

    `kind` is the operator's, if any, `copies` are the numbers of slots beside each other, the best first.
    """

    kind: WorkerKind | None
    demand: Demand
    cost: Cost
    budget: Budget
    connections: Connections | None
    hosts: int
    copies: tuple[int, ...]
    memory_assumed: bool

    def choose(self) -> "Sized | None":
        """The best that fits twice, or once where two slots cannot run side by side; None where nothing fits."""
        least = self.copies[-1]
        for copies in self.copies:
            chosen = self._best(self.cost, copies)
            if chosen is None:
                continue
            fits = copies
            if self.memory_assumed and not self.overlaps(chosen, policy.ASSUMED_MEMORY_FACTOR):
                chosen = self._best(self.cost.times(policy.ASSUMED_MEMORY_FACTOR), least) or chosen
                fits = copies if self.overlaps(chosen, policy.ASSUMED_MEMORY_FACTOR) else least
            return Sized(self, fits, chosen, self.demand.capacity(chosen.workers, chosen.per_worker))
        return None

    def overlaps(self, chosen: Choice, factor: float = 1.0) -> bool:
        """Whether two slots that take `factor` times the cost have room beside each other."""
        each = math.floor(self.budget.gunicorn_mb / policy.SLOTS_WHILE_SWITCHING)
        return self.cost.times(factor).slot_mb(chosen.workers, chosen.per_worker) <= each

    def _best(self, cost: Cost, copies: int) -> Choice | None:
        granted = self.connections.each(copies) if self.connections else None
        return (self.kind or GTHREAD).choose(self.demand, cost, self.budget.gunicorn_mb, copies, granted)


@dataclass(frozen=True)
class Sized:
    """The choice, for `copies` slots beside each other, and what it carries."""

    given: Given
    copies: int
    chosen: Choice
    capacity_rps: float

    @property
    def kind(self) -> WorkerKind:
        """The operator's, else sync where one request at a time in each worker is enough."""
        return self.given.kind or (SYNC if self.chosen.per_worker == 1 else GTHREAD)

    @property
    def slot_mb(self) -> float:
        """What a slot should need."""
        return self.given.cost.slot_mb(self.chosen.workers, self.chosen.per_worker)

    def fits(self, memory_mb: int) -> bool:
        """Whether a host with so much memory has room for this choice."""
        each = budget(memory_mb, math.ceil(self.given.demand.cpus)).gunicorn_mb / self.copies
        factor = policy.ASSUMED_MEMORY_FACTOR if self.given.memory_assumed else 1.0
        return factor * self.slot_mb <= math.floor(each)

    def service(self, work: Workload) -> Service:
        """The choice at the workload that it was made for."""
        demand = self.given.demand
        return Service(
            self.chosen.workers,
            self.chosen.per_worker,
            demand.cpu_seconds,
            work.wait_seconds,
            demand.cpus,
            work.service_scv,
            demand.utilisation,
            demand.other_cpu_seconds,
        )

    @property
    def connections_needed(self) -> int:
        """Connections of the whole environment, were all its hosts like this one."""
        return Connections(0, self.given.hosts).need(self.copies, self.chosen.concurrency)


def given(cpus: float, memory_mb: int, work: Workload, overrides: Mapping[str, Value], hosts: int) -> Given:
    """What follows from facts, workload and the operator's values before anything is chosen."""
    own_kind = KINDS.get(str(overrides.get("gunicorn.worker_class")))
    kind = own_kind or GTHREAD
    cost = Cost(
        work.memory_private_mb,
        work.memory_shared_mb,
        kind.may_preload and bool(overrides.get("gunicorn.preload_app", work.preload_safe)),
        kind.request_mb or work.memory_thread_mb,
        kind.unit,
    )
    demand = Demand(
        work.serving_cpu_seconds,
        work.wait_ratio,
        cpus,
        fixed(overrides, "gunicorn.workers"),
        kind.per_worker or fixed(overrides, kind.setting),
        few_threads=work.makes_convoys and kind.gives_way,
        utilisation=kind.utilisation,
        other_cpu_seconds=work.other_cpu_seconds,
    )
    granted = work.database_connections
    return Given(
        own_kind,
        demand,
        cost,
        budget(memory_mb, math.ceil(cpus)),
        None if granted is None else Connections(granted, hosts),
        hosts,
        _copies(overrides.get("farrier.switch")),
        work.memory_is_assumed and "systemd.MemoryMax" not in overrides,
    )


def fixed(overrides: Mapping[str, Value], name: str) -> int | None:
    """The operator's number for a setting, or None where it is free."""
    value = overrides.get(name)
    return None if value is None or isinstance(value, str) else int(value)


def _copies(switch: Value | None) -> tuple[int, ...]:
    """Two slots side by side, and one where the operator lets it stop first or has not said."""
    if switch == "stop-start":
        return (1,)
    return (policy.SLOTS_WHILE_SWITCHING, 1) if switch is None else (policy.SLOTS_WHILE_SWITCHING,)
