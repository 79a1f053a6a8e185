"""What systemd allows a slot: memory, open files, tasks."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.plan.model import Input, Working
from farrier.wording import MB, ceil_to, counted, mb, number


def limits(draft: Draft) -> None:
    """MemoryHigh, MemoryMax, LimitNOFILE and TasksMax of one slot."""
    if draft.memory_assumed:
        _assumed_maximum(draft)
    else:
        _maximum(draft)
    _high(draft)
    _files(draft)
    _tasks(draft)


def _assumed_maximum(draft: Draft) -> None:
    """A slot's part of the memory, rounded down to some binary digits: hosts that differ by a little share a size."""
    share = draft.budget.gunicorn_mb / draft.copies
    whole = math.floor(share)
    step = 1 << max(0, whole.bit_length() - policy.ASSUMED_MEMORY_DIGITS)
    maximum = max(whole - whole % step, min(whole, math.ceil(draft.slot_mb)))
    part = "all" if draft.copies == 1 else "half of all"
    draft.calculated(
        "systemd.MemoryMax",
        maximum * MB,
        f"The {mb(draft.slot_mb)} of a slot are assumed, and an assumption must not kill: {part} that the host can "
        f"spare ({draft.budget.breakdown()}).",
        "M / o, rounded down to d binary digits but not below S: S is assumed, and an assumption must not kill",
        lambda given: Working(
            (given.slot(), given.budget(), given.copies(), given.constant("d", "ASSUMED_MEMORY_DIGITS")),
            (
                f"M / o = {mb(draft.budget.gunicorn_mb)} / {draft.copies} = {number(share, 1)} MB",
                f"{mb(maximum)} = {number(maximum * MB)} bytes",
            ),
        ),
    )


def _maximum(draft: Draft) -> None:
    share, ample = draft.budget.gunicorn_mb / draft.copies, policy.MEMORY_MAX_FACTOR * draft.slot_mb
    maximum = math.floor(min(share, ample))
    if share < ample:
        reason = (
            f"{counted(draft.copies, 'slot')} at their limit fill the {mb(draft.budget.gunicorn_mb)} that are left for "
            f"Gunicorn ({draft.budget.breakdown()}); a slot should need {mb(draft.slot_mb)}."
        )
    else:
        reason = (
            f"{number(policy.MEMORY_MAX_FACTOR)} x the {mb(draft.slot_mb)} that a slot should need "
            f"({draft.cost.breakdown(draft.number('gunicorn.workers'), draft.per_worker)}): a leak "
            "is contained in its own slot."
        )
    draft.calculated(
        "systemd.MemoryMax",
        maximum * MB,
        reason,
        "min(f S, M / o), rounded down to whole MB: a leak is contained in its own slot, and all slots at their limit still fit",
        lambda given: Working(
            (given.slot(), given.budget(), given.constant("f", "MEMORY_MAX_FACTOR"), given.copies()),
            (
                f"f S = {number(policy.MEMORY_MAX_FACTOR)} x {number(draft.slot_mb, 1)} MB = {number(ample, 1)} MB",
                f"M / o = {mb(draft.budget.gunicorn_mb)} / {draft.copies} = {number(share, 1)} MB",
                f"the smaller: {mb(maximum)} = {number(maximum * MB)} bytes",
            ),
        ),
    )


def _high(draft: Draft) -> None:
    maximum, need = draft.number("systemd.MemoryMax") // MB, math.ceil(draft.slot_mb)
    part = math.floor(policy.MEMORY_HIGH_SHARE * maximum)
    high = min(max(need, part), maximum)
    draft.calculated(
        "systemd.MemoryHigh",
        high * MB,
        f"{number(100 * policy.MEMORY_HIGH_SHARE, 0)} % of MemoryMax ({mb(maximum)}), and not below the "
        f"{mb(draft.slot_mb)} that a slot should need: reclaimed before anything is killed.",
        "h x MemoryMax, not below S and not above MemoryMax: reclaimed before anything is killed",
        lambda given: Working(
            (given.setting("", "systemd.MemoryMax"), given.slot(), given.constant("h", "MEMORY_HIGH_SHARE")),
            (
                f"{number(policy.MEMORY_HIGH_SHARE)} x {mb(maximum)} = {mb(part)}; S = {mb(need)}",
                f"{mb(high)} = {number(high * MB)} bytes",
            ),
        ),
    )


def _files(draft: Draft) -> None:
    each, hard = draft.per_worker, draft.facts.nofile_hard
    raw = policy.FILES_PER_WORKER + policy.FILES_PER_THREAD * each
    wanted = max(policy.LIMIT_NOFILE_MINIMUM, ceil_to(raw, 256))
    draft.calculated(
        "systemd.LimitNOFILE",
        wanted if hard is None else min(wanted, hard),
        f"{policy.FILES_PER_WORKER} for a worker + {policy.FILES_PER_THREAD} for each of {counted(each, draft.cost.unit)}, "
        f"at least {number(policy.LIMIT_NOFILE_MINIMUM)}"
        + ("." if hard is None else f", at most the {number(hard)} that the host grants."),
        "w + f T, rounded up to 256, at least m, at most what the host grants",
        lambda given: Working(
            (
                given.each("T"),
                given.constant("w", "FILES_PER_WORKER"),
                given.constant("f", "FILES_PER_THREAD"),
                given.constant("m", "LIMIT_NOFILE_MINIMUM"),
                given.fact("", "nofile_hard"),
            ),
            (
                f"{policy.FILES_PER_WORKER} + {policy.FILES_PER_THREAD} x {number(each)} = {number(raw)}, so {number(wanted)}",
            ),
        ),
    )


def _tasks(draft: Draft) -> None:
    workers, visible = draft.number("gunicorn.workers"), draft.facts.visible_cpus
    pool = draft.kind.pool_threads
    threads = draft.per_worker if pool is None else pool
    own = 1 + workers * (1 + threads)
    pools = policy.TASKS_POOLS * (1 + workers) * visible
    raw = policy.TASKS_FACTOR * own + pools + policy.TASKS_BASE
    tasks = ceil_to(raw, 8)
    draft.calculated(
        "systemd.TasksMax",
        tasks,
        f"{policy.TASKS_FACTOR} x the {number(own)} processes and threads of Gunicorn + {policy.TASKS_POOLS} x {number(visible)} in "
        f"each of {number(1 + workers)} processes for libraries that start a thread for each CPU they see + "
        f"{policy.TASKS_BASE} for what the application starts: a fork bomb ends here.",
        "f (1 + P (1 + T)) + l (1 + P) v + t, rounded up to 8: libraries start a thread for each CPU that they see, whatever "
        "the quota; a fork bomb ends here",
        lambda given: Working(
            (
                given.setting("P", "gunicorn.workers"),
                given.each("T") if pool is None else given.constant("T", "GEVENT_POOL_THREADS"),
                Input("v", "CPUs that a program sees", str(visible), "fact of the host"),
                given.constant("f", "TASKS_FACTOR"),
                given.constant("l", "TASKS_POOLS"),
                given.constant("t", "TASKS_BASE"),
            ),
            (
                f"1 master + {number(workers)} x (1 + {threads}) = {number(own)}",
                f"{policy.TASKS_POOLS} x (1 + {number(workers)}) x {number(visible)} = {number(pools)}",
                f"{policy.TASKS_FACTOR} x {number(own)} + {number(pools)} + {policy.TASKS_BASE} = {number(raw)}, rounded up: "
                f"{number(tasks)}",
            ),
        ),
    )
