"""How a worker begins and ends: forked from a master that has imported the application or not, replaced after some requests."""

from dataclasses import replace

from farrier import policy
from farrier.plan.derivation import Inputs
from farrier.plan.draft import Draft
from farrier.plan.model import Working
from farrier.wording import ceil_to, mb, number, per_second


def life(draft: Draft) -> None:
    """Preload, and how often a worker is replaced."""
    if draft.kind.may_preload:
        _preload(draft)
    _max_requests(draft)
    _jitter(draft)


def _preload(draft: Draft) -> None:
    work, workers = draft.workload, draft.number("gunicorn.workers")
    known, shared = "preload_safe" in work.measured, mb(work.memory_shared_mb)
    saved = mb(workers * work.memory_shared_mb)
    wish = draft.measured if known else draft.calculated if work.preload_safe else draft.default
    if work.preload_safe:
        sharing = "1 worker shares" if workers == 1 else f"{number(workers)} workers share"
        safe = (
            "Measured: importing starts no thread and opens no connection, so the workers may share"
            if known
            else f"The workload says that importing before the fork is safe; {sharing}"
        )
        reason = f"{safe} {shared} each, {saved} in all, and a broken release fails before it serves."
    elif known:
        reason = (
            "Measured: importing starts threads or opens connections that would not survive the fork; the workload's file "
            "names them."
        )
    else:
        reason = (
            "Nobody has said that the application may be imported before the fork (threads and sockets would not survive "
            f"it); `preload_safe: true` in the workload would save {saved}."
        )

    def working(given: Inputs) -> Working:
        apart, shares = (
            replace(draft.cost, preload=preload).slot_mb(workers, draft.per_worker) for preload in (False, True)
        )
        return Working(
            (
                given.workload("", "preload_safe"),
                given.workload("", "memory_shared_mb"),
                given.setting("P", "gunicorn.workers"),
            ),
            (f"a slot takes {mb(apart)} without preload and {mb(shares)} with it: it saves {mb(apart - shares)}",),
        )

    wish(
        "gunicorn.preload_app",
        work.preload_safe,
        reason,
        "on where the workload says that importing before the fork is safe",
        working,
    )
    if draft.overrides.get("gunicorn.preload_app") and not work.preload_safe:
        draft.warnings.append(
            "preload_app is on although threads or connections made at import were measured, which do not survive the fork"
            if known
            else "preload_app is on although the workload does not say that it is safe: threads and sockets made at import "
            "do not survive the fork"
        )


def _max_requests(draft: Draft) -> None:
    work, workers, preload = draft.workload, draft.number("gunicorn.workers"), draft.cost.preload
    boot = policy.PRELOADED_BOOT_SECONDS if preload else work.boot_seconds
    known = "" if preload else work.if_measured("boot_seconds")
    per_worker = draft.capacity_rps / workers
    raw = per_worker * boot / policy.RECYCLE_SHARE
    requests = ceil_to(raw, 500)
    draft.calculated(
        "gunicorn.max_requests",
        max(policy.MINIMUM_MAX_REQUESTS, requests),
        f"A worker that answers {per_second(per_worker)} and takes {number(boot, 1)} s to replace{known} "
        f"loses at most {number(100 * policy.RECYCLE_SHARE)} % of its time to recycling, which bounds leaks.",
        "X / P x b / s, rounded up to 500, at least m: b seconds of replacing a worker are s of the time it served",
        lambda given: Working(
            (
                given.capacity(),
                given.setting("P", "gunicorn.workers"),
                given.constant("b", "PRELOADED_BOOT_SECONDS", "s") if preload else given.workload("b", "boot_seconds"),
                given.constant("s", "RECYCLE_SHARE"),
                given.constant("m", "MINIMUM_MAX_REQUESTS"),
            ),
            (
                f"X / P = {number(draft.capacity_rps)} / {number(workers)} = {per_second(per_worker, 2)} of one worker",
                f"{number(per_worker)} x {number(boot)} s / {number(policy.RECYCLE_SHARE)} = {number(raw, 0)}, rounded up: "
                f"{number(requests)}",
            ),
        ),
    )


def _jitter(draft: Draft) -> None:
    every = draft.number("gunicorn.max_requests")
    jitter = round(policy.RECYCLE_JITTER_SHARE * every)
    draft.calculated(
        "gunicorn.max_requests_jitter",
        jitter,
        f"{number(100 * policy.RECYCLE_JITTER_SHARE, 0)} % of max_requests, so that workers are not replaced all at "
        "once.",
        "j x max_requests",
        lambda given: Working(
            (given.setting("", "gunicorn.max_requests"), given.constant("j", "RECYCLE_JITTER_SHARE")),
            (f"{number(policy.RECYCLE_JITTER_SHARE)} x {number(every)} = {number(jitter)}",),
        ),
    )
