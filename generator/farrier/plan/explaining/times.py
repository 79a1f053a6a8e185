"""The queue and the chain of timeouts."""

import math

from farrier import policy
from farrier.plan.explaining.sheet import Derivation, Input, Sheet
from farrier.sizing import timeouts
from farrier.wording import number


def backlog(sheet: Sheet) -> Derivation:
    """What can be answered within the queue budget."""
    draft, work = sheet.draft, sheet.work
    raw = draft.capacity_rps * draft.queue_budget
    rate = min(work.peak_rps or draft.capacity_rps, draft.capacity_rps)
    upper, lower = max(1, min(policy.MAX_BACKLOG, math.floor(raw))), math.ceil(rate * work.boot_seconds)
    held = "held" if lower <= upper else "more than that: a warning says what would meet it"
    return Derivation(
        "X x q, rounded down, from 1 to MAX_BACKLOG: a request behind that many would be answered too late; a restart wants "
        "at least r x b, the requests at the rate r (the peak, at most X) that arrive while a worker boots",
        (
            sheet.capacity(),
            _queue_budget(sheet),
            *([sheet.workload("r", "peak_rps")] if work.peak_rps is not None else []),
            sheet.workload("b", "boot_seconds"),
            sheet.constant("B <=", "MAX_BACKLOG"),
        ),
        (
            f"X x q = {number(draft.capacity_rps)} x {draft.queue_budget} s = {number(raw, 1)}",
            f"while a worker boots {number(rate, 1)} x {number(work.boot_seconds)} s = {number(lower)} requests arrive, {held}",
        ),
        upper,
    )


def same_backlog(sheet: Sheet) -> Derivation:
    """Of systemd's socket."""
    value = sheet.draft.number("gunicorn.backlog")
    return Derivation(
        "gunicorn.backlog: systemd makes the socket that Gunicorn serves, so both are one queue",
        (sheet.setting("", "gunicorn.backlog"),),
        (f"{number(value)}, the same queue",),
        value,
    )


def listen_backlog(sheet: Sheet) -> Derivation:
    """Of NGINX's own sockets."""
    queue = sheet.draft.number("gunicorn.backlog")
    value = max(queue, policy.NGINX_LISTEN_BACKLOG)
    return Derivation(
        "the larger of gunicorn.backlog and NGINX_LISTEN_BACKLOG",
        (sheet.setting("", "gunicorn.backlog"), sheet.constant("", "NGINX_LISTEN_BACKLOG")),
        (f"max({number(queue)}, {number(policy.NGINX_LISTEN_BACKLOG)}) = {number(value)}",),
        value,
    )


def somaxconn(sheet: Sheet) -> Derivation:
    """The kernel's bound of both queues."""
    has = sheet.draft.facts.somaxconn
    queue = max(sheet.draft.number(name) for name in ("gunicorn.backlog", "nginx.listen_backlog"))
    value = max(queue, min(max(has or 0, policy.DEFAULT_SOMAXCONN), policy.MAX_BACKLOG))
    if has is not None and has >= max(queue, policy.DEFAULT_SOMAXCONN):
        value = has
    return Derivation(
        "the largest of both queues, the host's own value and DEFAULT_SOMAXCONN: the kernel cuts every queue to it",
        (
            sheet.setting("", "gunicorn.backlog"),
            sheet.setting("", "nginx.listen_backlog"),
            sheet.fact("", "somaxconn"),
            sheet.constant("", "DEFAULT_SOMAXCONN"),
        ),
        (f"queues of up to {number(queue)}; the host has {'an unknown value' if has is None else number(has)}",),
        value,
    )


def timeout(sheet: Sheet) -> Derivation:
    """Gunicorn's, by the class of worker."""
    work = sheet.work
    kind = str(sheet.draft.settings["gunicorn.worker_class"].value)
    boot = round(policy.BOOT_FACTOR * work.boot_seconds)
    least = (
        sheet.workload("r", "request_limit_seconds")
        if kind == "sync"
        else sheet.constant("g", "GTHREAD_LIVENESS_SECONDS", "s")
    )
    return Derivation(
        "max(r, f b): it ends a request of a sync worker, and must outlast a boot"
        if kind == "sync"
        else f"max(g, f b): for {kind} it limits no request, but must outlast a boot",
        (
            sheet.setting("", "gunicorn.worker_class"),
            least,
            sheet.workload("b", "boot_seconds"),
            sheet.constant("f", "BOOT_FACTOR"),
        ),
        (f"max({least.value}, {policy.BOOT_FACTOR} x {number(work.boot_seconds)} s = {boot} s)",),
        timeouts.timeout(kind, work.request_limit_seconds, work.boot_seconds),
    )


