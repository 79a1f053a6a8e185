"""The same host sized again with more of something: what is scarce is found by trying, not by rule."""

from collections.abc import Callable

from farrier import policy
from farrier.plan.draft import BEGINNINGS, OPERATORS, Draft
from farrier.plan.model import Setting
from farrier.plan.sized import Basis, Sized, given
from farrier.wording import counted, mb, number, per_second

CONCURRENCY = (*BEGINNINGS, "gunicorn.preload_app")
"""The operator's values that can hold capacity back."""


def sized_again(
    basis: Basis,
    *,
    cpus: float | None = None,
    memory_mb: int | None = None,
    freely: bool = False,
    connected: bool = False,
) -> Sized | None:
    """Workers and threads with other CPUs or memory; None where nothing fits.

    `freely` is without the operator's values, `connected` with as many database connections as are wanted.
    """
    overrides = {k: v for k, v in basis.overrides.items() if not (freely and k in CONCURRENCY)}
    again = given(
        basis.facts.cpus if cpus is None else cpus,
        basis.facts.memory_mb if memory_mb is None else memory_mb,
        basis.workload,
        overrides,
        basis.hosts,
    )
    return (again._replace(connections=None) if connected else again).choose()


def smallest(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest number above `low` that is `enough`; `low` is not, `high` is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def bound(draft: Draft) -> str:
    """What keeps the host from carrying more, and what a little more of it would bring."""
    scarce = _database(draft) or _memory(draft)
    if scarce:
        return scarce
    more_cpu = sized_again(draft, cpus=draft.facts.cpus + 1)
    free = sized_again(draft, freely=True) if draft.is_override(*CONCURRENCY) else None
    by_cpu, by_freedom = _gain(draft, more_cpu), _gain(draft, free)
    if max(by_cpu, by_freedom) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
        return _together(draft) or (
            "Farrier's own ceiling: neither a CPU nor memory more would carry more; a slot gets at most "
            f"{number(policy.MAX_WORKERS)} workers of {policy.MAX_THREADS} threads"
        )
    if by_cpu >= by_freedom:
        return f"CPU: 1 more CPU would carry {_requests(by_cpu)}"
    return f"override: without {operators_own(draft)} Farrier's own choice would carry {_requests(by_freedom)}"


def beside_own_choice(draft: Draft) -> dict[str, Setting]:
    """The operator's values that the calculation began with, their reasons with what Farrier alone would choose."""
    set_by_operator = [name for name in BEGINNINGS if name in draft.overrides]
    free = sized_again(draft, freely=True) if set_by_operator and draft.kind.setting in BEGINNINGS else None
    if free is None:
        return {}
    own_choice = dict(zip(BEGINNINGS, (free.kind.name, free.chosen.workers, free.chosen.per_worker), strict=True))
    found = {}
    for name in set_by_operator:
        setting, alone = draft.settings[name], own_choice[name]
        said = ", and Farrier agrees" if alone == setting.value else f", where Farrier alone would choose {alone}"
        reason = setting.reason.replace(OPERATORS, f"{OPERATORS}{said}", 1)
        found[name] = setting._replace(reason=reason)
    return found


def operators_own(draft: Draft) -> str:
    """The operator's values that decide the capacity: `the operator's gunicorn.workers 1`."""
    own = [f"{name} {str(draft.overrides[name]).lower()}" for name in CONCURRENCY if name in draft.overrides]
    return f"the operator's {' and '.join(own)}"


def _memory(draft: Draft) -> str | None:
    """The bound by memory: the least that carries as much as a multiple of it would; None where none would."""
    have = draft.facts.memory_mb
    for factor in policy.MEMORY_STEPS:
        ample = sized_again(draft, memory_mb=factor * have)
        if ample is None or _gain(draft, ample) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
            continue
        least, least_mb = _least(draft, ample)
        return (
            f"memory: {_more(draft, least)} would fit with {mb(least_mb - have)} more, and carry "
            f"{_requests(_gain(draft, least))}"
        )
    return None


def _database(draft: Draft) -> str | None:
    """The bound by the database's connections: how many more would be used; None where they would bring nothing."""
    free = sized_again(draft, connected=True) if draft.connections else None
    if free is None or _gain(draft, free) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
        return None
    return (
        f"database: {_more(draft, free)} would fit with {_more_connections(draft, free)}, and carry "
        f"{_requests(_gain(draft, free))}"
    )


TOGETHER = {
    "CPU and memory": (True, True, False),
    "database and memory": (False, True, True),
    "CPU and database": (True, False, True),
    "CPU, database and memory": (True, True, True),
}
"""What may help only together: a CPU more, memory and connections as needed. A CPU's NGINX process and worker need some."""


def _together(draft: Draft) -> str | None:
    """The bound where one thing more helps only with another."""
    have = draft.facts
    for names, (cpu, memory, connected) in TOGETHER.items():
        if connected and not draft.connections:
            continue
        ample = sized_again(
            draft,
            cpus=have.cpus + cpu,
            memory_mb=policy.MEMORY_STEPS[-1] * have.memory_mb if memory else have.memory_mb,
            connected=connected,
        )
        if ample is None or _gain(draft, ample) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
            continue
        least, least_mb = _least(draft, ample, connected=connected) if memory else (ample, have.memory_mb)
        more = ["1 more CPU"] if cpu else []
        more += [_more_connections(draft, least)] if connected else []
        more += [f"{mb(least_mb - have.memory_mb)} more"] if memory else []
        return f"{names}: {' with '.join(more)} would carry {_requests(_gain(draft, least))}"
    return None


def _more_connections(draft: Draft, free: Sized) -> str:
    granted = draft.workload.database_connections or 0
    return counted(max(0, free.connections_needed - granted), "more connection", "more connections")


def _least(draft: Draft, ample: Sized, *, connected: bool = False) -> tuple[Sized, int]:
    """The sizing with the least memory that carries as much as `ample`, and that memory."""
    cpus, ample_mb = ample.given.demand.cpus, round(ample.given.budget.usable_mb)

    def sized(memory_mb: int) -> Sized | None:
        return sized_again(draft, cpus=cpus, memory_mb=memory_mb, connected=connected)

    def enough(memory_mb: int) -> bool:
        again = sized(memory_mb)
        return again is not None and again.capacity_rps >= ample.capacity_rps * (1 - 1e-9)

    have = draft.facts.memory_mb
    if draft.copies == ample.copies and not draft.memory_assumed:  # else capacity need not rise all the way
        own_mb = smallest(have, ample_mb, ample.fits)
        if enough(own_mb) and not (own_mb - 1 > have and enough(own_mb - 1)):
            return sized(own_mb) or ample, own_mb
    least_mb = smallest(have, ample_mb, enough)
    return sized(least_mb) or ample, least_mb


def _more(draft: Draft, least: Sized) -> str:
    workers = [sized.chosen.workers for sized in (draft.sized, least)]
    each, unit = [sized.chosen.per_worker for sized in (draft.sized, least)], draft.kind.unit
    if each[0] == each[1]:
        return counted(workers[1] - workers[0], "more worker", "more workers")
    if workers[0] == workers[1]:
        return f"{counted(each[1] - each[0], f'more {unit}', f'more {unit}s')} in each worker"
    return f"{counted(workers[1], 'worker')} of {counted(each[1], unit)}"


def _gain(draft: Draft, again: Sized | None) -> float:
    """Requests a second that `again` carries more."""
    return 0.0 if again is None else again.capacity_rps - draft.capacity_rps


def _requests(rate: float) -> str:
    return f"{per_second(rate, more='more ')}"
