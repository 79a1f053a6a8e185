"""What fits, of memory and of the database's connections, and the refusal where nothing does."""

import math
from collections.abc import Iterator

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.plan.draft import Draft
from farrier.sizing import concurrency as threads
from farrier.sizing import greenlets
from farrier.sizing.concurrency import Concurrency, Demand
from farrier.sizing.memory import Cost
from farrier.wording import counted, mb, number


def fixed(draft: Draft) -> tuple[int | None, int | None]:
    """What the operator fixed of workers and threads; a sync worker has one thread."""
    threads = draft.fixed("gunicorn.threads")
    if draft.overrides.get("gunicorn.worker_class") == "sync":
        threads = 1
    return draft.fixed("gunicorn.workers"), threads


def choose(draft: Draft, demand: Demand) -> Concurrency:
    """The best that fits twice, or once where two slots cannot run side by side."""
    available = draft.budget.gunicorn_mb
    switch = draft.overrides.get("farrier.switch")
    tried = [1] if switch == "stop-start" else [policy.SLOTS_WHILE_SWITCHING]
    if switch is None:
        tried.append(1)

    def best(cost: Cost, copies: int) -> Concurrency | None:
        granted = draft.connections.each(copies) if draft.connections else None
        return (greenlets.choose if demand.greenlets else threads.choose)(demand, cost, available, copies, granted)

    for copies in tried:
        chosen = best(draft.cost, copies)
        if chosen:
            draft.copies = copies
            cautious = draft.cost.times(policy.ASSUMED_MEMORY_FACTOR)
            if draft.memory_assumed and not overlaps(draft, cautious, chosen):
                chosen = best(cautious, tried[-1]) or chosen
                draft.copies = copies if overlaps(draft, cautious, chosen) else tried[-1]
            return chosen
    raise DoesNotFitError(*_too_much(draft, demand.workers or 1, demand.threads or 1, tried[-1]))


def _too_much(draft: Draft, workers: int, threads: int, copies: int) -> Iterator[str]:
    """Which limit the least that could be planned exceeds, memory or connections."""
    available = draft.budget.gunicorn_mb
    need = copies * draft.cost.slot_mb(workers, threads)
    slots = "two slots" if copies > 1 else "one slot"
    least = f"no plan fits: {slots} of {counted(workers, 'worker')} with {counted(threads, draft.cost.kind)} each need "
    if draft.cost.slot_mb(workers, threads) > math.floor(available / copies):
        yield (
            f"{least}{mb(math.ceil(need))} ({draft.cost.breakdown(workers, threads)} a slot), but the limit is "
            f"{mb(max(0, math.floor(available)))} ({draft.budget.breakdown()})"
        )
    connections = draft.connections
    if connections and connections.need(copies, workers * threads) > connections.granted:
        yield (
            f"{least}{counted(connections.need(copies, workers * threads), 'database connection')} "
            f"({connection_sum(draft, copies, workers, threads)}), but the limit is {number(connections.granted)} "
            "(database_connections)"
        )


def overlaps(draft: Draft, cost: Cost, chosen: Concurrency) -> bool:
    """Whether two slots at this cost have room beside each other."""
    each = math.floor(draft.budget.gunicorn_mb / policy.SLOTS_WHILE_SWITCHING)
    return cost.slot_mb(chosen.workers, chosen.threads) <= each


def connection_sum(draft: Draft, copies: int, workers: int, threads: int) -> str:
    """The connections of all hosts written out: `2 hosts x 2 slots x 3 workers x 4 threads = 48`."""
    return (
        f"{counted(draft.hosts, 'host')} x {counted(copies, 'slot')} x {counted(workers, 'worker')} x "
        f"{counted(threads, draft.cost.kind)} = {number(draft.hosts * copies * workers * threads)}"
    )
