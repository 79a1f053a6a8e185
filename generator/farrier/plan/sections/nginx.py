"""NGINX's own limits: enough connections for the clients, the queue and Gunicorn together."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.plan.model import Input, Working
from farrier.wording import MB, ceil_to, counted, number


def limits(draft: Draft) -> None:
    """Processes, connections, files, body size and client timeouts."""
    _processes(draft)
    draft.constant(
        "nginx.keepalive_timeout",
        "NGINX_KEEPALIVE_SECONDS",
        "Longer than the 60 s after which common load balancers drop idle connections, so NGINX is not the one that "
        "drops them first.",
    )
    _connections(draft)
    _files(draft)
    _headers(draft)
    _body_size(draft)
    for name, slow in (
        ("nginx.client_header_timeout", "has not sent its whole header by then"),
        ("nginx.client_body_timeout", "pauses longer than this while it sends its body"),
    ):
        draft.constant(
            name, "NGINX_CLIENT_SECONDS", f"A client that {slow} gets 408; it occupies a connection, never a worker."
        )


def _processes(draft: Draft) -> None:
    cpus = draft.facts.cpus
    processes = math.ceil(cpus)
    draft.calculated(
        "nginx.worker_processes",
        processes,
        f"One for each of {counted(cpus, 'usable CPU')}; `auto` would count the CPUs of the whole machine, whatever "
        "this host may use.",
        "c, rounded up: `auto` would count the CPUs of the whole machine",
        lambda given: Working((given.fact("c", "cpus"),), (f"{number(cpus)}, rounded up: {processes}",)),
    )


def _connections(draft: Draft) -> None:
    processes = draft.number("nginx.worker_processes")
    concurrency = draft.sized.chosen.concurrency
    queued, keepalive = draft.number("gunicorn.backlog"), draft.number("nginx.keepalive_timeout")
    peak = draft.workload.peak_rps
    rate = peak or draft.capacity_rps
    idle = math.ceil(rate * keepalive)
    need = 2 * (concurrency + queued) + idle
    raw = policy.NGINX_SPREAD * need / processes
    wanted = max(policy.NGINX_CONNECTIONS_MINIMUM, ceil_to(raw, 256))
    hard = draft.facts.nofile_hard
    allowed = wanted if hard is None else min(wanted, hard // 2)
    reason = (
        f"{counted(concurrency, 'request')} in service and {number(queued)} queued take 2 connections each, {number(rate, 1)} "
        f"new clients a second leave up to {number(idle)} idle ones: {number(need)} in all, times "
        f"{policy.NGINX_SPREAD} for uneven sharing, over {counted(processes, 'process', 'processes')}; at least "
        f"{number(policy.NGINX_CONNECTIONS_MINIMUM)}"
    )
    if allowed < wanted:
        reason += f", and no more than half of the {number(hard or 0)} open files that the host grants"
        draft.warnings.append(
            f"NGINX would want {number(wanted)} connections per process, but the host grants {number(hard or 0)} open "
            f"files; {number(allowed)} are planned"
        )
    draft.calculated(
        "nginx.worker_connections",
        allowed,
        reason + ".",
        "s (2 (P T + B) + r k) / n, rounded up to 256, at least m, at most half of the files that the host grants: "
        "two connections for each request in service or queued, one for each idle client",
        lambda given: Working(
            (
                Input("P T", "requests in service", number(concurrency), "calculated"),
                given.setting("B", "gunicorn.backlog"),
                given.workload("r", "peak_rps")
                if peak
                else given.capacity()._replace(symbol="r", meaning="no peak is stated, so the capacity"),
                given.setting("k", "nginx.keepalive_timeout"),
                given.setting("n", "nginx.worker_processes"),
                given.constant("s", "NGINX_SPREAD"),
                given.constant("m", "NGINX_CONNECTIONS_MINIMUM"),
                given.fact("", "nofile_hard"),
            ),
            (
                f"idle clients: {number(rate)} x {keepalive} s = {number(idle)}",
                f"2 x ({number(concurrency)} + {number(queued)}) + {number(idle)} = {number(need)}",
                f"{policy.NGINX_SPREAD} x {number(need)} / {processes} = {number(raw)}, so {number(wanted)}",
            ),
        ),
    )


def _files(draft: Draft) -> None:
    connections, hard = draft.number("nginx.worker_connections"), draft.facts.nofile_hard
    draft.calculated(
        "nginx.worker_rlimit_nofile",
        2 * connections if hard is None else min(2 * connections, hard),
        f"A file for each of {number(connections)} connections, and as many for static files, logs and buffered "
        "bodies.",
        "2 x worker_connections, at most what the host grants: static files, logs and buffered bodies are files, too",
        lambda given: Working(
            (given.setting("", "nginx.worker_connections"), given.fact("", "nofile_hard")),
            (f"2 x {number(connections)} = {number(2 * connections)}",),
        ),
    )


def _headers(draft: Draft) -> None:
    draft.constant(
        "nginx.large_client_header_buffers",
        "REQUEST_HEADER_BUFFER",
        "A longer request line gets 414 and a longer header field 400 before they reach Gunicorn, which reads "
        f"lines of at most {number(policy.GUNICORN_REQUEST_LINE_MAXIMUM)} bytes.",
        "bytes",
    )
    buffer = draft.number("nginx.large_client_header_buffers")
    line, field = buffer - policy.REQUEST_LINE_END, buffer + policy.REQUEST_FIELD_GROWS
    counts = line <= policy.GUNICORN_REQUEST_LINE_MAXIMUM
    draft.calculated(
        "gunicorn.limit_request_line",
        line if counts else 0,
        f"What NGINX lets through: {number(buffer)} bytes less the {policy.REQUEST_LINE_END} that end the line"
        + ("." if counts else ", more than Gunicorn can limit, so it sets no limit."),
        "b - e, what NGINX lets through; 0, any length, where Gunicorn has no limit so high",
        lambda given: Working(
            (
                given.setting("b", "nginx.large_client_header_buffers"),
                given.constant("e", "REQUEST_LINE_END"),
                given.constant("at most", "GUNICORN_REQUEST_LINE_MAXIMUM"),
            ),
            (f"{number(buffer)} - {policy.REQUEST_LINE_END} = {number(line)} bytes",),
        ),
    )
    draft.calculated(
        "gunicorn.limit_request_field_size",
        field,
        f"What NGINX lets through: {number(buffer)} bytes including the line's end, plus the space that it puts after the colon.",
        "b + s, what NGINX lets through, plus the space that it puts after the colon",
        lambda given: Working(
            (given.setting("b", "nginx.large_client_header_buffers"), given.constant("s", "REQUEST_FIELD_GROWS")),
            (f"{number(buffer)} + {policy.REQUEST_FIELD_GROWS} = {number(field)} bytes",),
        ),
    )
    draft.constant(
        "gunicorn.limit_request_fields",
        "REQUEST_FIELDS",
        "The 100 that a client may send, plus those that NGINX adds; NGINX limits their size, not their number, so more get 431 "
        "from Gunicorn, and the request does not reach the application.",
        "fields",
    )
    draft.constant(
        "nginx.proxy_buffer_size",
        "ANSWER_HEADER_BUFFER",
        "A response header must fit into one buffer, or the client gets 502; Gunicorn sets no limit, and browsers keep "
        "cookies of 4 KB each.",
        "bytes",
    )


def _body_size(draft: Draft) -> None:
    limit = draft.workload.upload_limit_mb
    draft.calculated(
        "nginx.client_max_body_size",
        limit * MB,
        f"The upload limit of {limit} MB; a larger body gets 413 before it reaches the application.",
        "u x 1,048,576 bytes: a larger body gets 413 before it reaches the application",
        lambda given: Working(
            (given.workload("u", "upload_limit_mb"),), (f"{limit} x {number(MB)} = {number(limit * MB)} bytes",)
        ),
    )
