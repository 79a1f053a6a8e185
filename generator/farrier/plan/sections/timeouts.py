"""The settings of the timeout chain, from the request limit outwards."""

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.plan.derivation import Inputs
from farrier.plan.draft import Draft
from farrier.plan.model import Working
from farrier.sizing import timeouts
from farrier.wording import number


def chain(draft: Draft) -> timeouts.Chain:
    """Gunicorn's, systemd's and NGINX's timeouts, each longer than the one behind it, and what they follow from."""
    work = draft.workload
    _keepalive(draft)
    limit = work.request_limit_seconds
    _gunicorn_timeout(draft)
    if draft.kind.ends_requests:
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
    _watchdog(draft)
    _stopping(draft, links)
    _proxy(draft, links)
    _retry_after(draft, links.queue_budget)
    return links


def _keepalive(draft: Draft) -> None:
    draft.default(
        "gunicorn.keepalive",
        0,
        "NGINX opens a connection for each request: on a unix socket that costs microseconds, and no request can meet "
        "a connection that is just being closed.",
        "0, whatever the host and the workload: NGINX opens a connection for each request",
        lambda given: Working(
            (given.setting("", "gunicorn.worker_connections"),),
            (
                "on a unix socket a new connection costs microseconds, no request can meet one that is just being closed, "
                "and no thread waits for a second request",
            ),
        ),
    )
    if draft.fixed("gunicorn.keepalive"):
        draft.warnings.append("keepalive is above 0: NGINX closes each connection, so it only keeps threads waiting")


def _gunicorn_timeout(draft: Draft) -> None:
    work, kind = draft.workload, draft.kind
    boot = f"the {work.boot_seconds:g} s that a worker takes to start{work.if_measured('boot_seconds')}."
    if kind.ends_requests:
        reason = (
            f"A sync worker is killed when one request takes longer: the request limit of {work.request_limit_seconds} "
            f"s, and at least {policy.BOOT_FACTOR} times {boot}"
        )
    else:
        stalls = "stalls" if kind.gives_way else "stalls or lets a request compute for that long without a pause"
        reason = (
            f"Does not limit the requests of a {kind.name} worker, only detects a worker that {stalls}; at least "
            f"{policy.BOOT_FACTOR} times {boot}"
        )

    def working(given: Inputs) -> Working:
        least = (
            given.workload("r", "request_limit_seconds")
            if kind.ends_requests
            else given.constant("g", "GTHREAD_LIVENESS_SECONDS", "s")
        )
        boots = round(policy.BOOT_FACTOR * work.boot_seconds)
        return Working(
            (
                given.setting("", "gunicorn.worker_class"),
                least,
                given.workload("b", "boot_seconds"),
                given.constant("f", "BOOT_FACTOR"),
            ),
            (f"max({least.value}, {policy.BOOT_FACTOR} x {number(work.boot_seconds)} s = {boots} s)",),
        )

    draft.calculated(
        "gunicorn.timeout",
        timeouts.timeout(work.request_limit_seconds if kind.ends_requests else None, work.boot_seconds),
        reason,
        "max(r, f b): it ends a request of a sync worker, and must outlast a boot"
        if kind.ends_requests
        else f"max(g, f b): for {kind.name} it limits no request, but must outlast a boot",
        working,
    )


def _watchdog(draft: Draft) -> None:
    kind = draft.kind
    limit = 0 if kind.unwatched else draft.workload.request_limit_seconds
    reason = (
        f"Off: {kind.unwatched}."
        if kind.unwatched
        else f"No legitimate request takes longer than {limit} s, and gunicorn.timeout ends none of a {kind.name} worker: "
        "one that hangs would hold its thread for good."
    )
    put = draft.default if kind.unwatched else draft.calculated
    put(
        "farrier.watchdog_timeout",
        limit,
        reason,
        "r with gthread, else 0: gunicorn.timeout ends the requests of a sync worker, and none of a gthread worker; gevent's "
        "requests share the one thread that could be looked at",
        lambda given: Working(
            (given.setting("", "gunicorn.worker_class"), given.workload("r", "request_limit_seconds")),
            (f"{kind.name}: {limit} s",),
        ),
    )


def _stopping(draft: Draft, links: timeouts.Chain) -> None:
    draft.calculated(
        "gunicorn.graceful_timeout",
        links.graceful,
        f"The slowest legitimate request takes {links.request_limit} s, plus {policy.MARGIN_SECONDS} s; it may finish "
        "when its slot stops.",
        "r + m: the slowest legitimate request may finish when its slot stops",
        lambda given: Working(
            (given.request_limit(links.request_limit), given.constant("m", "MARGIN_SECONDS", "s")),
            (f"{links.request_limit} s + {policy.MARGIN_SECONDS} s = {links.graceful} s",),
        ),
    )
    graceful = draft.number("gunicorn.graceful_timeout")
    stop = graceful + policy.STOP_MARGIN_SECONDS
    draft.calculated(
        "systemd.TimeoutStopSec",
        stop,
        f"The graceful_timeout of {graceful} s plus {policy.STOP_MARGIN_SECONDS} s for Gunicorn to leave on its own.",
        "graceful_timeout + m: Gunicorn leaves on its own before systemd kills it",
        lambda given: Working(
            (given.setting("", "gunicorn.graceful_timeout"), given.constant("m", "STOP_MARGIN_SECONDS", "s")),
            (f"{graceful} s + {policy.STOP_MARGIN_SECONDS} s = {stop} s",),
        ),
    )


def _proxy(draft: Draft, links: timeouts.Chain) -> None:
    draft.constant(
        "nginx.proxy_connect_timeout",
        "PROXY_CONNECT_SECONDS",
        "A unix socket accepts or refuses at once; this bounds only a stalled kernel.",
    )

    def working(given: Inputs) -> Working:
        return Working(
            (
                given.queue_budget(links.queue_budget),
                given.request_limit(links.request_limit),
                given.constant("m", "MARGIN_SECONDS", "s"),
                given.workload("t", "client_timeout_seconds"),
            ),
            (
                f"{links.queue_budget} s + {links.request_limit} s + {policy.MARGIN_SECONDS} s = {links.proxy_read} s, at most "
                f"{links.client_timeout} s",
            ),
        )

    total = f"{links.queue_budget} s in the queue + {links.request_limit} s for the request + {policy.MARGIN_SECONDS} s margin"
    for name, why in (
        ("nginx.proxy_send_timeout", "a large body cannot be sent before a worker takes it from the queue."),
        (
            "nginx.proxy_read_timeout",
            f"to NGINX the wait in the accept queue is reading time; below the {links.client_timeout} s that clients wait.",
        ),
    ):
        draft.calculated(
            name,
            links.proxy_read,
            f"{total}: {why}",
            "q + r + m, at most what clients wait: to NGINX a request in the accept queue is one that does not answer yet",
            working,
        )


def _retry_after(draft: Draft, queue_budget: int) -> None:
    draft.calculated(
        "farrier.retry_after",
        max(1, queue_budget),
        f"By then a queue that was full has been answered: no request waits in it for longer than {queue_budget} s.",
        "q, at least 1: whoever waited when the queue was full has been answered by then",
        lambda given: Working((given.queue_budget(queue_budget),), (f"max(1, {queue_budget}) s",)),
    )
