"""The same host sized again with more of something: what is scarce is found by trying, not by rule."""

from collections.abc import Callable
from dataclasses import replace

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.planning import gunicorn
from farrier.planning.draft import Draft
from farrier.units import counted, mb, number

CONCURRENCY = ("gunicorn.worker_class", "gunicorn.workers", "gunicorn.threads", "gunicorn.preload_app")
"""The operator's values that can hold capacity back."""


def sized_again(
    draft: Draft, *, cpus: float | None = None, memory_mb: int | None = None, freely: bool = False
) -> Draft | None:
    """Workers and threads with other CPUs or memory, `freely` without the operator's; None where nothing fits."""
    facts = replace(
        draft.facts,
        cpus=draft.facts.cpus if cpus is None else cpus,
        memory_mb=draft.facts.memory_mb if memory_mb is None else memory_mb,
    )
    overrides = {k: v for k, v in draft.overrides.items() if not (freely and k in CONCURRENCY)}
    again = Draft(facts, draft.workload, overrides)
    try:
        gunicorn.concurrency(again)
    except DoesNotFitError:
        return None
    return again


def smallest(low: int, high: int, enough: Callable[[int], bool]) -> int:
    """The smallest number above `low` that is `enough`; `low` is not, `high` is."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def bound(draft: Draft) -> str:
    """What keeps the host from carrying more, and what a little more of it would bring."""
    memory = _memory(draft)
    if memory:
        return memory
    more_cpu = sized_again(draft, cpus=draft.facts.cpus + 1)
    free = sized_again(draft, freely=True) if draft.is_override(*CONCURRENCY) else None
    by_cpu, by_freedom = _gain(draft, more_cpu), _gain(draft, free)
    if max(by_cpu, by_freedom) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
        return _both(draft) or (
            "Farrier's own ceiling: neither a CPU nor memory more would carry more; a slot gets at most "
            f"{number(policy.MAX_WORKERS)} workers of {policy.MAX_THREADS} threads"
        )
    if by_cpu >= by_freedom:
        return f"CPU: 1 more CPU would carry {_requests(by_cpu)}"
    return f"override: without {operators_own(draft)} Farrier's own choice would carry {_requests(by_freedom)}"


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
        least = _least(draft, ample)
        return (
            f"memory: {_more(draft, least)} would fit with {mb(least.facts.memory_mb - have)} more, and carry "
            f"{_requests(_gain(draft, least))}"
        )
    return None


def _both(draft: Draft) -> str | None:
    """The bound where one more CPU helps only with more memory, as its NGINX process and its worker need some."""
    have = draft.facts.memory_mb
    ample = sized_again(draft, cpus=draft.facts.cpus + 1, memory_mb=policy.MEMORY_STEPS[-1] * have)
    if ample is None or _gain(draft, ample) <= policy.NOTICEABLE_SHARE * draft.capacity_rps:
        return None
    least = _least(draft, ample)
    more = mb(least.facts.memory_mb - have)
    return f"CPU and memory: 1 more CPU with {more} more would carry {_requests(_gain(draft, least))}"


def _least(draft: Draft, ample: Draft) -> Draft:
    """The sizing with the least memory that carries as much as `ample`."""

    def sized(memory_mb: int) -> Draft | None:
        return sized_again(draft, cpus=ample.facts.cpus, memory_mb=memory_mb)

    def enough(memory_mb: int) -> bool:
        again = sized(memory_mb)
        return again is not None and again.capacity_rps >= ample.capacity_rps * (1 - 1e-9)

    return sized(smallest(draft.facts.memory_mb, ample.facts.memory_mb, enough)) or ample


def _more(draft: Draft, least: Draft) -> str:
    workers = [d.number("gunicorn.workers") for d in (draft, least)]
    threads = [d.number("gunicorn.threads") for d in (draft, least)]
    if threads[0] == threads[1]:
        return counted(workers[1] - workers[0], "more worker", "more workers")
    if workers[0] == workers[1]:
        return f"{counted(threads[1] - threads[0], 'more thread', 'more threads')} in each worker"
    return f"{counted(workers[1], 'worker')} of {counted(threads[1], 'thread')}"


def _gain(draft: Draft, again: Draft | None) -> float:
    """Requests a second that `again` carries more."""
    return 0.0 if again is None else again.capacity_rps - draft.capacity_rps


def _requests(rate: float) -> str:
    return f"{number(rate, 1)} more requests a second"
