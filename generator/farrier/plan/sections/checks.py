"""What an operator's values must not break; a value that is only unwise has left a warning already."""

from collections.abc import Iterator

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.plan.draft import Draft
from farrier.plan.sections.concurrency import contradictions
from farrier.sizing import timeouts
from farrier.wording import MB, mb, number


def check(draft: Draft, links: timeouts.Chain) -> None:
    """Refuse values that contradict each other, all of them in one error.

    Raises:
        DoesNotFitError: with the need, the limit and where each comes from.
    """
    broken = [*_memory(draft), *_timeouts(draft, links), *_queue(draft), *_files(draft), *contradictions(draft)]
    _headers(draft)
    if broken:
        raise DoesNotFitError(*broken)


def _memory(draft: Draft) -> Iterator[str]:
    maximum, high = draft.number("systemd.MemoryMax"), draft.number("systemd.MemoryHigh")
    need = draft.slot_mb
    breakdown = draft.cost.breakdown(draft.number("gunicorn.workers"), draft.per_worker)
    if maximum < need * MB * (1 - 1e-9):
        yield f"systemd.MemoryMax {maximum} ({mb(maximum / MB)}) is below the {mb(need)} that a slot needs: {breakdown}"
    elif high < need * MB * (1 - 1e-9):
        draft.warnings.append(
            f"MemoryHigh {mb(high / MB)} is below the {mb(need)} that a slot needs ({breakdown}): it will be slowed "
            "down all the time"
        )
    if high > maximum:
        yield f"systemd.MemoryHigh {high} is above systemd.MemoryMax {maximum}: the slot would be killed before it is slowed down"
    if draft.copies * maximum > draft.budget.gunicorn_mb * MB * (1 + 1e-9):
        yield (
            f"systemd.MemoryMax {maximum} ({mb(maximum / MB)}) in {draft.copies} slots needs "
            f"{mb(draft.copies * maximum / MB)}, but the limit is {mb(draft.budget.gunicorn_mb)} "
            f"({draft.budget.breakdown()})"
        )


def _timeouts(draft: Draft, links: timeouts.Chain) -> Iterator[str]:
    limit, work = links.request_limit, draft.workload
    stated = work.request_limit_seconds
    timeout = draft.number("gunicorn.timeout")
    if draft.kind.ends_requests and timeout < stated:
        yield f"gunicorn.timeout {timeout} s ends requests that may take {stated} s (request_limit_seconds): need {stated}"
    if timeout < work.boot_seconds:
        yield f"gunicorn.timeout {timeout} s kills workers that take {number(work.boot_seconds)} s to start (boot_seconds)"
    watchdog = draft.number("farrier.watchdog_timeout")
    if 0 < watchdog < stated:
        yield (
            f"farrier.watchdog_timeout {watchdog} s replaces workers for requests that may take {stated} s "
            f"(request_limit_seconds): need {stated}, or 0 for none"
        )
    _watches_nothing(draft, watchdog)
    graceful = draft.number("gunicorn.graceful_timeout")
    if graceful < stated:
        yield (
            f"gunicorn.graceful_timeout {graceful} s cuts requests that may take {stated} s (request_limit_seconds) at "
            f"each deploy: need {stated}"
        )
    stop = draft.number("systemd.TimeoutStopSec")
    if stop <= graceful:
        yield f"systemd.TimeoutStopSec {stop} s kills a slot within its gunicorn.graceful_timeout of {graceful} s: need {graceful + 1}"
    chain = f"{links.queue_budget} s in the queue + {limit} s for the request + {links.proxy_read - links.queue_budget - limit} s margin"
    for name in ("nginx.proxy_read_timeout", "nginx.proxy_send_timeout"):
        value = draft.number(name)
        if value < links.proxy_read:
            yield f"{name} {value} s breaks the timeout chain: need {links.proxy_read} s ({chain})"
    read = draft.number("nginx.proxy_read_timeout")
    if read > work.client_timeout_seconds:
        draft.warnings.append(
            f"proxy_read_timeout {read} s outlasts the {work.client_timeout_seconds} s that clients wait: NGINX works "
            "for clients that have left"
        )


def _watches_nothing(draft: Draft, watchdog: int) -> None:
    if watchdog and draft.kind.unwatched:
        draft.warnings.append(f"farrier.watchdog_timeout {watchdog} s watches nothing: {draft.kind.unwatched}")


def _queue(draft: Draft) -> Iterator[str]:
    backlog, own = draft.number("gunicorn.backlog"), draft.number("systemd.Backlog")
    if own != backlog:
        yield f"systemd.Backlog {own} contradicts gunicorn.backlog {backlog}: they are one queue, set one of them"
    somaxconn = draft.number("kernel.net.core.somaxconn")
    for name in ("gunicorn.backlog", "nginx.listen_backlog"):
        if somaxconn < draft.number(name):
            yield f"kernel.net.core.somaxconn {somaxconn} cuts {name} {draft.number(name)}: need {draft.number(name)}"
    listen = draft.number("nginx.listen_backlog")
    if listen < policy.NGINX_LISTEN_BACKLOG:
        draft.warnings.append(
            f"nginx.listen_backlog {listen} is short: clients that connect in a burst are dropped and try again a second later"
        )


def _files(draft: Draft) -> Iterator[str]:
    hard = draft.facts.nofile_hard
    connections, files = draft.number("nginx.worker_connections"), draft.number("nginx.worker_rlimit_nofile")
    if files < connections:
        yield f"nginx.worker_rlimit_nofile {files} is below nginx.worker_connections {connections}: need {connections}"
    for name in ("systemd.LimitNOFILE", "nginx.worker_rlimit_nofile"):
        if hard is not None and draft.number(name) > hard:
            yield f"{name} {draft.number(name)} is more than the host grants a service: the limit is {hard} open files"
    if draft.number("gunicorn.max_requests_jitter") > draft.number("gunicorn.max_requests") > 0:
        draft.warnings.append(
            "max_requests_jitter is larger than max_requests: how often a worker is replaced is mostly chance"
        )


def _headers(draft: Draft) -> None:
    buffer = draft.number("nginx.large_client_header_buffers")
    for name, passed in (
        ("gunicorn.limit_request_line", buffer - policy.REQUEST_LINE_END),
        ("gunicorn.limit_request_field_size", buffer + policy.REQUEST_FIELD_GROWS),
    ):
        limit = draft.number(name)
        if 0 < limit < passed:
            draft.warnings.append(
                f"{name} {number(limit)} bytes is less than the {number(passed)} that NGINX lets through "
                f"(nginx.large_client_header_buffers {number(buffer)}): what lies between gets Gunicorn's own error page"
            )
