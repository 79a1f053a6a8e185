"""What fits, of memory and of the database's connections, and the refusal where nothing does."""

import math
from collections.abc import Iterator

from farrier.errors import DoesNotFitError
from farrier.plan.draft import Draft
from farrier.plan.sized import given
from farrier.wording import counted, mb, number


def size(draft: Draft) -> None:
    """Workers and threads, within the CPUs and the memory of two slots.

    Raises:
        DoesNotFitError: not one worker fits.
    """
    draft.given = given(draft.facts.cpus, draft.facts.memory_mb, draft.workload, draft.overrides, draft.hosts)
    sized = draft.given.choose()
    if sized is None:
        demand = draft.given.demand
        raise DoesNotFitError(*_too_much(draft, demand.workers or 1, demand.per_worker or 1, draft.given.copies[-1]))
    draft.sized = sized


def _too_much(draft: Draft, workers: int, per_worker: int, copies: int) -> Iterator[str]:
    """Which limit the least that could be planned exceeds, memory or connections."""
    available = draft.budget.gunicorn_mb
    need = copies * draft.cost.slot_mb(workers, per_worker)
    slots = "two slots" if copies > 1 else "one slot"
    least = (
        f"no plan fits: {slots} of {counted(workers, 'worker')} with {counted(per_worker, draft.cost.unit)} each need "
    )
    if draft.cost.slot_mb(workers, per_worker) > math.floor(available / copies):
        yield (
            f"{least}{mb(math.ceil(need))} ({draft.cost.breakdown(workers, per_worker)} a slot), but the limit is "
            f"{mb(max(0, math.floor(available)))} ({draft.budget.breakdown()})"
        )
    connections = draft.connections
    if connections and connections.need(copies, workers * per_worker) > connections.granted:
        yield (
            f"{least}{counted(connections.need(copies, workers * per_worker), 'database connection')} "
            f"({connection_sum(draft, copies, workers, per_worker)}), but the limit is {number(connections.granted)} "
            "(database_connections)"
        )


def connection_sum(draft: Draft, copies: int, workers: int, per_worker: int) -> str:
    """The connections of all hosts written out: `2 hosts x 2 slots x 3 workers x 4 threads = 48`."""
    return (
        f"{counted(draft.hosts, 'host')} x {counted(copies, 'slot')} x {counted(workers, 'worker')} x "
        f"{counted(per_worker, draft.cost.unit)} = {number(draft.hosts * copies * workers * per_worker)}"
    )
