"""The accept queues: one number in Gunicorn and systemd, which NGINX and the kernel have to hold."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.plan.model import Working
from farrier.sizing import timeouts
from farrier.wording import counted, number, per_second

AGREEING = ("gunicorn.backlog", "systemd.Backlog")
"""Settings that are one and the same number."""

OPERATORS_OWN = "Equal to what the operator set for the same queue."
EQUAL = "Equal to gunicorn.backlog: systemd makes the socket, so it must ask for the same queue."


def backlog(draft: Draft, links: timeouts.Chain) -> None:
    """As many requests as can be answered within the queue budget; more would only wait to fail."""
    work = draft.workload
    raw = draft.capacity_rps * links.queue_budget
    upper = max(1, min(policy.MAX_BACKLOG, math.floor(raw)))
    arriving = min(work.peak_rps or draft.capacity_rps, draft.capacity_rps)
    needed = math.ceil(arriving * work.boot_seconds)
    set_by_operator = [name for name in AGREEING if name in draft.overrides]
    leading, following = AGREEING[::-1] if set_by_operator == ["systemd.Backlog"] else AGREEING
    _answered_in_time(draft, links.queue_budget, leading, raw, upper, arriving, needed)
    value = draft.number(leading)
    _same(draft, following, leading, OPERATORS_OWN if set_by_operator == [leading] else EQUAL)
    _listen_backlog(draft, value)
    _somaxconn(draft, max(value, draft.number("nginx.listen_backlog")))
    if value < needed:
        draft.warnings.append(
            f"the backlog of {number(value)} is shorter than a restart: {per_second(arriving)} for "
            f"{number(work.boot_seconds, 1)} s of boot make {counted(needed, 'request')}, and the rest gets 503; "
            f"{_what_meets(draft, links, upper, needed, arriving)}"
        )
    if value > upper:
        draft.warnings.append(
            f"a backlog of {number(value)} holds more than the {counted(upper, 'request')} that can be answered within the queue budget "
            f"of {links.queue_budget} s: the last ones wait only to get 504"
        )


def _answered_in_time(
    draft: Draft, budget: int, name: str, raw: float, upper: int, arriving: float, needed: int
) -> None:
    work = draft.workload
    held = "held" if needed <= upper else "more than that: a warning says what would meet it"
    draft.calculated(
        name,
        upper,
        f"{per_second(draft.capacity_rps)} for the queue budget of {budget} s: a request "
        "behind that many could not be answered in time, so it is refused at once with 503.",
        "X x q, rounded down, from 1 to MAX_BACKLOG: a request behind that many would be answered too late; a restart wants "
        "at least r x b, the requests at the rate r (the peak, at most X) that arrive while a worker boots",
        lambda given: Working(
            (
                given.capacity(),
                given.queue_budget(budget),
                *([given.workload("r", "peak_rps")] if work.peak_rps is not None else []),
                given.workload("b", "boot_seconds"),
                given.constant("B <=", "MAX_BACKLOG"),
            ),
            (
                f"X x q = {number(draft.capacity_rps)} x {budget} s = {number(raw, 1)}",
                f"while a worker boots {number(arriving, 1)} x {number(work.boot_seconds)} s = "
                f"{counted(needed, 'request')} {'arrives' if needed == 1 else 'arrive'}, "
                f"{held}",
            ),
        ),
    )


def _same(draft: Draft, name: str, other: str, reason: str) -> None:
    """The other name of the same number."""
    value = draft.number(other)
    draft.calculated(
        name,
        value,
        reason,
        f"{other}: systemd makes the socket that Gunicorn serves, so both are one queue",
        lambda given: Working((given.setting("", other),), (f"{number(value)}, the same queue",)),
    )


def _listen_backlog(draft: Draft, queue: int) -> None:
    value = max(queue, policy.NGINX_LISTEN_BACKLOG)
    draft.calculated(
        "nginx.listen_backlog",
        value,
        f"At least the {number(queue)} of Gunicorn's queue, and never below NGINX's own {policy.NGINX_LISTEN_BACKLOG}: clients "
        "that connect in a burst wait here for milliseconds, but a full queue costs them a second.",
        "the larger of gunicorn.backlog and NGINX_LISTEN_BACKLOG",
        lambda given: Working(
            (given.setting("", "gunicorn.backlog"), given.constant("", "NGINX_LISTEN_BACKLOG")),
            (f"max({number(queue)}, {number(policy.NGINX_LISTEN_BACKLOG)}) = {number(value)}",),
        ),
    )


def _what_meets(draft: Draft, links: timeouts.Chain, upper: int, needed: int, arriving: float) -> str:
    """What would let the queue hold a restart's requests; what binds it now comes first."""
    work = draft.workload
    if needed <= upper:
        return f"the operator's value binds: up to {number(upper)} could be answered in time"
    budget = math.ceil(needed / draft.capacity_rps)
    chain = timeouts.Chain(links.request_limit, budget, work.client_timeout_seconds)
    longer = f"a queue_budget_seconds of {budget} instead of {links.queue_budget}, for which NGINX waits {chain.proxy_read} s"
    if needed > policy.MAX_BACKLOG:
        binds = f"the longest queue that is planned binds, {number(policy.MAX_BACKLOG)}"
        ways = []
    elif chain.proxy_read <= work.client_timeout_seconds:
        binds = f"queue_budget_seconds binds, as no more than {number(upper)} could be answered within {links.queue_budget} s"
        ways = [longer]
    else:
        binds = f"client_timeout_seconds {work.client_timeout_seconds} binds, which leaves {links.queue_budget} s for the queue"
        ways = [f"a client_timeout_seconds of {chain.proxy_read} with {longer}"]
    ways.append(f"a boot within {number(math.floor(100 * upper / arriving) / 100)} s")
    ways.append(f"at most {per_second(math.floor(10 * upper / work.boot_seconds) / 10)}")
    return f"{binds}; {', or '.join(ways)} would do"


def _somaxconn(draft: Draft, queue: int) -> None:
    has = draft.facts.somaxconn
    floor = max(has or 0, policy.DEFAULT_SOMAXCONN)
    if has is not None and has >= max(queue, policy.DEFAULT_SOMAXCONN):
        put, value = draft.fact, has
        reason = (
            f"The host's own value already holds queues of {number(queue)}; it is kept, so that nothing else on the host "
            "changes."
        )
    else:
        put, value = draft.calculated, max(queue, min(floor, policy.MAX_BACKLOG))
        reason = (
            f"The kernel cuts every accept queue to this; it must hold {number(queue)} and is never set below its own default of "
            f"{number(policy.DEFAULT_SOMAXCONN)}."
        )
    put(
        "kernel.net.core.somaxconn",
        value,
        reason,
        "the largest of both queues, the host's own value and DEFAULT_SOMAXCONN: the kernel cuts every queue to it",
        lambda given: Working(
            (
                given.setting("", "gunicorn.backlog"),
                given.setting("", "nginx.listen_backlog"),
                given.fact("", "somaxconn"),
                given.constant("", "DEFAULT_SOMAXCONN"),
            ),
            (f"queues of up to {number(queue)}; the host has {'an unknown value' if has is None else number(has)}",),
        ),
    )
