"""What systemd allows a slot: memory, open files, tasks."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.wording import MB, ceil_to, counted, mb, number


def limits(draft: Draft) -> None:
    """MemoryHigh, MemoryMax, LimitNOFILE and TasksMax of one slot."""
    _memory(draft)
    workers, threads = draft.number("gunicorn.workers"), draft.number("gunicorn.threads")
    _files(draft, draft.each)
    if draft.greenlets:  # all in one thread, beside those of gevent's own pool
        threads = policy.GEVENT_POOL_THREADS
    own, visible = 1 + workers * (1 + threads), draft.facts.visible_cpus
    pools = policy.TASKS_POOLS * (1 + workers) * visible
    draft.calculated(
        "systemd.TasksMax",
        ceil_to(policy.TASKS_FACTOR * own + pools + policy.TASKS_BASE, 8),
        f"{policy.TASKS_FACTOR} x the {own} processes and threads of Gunicorn + {policy.TASKS_POOLS} x {visible} in each of "
        f"{1 + workers} processes for libraries that start a thread for each CPU they see + {policy.TASKS_BASE} for what the "
        "application starts: a fork bomb ends here.",
    )


def _memory(draft: Draft) -> None:
    share = draft.budget.gunicorn_mb / draft.copies
    if draft.memory_assumed:
        part = "all" if draft.copies == 1 else "half of all"
        _limits(
            draft,
            rounded_share(draft),
            f"The {mb(draft.slot_mb)} of a slot are assumed, and an assumption must not kill: {part} that the host can "
            f"spare ({draft.budget.breakdown()}).",
        )
        return
    ample = policy.MEMORY_MAX_FACTOR * draft.slot_mb
    maximum = math.floor(min(share, ample))
    if share < ample:
        reason = (
            f"{counted(draft.copies, 'slot')} at their limit fill the {mb(draft.budget.gunicorn_mb)} that are left for "
            f"Gunicorn ({draft.budget.breakdown()}); a slot should need {mb(draft.slot_mb)}."
        )
    else:
        reason = (
            f"{number(policy.MEMORY_MAX_FACTOR)} x the {mb(draft.slot_mb)} that a slot should need "
            f"({draft.cost.breakdown(draft.number('gunicorn.workers'), draft.each)}): a leak "
            "ends in its own slot."
        )
    _limits(draft, maximum, reason)


def rounded_share(draft: Draft) -> int:
    """A slot's part of the memory, rounded down to some binary digits, in MB: hosts that differ by a little share a size."""
    whole = math.floor(draft.budget.gunicorn_mb / draft.copies)
    step = 1 << max(0, whole.bit_length() - policy.ASSUMED_MEMORY_DIGITS)
    return max(whole - whole % step, min(whole, math.ceil(draft.slot_mb)))


def _limits(draft: Draft, maximum: int, reason: str) -> None:
    draft.calculated("systemd.MemoryMax", maximum * MB, reason)
    maximum = draft.number("systemd.MemoryMax") // MB
    high = max(math.ceil(draft.slot_mb), math.floor(policy.MEMORY_HIGH_SHARE * maximum))
    draft.calculated(
        "systemd.MemoryHigh",
        min(high, maximum) * MB,
        f"{number(100 * policy.MEMORY_HIGH_SHARE, 0)} % of MemoryMax ({mb(maximum)}), and not below the "
        f"{mb(draft.slot_mb)} that a slot should need: reclaimed before anything is killed.",
    )


def _files(draft: Draft, threads: int) -> None:
    wanted = max(policy.LIMIT_NOFILE_MINIMUM, ceil_to(policy.FILES_PER_WORKER + policy.FILES_PER_THREAD * threads, 256))
    hard = draft.facts.nofile_hard
    draft.calculated(
        "systemd.LimitNOFILE",
        wanted if hard is None else min(wanted, hard),
        f"{policy.FILES_PER_WORKER} for a worker + {policy.FILES_PER_THREAD} for each of {counted(threads, draft.cost.kind)}, "
        f"at least {policy.LIMIT_NOFILE_MINIMUM}"
        + ("." if hard is None else f", at most the {number(hard)} that the host grants."),
    )
