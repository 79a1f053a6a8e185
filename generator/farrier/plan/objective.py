"""What is asked of the host against what it can do; where it cannot, what would."""

from collections.abc import Iterator
from functools import lru_cache

from farrier import policy
from farrier.facts.model import MEMORY_MB, HostFacts
from farrier.plan.bottleneck import CONCURRENCY, operators_own, sized_again, smallest
from farrier.plan.draft import Draft
from farrier.plan.sized import Basis, Sized
from farrier.project.workload import Workload
from farrier.settings import Value
from farrier.wording import MB, counted, mb, milliseconds, number, per_second


def p95_at_the_peak(draft: Draft) -> float | None:
    """None where no peak was asked for or the host cannot carry it."""
    return _p95(draft.sized, draft.workload)


def _p95(sized: Sized, work: Workload) -> float | None:
    peak = work.peak_rps
    if peak is None or peak >= sized.capacity_rps:
        return None
    return sized.service(work).p95_seconds(peak)


def warn(draft: Draft) -> None:
    """Say which figures are only assumed, and which wish is not met."""
    work = draft.workload
    if work.is_assumed:
        draft.warnings.append(
            f"the cost of a request is assumed, not measured: {milliseconds(work.cpu_seconds)} CPU and "
            f"{milliseconds(work.wait_seconds)} wait; state cpu_seconds and wait_seconds in the workload"
        )
    if draft.memory_assumed:
        draft.warnings.append(
            f"the memory of a worker is assumed, not measured: {mb(draft.cost.private_mb + draft.cost.shared_mb)}; a slot may "
            f"take up to {mb(draft.number('systemd.MemoryMax') / MB)}, what the host can spare; measure it: farrier measure"
        )
    draft.warnings.extend(_unmet(draft))


def _unmet(draft: Draft) -> Iterator[str]:
    work = draft.workload
    objective, peak = work.latency_p95_seconds, work.peak_rps
    alone = draft.service.service_p95_seconds
    hopeless = objective is not None and objective < alone
    if objective is not None and hopeless:
        varying = f"; as they vary, 95 % take up to {milliseconds(alone)}" if work.service_scv else ""
        yield (
            f"no number of CPUs meets the latency objective of {milliseconds(objective)}: a request alone takes "
            f"{milliseconds(work.service_seconds)}, {milliseconds(work.serving_cpu_seconds)} of CPU and "
            f"{milliseconds(work.wait_seconds)} of waiting{varying}"
        )
    if peak is None:
        return
    p95 = p95_at_the_peak(draft)
    if p95 is None:
        yield (
            f"the peak of {per_second(peak, 2)} is more than this host carries "
            f"({number(draft.capacity_rps, 1)}): {_remedy(draft, None if hopeless else objective)}"
        )
    elif objective is not None and p95 > objective and not hopeless:
        yield (
            f"the latency objective is missed at the peak: p95 {milliseconds(p95)} predicted, "
            f"{milliseconds(objective)} asked for: {_remedy(draft, objective)}"
        )


def _remedy(draft: Draft, objective: float | None) -> str:
    """What would carry the peak within the objective, found by sizing again."""
    hosts = _hosts(draft, objective)
    beside = f", or {hosts} hosts of this size" if hosts else ""
    have, granted = draft.facts, draft.workload.database_connections
    free = sized_again(draft, connected=True) if granted else None
    if free and _meets(free, draft.workload, objective):
        return f"{number(free.connections_needed)} database connections instead of {number(granted or 0)} would{beside}"
    if _meets(sized_again(draft, memory_mb=MEMORY_MB), draft.workload, objective):
        memory = _memory(draft, have.cpus, objective)
        return f"{mb(memory)} of memory instead of {mb(have.memory_mb)} would{beside}"
    cpus = _cpus(draft, objective, freely=False)
    if cpus is not None:
        return f"{_with_memory(draft, cpus, objective)} would{beside}"
    if draft.is_override(*CONCURRENCY):
        cpus = _cpus(draft, objective, freely=True)
        if cpus is not None:
            own = operators_own(draft)
            return f"no number of CPUs would with {own}; without, {counted(cpus, 'CPU')} would{beside}"
    limit = f" with the {number(granted)} database connections" if granted else ""
    return f"no number of CPUs up to {policy.SEARCHED_CPUS} would{limit}{beside}"


def _meets(again: Sized | None, work: Workload, objective: float | None) -> bool:
    p95 = _p95(again, work) if again else None
    return p95 is not None and (objective is None or p95 <= objective)


def _cpus(draft: Draft, objective: float | None, *, freely: bool) -> int | None:
    """The smallest number of CPUs that does with memory enough."""
    return _fewest_cpus(_wish(draft, freely=freely), objective)


def _memory(draft: Draft, cpus: float, objective: float | None) -> int:
    """The least memory with which `cpus` do; the host's own where that does."""
    have = draft.facts.memory_mb
    if _meets(sized_again(draft, cpus=cpus), draft.workload, objective):
        return have
    least = _least_memory(_wish(draft), cpus, objective)
    return least if least > have else _search_memory(draft, cpus, objective, have)


Wish = tuple[Workload, tuple[tuple[str, Value], ...], int]
"""What the answer depends on besides the host; hosts of many sizes share one search."""


def _wish(draft: Draft, *, freely: bool = False) -> Wish:
    overrides = {k: v for k, v in draft.overrides.items() if not (freely and k in CONCURRENCY)}
    return draft.workload, tuple(sorted(overrides.items())), draft.hosts


def _any_host(wish: Wish) -> Basis:
    work, overrides, hosts = wish
    return Basis(HostFacts(host="", cpus=1.0, memory_mb=MEMORY_MB), work, dict(overrides), hosts)


@lru_cache(maxsize=64)
def _fewest_cpus(wish: Wish, objective: float | None) -> int | None:
    host = _any_host(wish)

    def enough(cpus: int) -> bool:
        return _meets(sized_again(host, cpus=cpus), host.workload, objective)

    return smallest(0, policy.SEARCHED_CPUS, enough) if enough(policy.SEARCHED_CPUS) else None


@lru_cache(maxsize=1024)
def _least_memory(wish: Wish, cpus: float, objective: float | None) -> int:
    return _search_memory(_any_host(wish), cpus, objective, 0)


def _search_memory(host: Basis, cpus: float, objective: float | None, low: int) -> int:
    """The least memory above `low` with which `cpus` do; there is one."""

    def enough(memory_mb: int) -> bool:
        return _meets(sized_again(host, cpus=cpus, memory_mb=memory_mb), host.workload, objective)

    high = max(2 * low, 64)
    while not enough(high):
        low, high = high, min(2 * high, MEMORY_MB)
    return smallest(low, high, enough)


def _with_memory(draft: Draft, cpus: int, objective: float | None) -> str:
    need = _memory(draft, cpus, objective)
    return counted(cpus, "CPU") + ("" if need == draft.facts.memory_mb else f" with {mb(need)} of memory")


def _hosts(draft: Draft, objective: float | None) -> int | None:
    """The fewest hosts of this size that carry the peak together; None where the database grants them no connections."""
    peak = draft.workload.peak_rps or 0.0
    reach = draft.capacity_rps if objective is None else draft.service.rate_within(objective)
    hosts = int(peak / reach) + 1 if reach > 0 else 0
    granted = draft.workload.database_connections
    if granted is not None and hosts * draft.sized.connections_needed > granted:
        return None
    return hosts if 1 < hosts <= policy.SEARCHED_CPUS else None
