"""What fits, of memory and of the database's connections, and the refusal where nothing does."""

import math
from collections.abc import Iterator

from farrier.errors import DoesNotFitError
from farrier.plan.sized import Basis, Given, Sized, given
from farrier.sizing.concurrency import Choice
from farrier.wording import counted, mb, number


def size(basis: Basis) -> Sized:
    """Workers and threads, within the CPUs and the memory of two slots.

    Raises:
        DoesNotFitError: not one worker fits.
    """
    found = given(basis.facts.cpus, basis.facts.memory_mb, basis.workload, basis.overrides, basis.hosts)
    sized = found.choose()
    if sized is None:
        raise DoesNotFitError(*_too_much(found))
    return sized


def _too_much(given: Given) -> Iterator[str]:
    """Which limit the least that could be planned exceeds, memory or connections."""
    least = Choice(given.demand.workers or 1, given.demand.per_worker or 1, "override")
    copies, available, connections = given.copies[-1], given.budget.gunicorn_mb, given.connections
    slot_mb = given.cost.slot_mb(least.workers, least.per_worker)
    start = (
        f"no plan fits: {'two slots' if copies > 1 else 'one slot'} of {counted(least.workers, 'worker')} with "
        f"{counted(least.per_worker, given.cost.unit)} each {'need' if copies > 1 else 'needs'} "
    )
    if slot_mb > math.floor(available / copies):
        yield (
            f"{start}{mb(math.ceil(copies * slot_mb))} ({given.cost.breakdown(least.workers, least.per_worker)} a slot), but "
            f"the limit is {mb(max(0, math.floor(available)))} ({given.budget.breakdown()})"
        )
    if connections and connections.need(copies, least.concurrency) > connections.granted:
        yield (
            f"{start}{counted(connections.need(copies, least.concurrency), 'database connection')} "
            f"({connection_sum(given, copies, least)}), but the limit is {number(connections.granted)} (database_connections)"
        )


def connection_sum(given: Given, copies: int, chosen: Choice) -> str:
    """The connections of all hosts written out: `2 hosts x 2 slots x 3 workers x 4 threads = 48`."""
    return (
        f"{counted(given.hosts, 'host')} x {counted(copies, 'slot')} x {counted(chosen.workers, 'worker')} x "
        f"{counted(chosen.per_worker, given.cost.unit)} = {number(given.hosts * copies * chosen.concurrency)}"
    )
