"""How a deploy switches: whether two slots run side by side."""

import math

from farrier import policy
from farrier.plan.derivation import Inputs
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum
from farrier.plan.model import Working
from farrier.sizing.concurrency import Choice
from farrier.wording import mb, number


def switch(draft: Draft, chosen: Choice) -> None:
    """Overlap where two slots fit into memory and into the database's connections."""
    slots, slot, left = policy.SLOTS_WHILE_SWITCHING, draft.slot_mb, draft.budget.gunicorn_mb
    assumed, connections = draft.memory_assumed, draft.connections
    factor = policy.ASSUMED_MEMORY_FACTOR if assumed else 1.0
    fits = draft.sized.given.overlaps(chosen, factor)
    granted = connections is None or chosen.concurrency <= connections.each(slots)

    def working(given: Inputs) -> Working:
        steps = [
            f"{'a o S' if assumed else 'o S'} = {mb(factor * slots * slot)} {'fit' if fits else 'do not fit'} into M = {mb(left)}"
        ]
        if connections:
            used = connection_sum(draft.sized.given, slots, chosen)
            verdict = "of" if granted else "do not fit into"
            steps.append(f"{used} {verdict} {number(connections.granted)} database connections")
        inputs = (
            given.slot(),
            given.budget(),
            given.constant("o", "SLOTS_WHILE_SWITCHING"),
            *([given.constant("a", "ASSUMED_MEMORY_FACTOR")] if assumed else []),
            *given.connections(),
        )
        return Working(inputs, tuple(steps))

    reason, warning = _why(draft, chosen, fits=fits, granted=granted)
    draft.calculated(
        "farrier.switch",
        "overlap" if fits and granted else "stop-start",
        reason,
        f"overlap where o slots of {'a ' if assumed else ''}S fit into M, and their connections into what the "
        f"database grants, else stop-start{'; S is assumed, so a times as much must fit' if assumed else ''}",
        working,
    )
    if warning and not draft.is_override("farrier.switch"):
        draft.warnings.append(warning)


def _why(draft: Draft, chosen: Choice, *, fits: bool, granted: bool) -> tuple[str, str]:
    """The reason, and the warning where a deploy makes requests wait."""
    slot, left, work = draft.slot_mb, draft.budget.gunicorn_mb, draft.workload
    factor = number(policy.ASSUMED_MEMORY_FACTOR)
    if fits and granted:
        fit = f"of {mb(slot)} fit into the {mb(left)} left for Gunicorn"
        if draft.memory_assumed:
            fit = f"fit into the {mb(left)} left for Gunicorn even if one takes {factor} x the {mb(slot)} assumed"
        return f"Two slots {fit}, so the new release starts beside the old one.", ""
    after = "so the old one stops first while the queue holds the requests."
    wait = (
        "during a deploy requests wait in the queue until the old slot has ended its last ones, and for about "
        f"{number(work.boot_seconds, 1)} s of boot"
    )
    if 2 * slot > left or not (fits or draft.memory_assumed):
        more = mb(math.ceil(2 * slot - left))
        return (
            f"Two slots of {mb(slot)} do not fit into the {mb(left)} left for Gunicorn, {after}",
            f"memory holds one slot only: {wait}; {more} more would let two overlap",
        )
    if not fits:
        return (
            f"The {mb(slot)} of a slot are assumed: two that take {factor} x as much would not fit into the {mb(left)} left "
            f"for Gunicorn, {after}",
            f"as memory is assumed, slots do not overlap: {wait}",
        )
    used = connection_sum(draft.sized.given, policy.SLOTS_WHILE_SWITCHING, chosen)
    wanted, limit = policy.SLOTS_WHILE_SWITCHING * draft.hosts * chosen.concurrency, work.database_connections or 0
    return (
        f"Two slots would use {used} database connections of {number(limit)}, {after}",
        f"the database's connections are enough for one slot only: {wait}; {number(wanted - limit)} more connections would "
        "let two overlap",
    )
