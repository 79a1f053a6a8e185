"""What fits, of memory and of the database's connections: the refusal where nothing does, and how a deploy switches."""

import math
from collections.abc import Iterator

from farrier import policy
from farrier.plan.draft import Draft
from farrier.sizing.concurrency import Concurrency
from farrier.sizing.memory import Cost
from farrier.wording import counted, mb, number


def too_much(draft: Draft, workers: int, threads: int, copies: int) -> Iterator[str]:
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


def decide_switch(draft: Draft, chosen: Concurrency) -> None:
    """Whether two slots run side by side during a deploy, by what fits."""
    slot = draft.cost.slot_mb(chosen.workers, chosen.threads)
    left, factor = mb(draft.budget.gunicorn_mb), number(policy.ASSUMED_MEMORY_FACTOR)
    doubtful = draft.memory_assumed and not overlaps(draft, draft.cost.times(policy.ASSUMED_MEMORY_FACTOR), chosen)
    if draft.copies == policy.SLOTS_WHILE_SWITCHING and not doubtful:
        fit = f"of {mb(slot)} fit into the {left} left for Gunicorn"
        if draft.memory_assumed:
            fit = f"fit into the {left} left for Gunicorn even if one takes {factor} x the {mb(slot)} assumed"
        draft.calculated("farrier.switch", "overlap", f"Two slots {fit}, so the new release starts beside the old one.")
        return
    if doubtful and 2 * slot <= draft.budget.gunicorn_mb:
        _switch_by_assumption(draft, slot)
        return
    connections = draft.connections
    if (
        connections
        and connections.each(policy.SLOTS_WHILE_SWITCHING) < chosen.slots
        and 2 * slot <= draft.budget.gunicorn_mb
    ):
        _switch_without_connections(draft, chosen)
        return
    draft.calculated(
        "farrier.switch",
        "stop-start",
        f"Two slots of {mb(slot)} do not fit into the {left} left for Gunicorn, so the old one stops first while the "
        "queue holds the requests.",
    )
    if not draft.is_override("farrier.switch"):
        draft.warnings.append(
            f"memory holds one slot only: {_wait(draft)}; {mb(math.ceil(2 * slot - draft.budget.gunicorn_mb))} more would "
            "let two overlap"
        )


def _switch_by_assumption(draft: Draft, slot: float) -> None:
    """Two slots would fit if they took what is assumed, which nobody knows."""
    factor, left = number(policy.ASSUMED_MEMORY_FACTOR), mb(draft.budget.gunicorn_mb)
    draft.calculated(
        "farrier.switch",
        "stop-start",
        f"The {mb(slot)} of a slot are assumed: two that take {factor} x as much would not fit into the {left} left for "
        "Gunicorn, so the old one stops first while the queue holds the requests.",
    )
    if not draft.is_override("farrier.switch"):
        draft.warnings.append(f"as memory is assumed, slots do not overlap: {_wait(draft)}")


def _wait(draft: Draft) -> str:
    """What a deploy costs where the new slot can start only after the old one has stopped."""
    return (
        "during a deploy requests wait in the queue until the old slot has ended its last ones, and for about "
        f"{number(draft.workload.boot_seconds, 1)} s of boot"
    )


def _switch_without_connections(draft: Draft, chosen: Concurrency) -> None:
    """Two slots would fit into memory, but not into what the database grants."""
    used = connection_sum(draft, policy.SLOTS_WHILE_SWITCHING, chosen.workers, chosen.threads)
    granted = draft.workload.database_connections or 0
    draft.calculated(
        "farrier.switch",
        "stop-start",
        f"Two slots would use {used} database connections of {number(granted)}, so the old one stops first while the queue "
        "holds the requests.",
    )
    if not draft.is_override("farrier.switch"):
        draft.warnings.append(
            f"the database's connections are enough for one slot only: {_wait(draft)}; "
            f"{number(policy.SLOTS_WHILE_SWITCHING * draft.hosts * chosen.slots - granted)} more connections would let two "
            "overlap"
        )
