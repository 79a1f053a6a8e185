"""The settings of the timeout chain, from the request limit outwards."""

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.plan.draft import Draft
from farrier.sizing import timeouts


def chain(draft: Draft) -> None:
    """Gunicorn's, systemd's and NGINX's timeouts, each longer than the one behind it."""
    work = draft.workload
    limit = work.request_limit_seconds
    worker_class = str(draft.settings["gunicorn.worker_class"].value)
    _gunicorn_timeout(draft, worker_class)
    if worker_class == "sync":  # here `timeout` is what really ends a request
        limit = max(limit, draft.number("gunicorn.timeout"))
    links = timeouts.chain(limit, work.queue_budget_seconds, work.client_timeout_seconds)
    if links is None:
        raise DoesNotFitError(
            f"no timeout chain fits: a request may take {limit} s and the margin {policy.MARGIN_SECONDS} s, which need "
            f"{limit + policy.MARGIN_SECONDS} s, but clients wait {work.client_timeout_seconds} s; lower "
            "request_limit_seconds or state a longer client_timeout_seconds"
        )
    if links.queue_budget < work.queue_budget_seconds and "queue_budget_seconds" in work.stated:
        draft.warnings.append(
            f"the queue budget is {links.queue_budget} s instead of {work.queue_budget_seconds} s: clients wait only "
            f"{work.client_timeout_seconds} s, of which a request may take {limit} s"
        )
    draft.request_limit, draft.queue_budget = limit, links.queue_budget
    _watchdog(draft, worker_class)
    _stopping(draft, links)
    _proxy(draft, links)
    draft.calculated(
        "farrier.retry_after",
        max(1, links.queue_budget),
        f"By then a queue that was full has been answered: no request waits in it for longer than {links.queue_budget} s.",
    )


def _gunicorn_timeout(draft: Draft, worker_class: str) -> None:
    work = draft.workload
    value = timeouts.timeout(worker_class, work.request_limit_seconds, work.boot_seconds)
    boot = f"the {work.boot_seconds:g} s that a worker takes to start{work.if_measured('boot_seconds')}."
    if worker_class == "sync":
        reason = (
            f"A sync worker is killed when one request takes longer: the request limit of {work.request_limit_seconds} "
            f"s, and at least {policy.BOOT_FACTOR} times {boot}"
        )
    else:
        reason = (
            f"Limits no request of a {worker_class} worker, only notices one that stands still; at least "
            f"{policy.BOOT_FACTOR} times {boot}"
        )
        if draft.greenlets:
            reason = reason.replace(
                "stands still;", "stands still or lets a request compute for so long without a pause;"
            )
    draft.calculated("gunicorn.timeout", value, reason)


def _watchdog(draft: Draft, worker_class: str) -> None:
    limit = draft.workload.request_limit_seconds
    if draft.greenlets:
        draft.default(
            "farrier.watchdog_timeout",
            0,
            "It looks at threads; gevent's requests share one, and a request that hangs costs a greenlet, not a thread.",
        )
        return
    if worker_class == "sync":
        draft.default("farrier.watchdog_timeout", 0, "A sync worker needs none: gunicorn.timeout ends its requests.")
        return
    draft.calculated(
        "farrier.watchdog_timeout",
        limit,
        f"No legitimate request takes longer than {limit} s, and gunicorn.timeout ends none of a gthread worker: one that "
        "hangs would hold its thread for good.",
    )


def _stopping(draft: Draft, links: timeouts.Chain) -> None:
    draft.calculated(
        "gunicorn.graceful_timeout",
        links.graceful,
        f"The slowest legitimate request takes {links.request_limit} s, plus {policy.MARGIN_SECONDS} s; it may finish "
        "when its slot stops.",
    )
    graceful = draft.number("gunicorn.graceful_timeout")
    draft.calculated(
        "systemd.TimeoutStopSec",
        graceful + policy.STOP_MARGIN_SECONDS,
        f"The graceful_timeout of {graceful} s plus {policy.STOP_MARGIN_SECONDS} s for Gunicorn to leave on its own.",
    )


def _proxy(draft: Draft, links: timeouts.Chain) -> None:
    total = f"{links.queue_budget} s in the queue + {links.request_limit} s for the request + {policy.MARGIN_SECONDS} s margin"
    draft.default(
        "nginx.proxy_connect_timeout",
        policy.PROXY_CONNECT_SECONDS,
        "A unix socket accepts or refuses at once; this bounds only a stalled kernel.",
    )
    draft.calculated(
        "nginx.proxy_send_timeout",
        links.proxy_read,
        f"{total}: a large body cannot be sent before a worker takes it from the queue.",
    )
    draft.calculated(
        "nginx.proxy_read_timeout",
        links.proxy_read,
        f"{total}: to NGINX the wait in the accept queue is reading time; below the {links.client_timeout} s that "
        "clients wait.",
    )