def watchdog_timeout(sheet: Sheet) -> Derivation:
    """What Gunicorn's own does not do for threads."""
    kind = str(sheet.draft.settings["gunicorn.worker_class"].value)
    limit = sheet.work.request_limit_seconds
    value = limit if kind == "gthread" else 0
    return Derivation(
        "r with gthread, else 0: gunicorn.timeout ends the requests of a sync worker, and none of a gthread worker; gevent's "
        "requests share the one thread that could be looked at",
        (sheet.setting("", "gunicorn.worker_class"), sheet.workload("r", "request_limit_seconds")),
        (f"{kind}: {value} s",),
        value,
    )


def graceful_timeout(sheet: Sheet) -> Derivation:
    """The slowest request may finish."""
    limit = sheet.draft.request_limit
    return Derivation(
        "r + m: the slowest legitimate request may finish when its slot stops",
        (_request_limit(sheet), sheet.constant("m", "MARGIN_SECONDS", "s")),
        (f"{limit} s + {policy.MARGIN_SECONDS} s = {limit + policy.MARGIN_SECONDS} s",),
        limit + policy.MARGIN_SECONDS,
    )


def stop_timeout(sheet: Sheet) -> Derivation:
    """Longer than Gunicorn's own."""
    graceful = sheet.draft.number("gunicorn.graceful_timeout")
    value = graceful + policy.STOP_MARGIN_SECONDS
    return Derivation(
        "graceful_timeout + m: Gunicorn leaves on its own before systemd kills it",
        (sheet.setting("", "gunicorn.graceful_timeout"), sheet.constant("m", "STOP_MARGIN_SECONDS", "s")),
        (f"{graceful} s + {policy.STOP_MARGIN_SECONDS} s = {value} s",),
        value,
    )


def proxy_timeout(sheet: Sheet) -> Derivation:
    """NGINX's, reading and sending."""
    draft = sheet.draft
    value = draft.queue_budget + draft.request_limit + policy.MARGIN_SECONDS
    return Derivation(
        "q + r + m, at most what clients wait: to NGINX a request in the accept queue is one that does not answer yet",
        (
            _queue_budget(sheet),
            _request_limit(sheet),
            sheet.constant("m", "MARGIN_SECONDS", "s"),
            sheet.workload("t", "client_timeout_seconds"),
        ),
        (
            f"{draft.queue_budget} s + {draft.request_limit} s + {policy.MARGIN_SECONDS} s = {value} s, at most "
            f"{sheet.work.client_timeout_seconds} s",
        ),
        value,
    )


def retry_after(sheet: Sheet) -> Derivation:
    """When the queue that is full now has been answered."""
    budget = sheet.draft.queue_budget
    return Derivation(
        "q, at least 1: whoever waited when the queue was full has been answered by then",
        (_queue_budget(sheet),),
        (f"max(1, {budget}) s",),
        max(1, budget),
    )


def _queue_budget(sheet: Sheet) -> Input:
    """q, which may be shorter than asked for."""
    asked = sheet.workload("q", "queue_budget_seconds")
    used = sheet.draft.queue_budget
    if used == sheet.work.queue_budget_seconds:
        return asked
    return asked._replace(
        value=f"{used} s",
        provenance=f"calculated: {asked.value} ({asked.provenance}), but clients wait only "
        f"{sheet.work.client_timeout_seconds} s",
    )


def _request_limit(sheet: Sheet) -> Input:
    """r; a sync worker's own timeout may be longer than what the workload says."""
    asked = sheet.workload("r", "request_limit_seconds")
    used = sheet.draft.request_limit
    if used == sheet.work.request_limit_seconds:
        return asked
    return asked._replace(value=f"{used} s", provenance="gunicorn.timeout, which ends a request of a sync worker")
