"""The accept queues: one number in Gunicorn and systemd, which NGINX and the kernel have to hold."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.sizing import timeouts
from farrier.wording import counted, number

AGREEING = ("gunicorn.backlog", "systemd.Backlog")
"""Settings that are one and the same number."""


def backlog(draft: Draft) -> None:
    """As many requests as can be answered within the queue budget; more would only wait to fail."""
    work = draft.workload
    upper = max(1, min(policy.MAX_BACKLOG, math.floor(draft.capacity_rps * draft.queue_budget)))
    reason = (
        f"{number(draft.capacity_rps, 1)} requests a second for the queue budget of {draft.queue_budget} s: a request "
        "behind that many could not be answered in time, so it is refused at once with 503."
    )
    own = next((int(draft.overrides[name]) for name in AGREEING if name in draft.overrides), None)
    value = upper if own is None else own
    for name, why in (
        ("gunicorn.backlog", reason),
        (
            "systemd.Backlog",
            "Equal to gunicorn.backlog: systemd makes the socket, so it must ask for the same queue.",
        ),
    ):
        if own is None or name in draft.overrides:
            draft.calculated(name, upper, why)
        else:
            draft.calculated(name, value, "Equal to what the operator set for the same queue.")
    draft.calculated(
        "nginx.listen_backlog",
        max(value, policy.NGINX_LISTEN_BACKLOG),
        f"At least the {value} of Gunicorn's queue, and never below NGINX's own {policy.NGINX_LISTEN_BACKLOG}: clients "
        "that connect in a burst wait here for milliseconds, but a full queue costs them a second.",
    )
    _somaxconn(draft, max(value, draft.number("nginx.listen_backlog")))
    arriving = min(work.peak_rps or draft.capacity_rps, draft.capacity_rps)
    needed = math.ceil(arriving * work.boot_seconds)
    if value < needed:
        draft.warnings.append(
            f"the backlog of {value} is shorter than a restart: {number(arriving, 1)} requests a second for "
            f"{number(work.boot_seconds, 1)} s of boot make {counted(needed, 'request')}, and the rest gets 503; "
            f"{_what_meets(draft, upper, needed, arriving)}"
        )
    if value > upper:
        draft.warnings.append(
            f"a backlog of {value} holds more than the {upper} requests that can be answered within the queue budget "
            f"of {draft.queue_budget} s: the last ones wait only to get 504"
        )


def _what_meets(draft: Draft, upper: int, needed: int, arriving: float) -> str:
    """What would let the queue hold a restart's requests; what binds it now comes first."""
    work = draft.workload
    if needed <= upper:
        return f"the operator's value binds: up to {upper} could be answered in time"
    budget = math.ceil(needed / draft.capacity_rps)
    chain = timeouts.Chain(draft.request_limit, budget, work.client_timeout_seconds)
    longer = f"a queue_budget_seconds of {budget} instead of {draft.queue_budget}, for which NGINX waits {chain.proxy_read} s"
    if needed > policy.MAX_BACKLOG:
        binds = f"the longest queue that is planned binds, {number(policy.MAX_BACKLOG)}"
        ways = []
    elif chain.proxy_read <= work.client_timeout_seconds:
        binds = f"queue_budget_seconds binds, as no more than {upper} could be answered within {draft.queue_budget} s"
        ways = [longer]
    else:
        binds = f"client_timeout_seconds {work.client_timeout_seconds} binds, which leaves {draft.queue_budget} s for the queue"
        ways = [f"a client_timeout_seconds of {chain.proxy_read} with {longer}"]
    ways.append(f"a boot within {number(math.floor(100 * upper / arriving) / 100)} s")
    ways.append(f"at most {number(math.floor(10 * upper / work.boot_seconds) / 10, 1)} requests a second")
    return f"{binds}; {', or '.join(ways)} would do"


def _somaxconn(draft: Draft, backlog: int) -> None:
    has = draft.facts.somaxconn or policy.DEFAULT_SOMAXCONN
    floor = max(has, policy.DEFAULT_SOMAXCONN)
    if backlog <= floor and draft.facts.somaxconn is not None and has >= policy.DEFAULT_SOMAXCONN:
        draft.fact(
            "kernel.net.core.somaxconn",
            has,
            f"The host's own value already holds queues of {backlog}; it is kept, so that nothing else on the host "
            "changes.",
        )
        return
    draft.calculated(
        "kernel.net.core.somaxconn",
        max(backlog, min(floor, policy.MAX_BACKLOG)),
        f"The kernel cuts every accept queue to this; it must hold {backlog} and is never set below its own default of "
        f"{policy.DEFAULT_SOMAXCONN}.",
    )
