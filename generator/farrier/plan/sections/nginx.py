"""NGINX's own limits: enough connections for the clients, the queue and Gunicorn together."""

import math

from farrier import policy
from farrier.plan.draft import Draft
from farrier.wording import MB, ceil_to, counted, number


def limits(draft: Draft) -> None:
    """Processes, connections, files, body size and client timeouts."""
    cpus = draft.facts.cpus
    draft.calculated(
        "nginx.worker_processes",
        math.ceil(cpus),
        f"One for each of {counted(cpus, 'usable CPU')}; `auto` would count the CPUs of the whole machine, whatever "
        "this host may use.",
    )
    draft.default(
        "nginx.keepalive_timeout",
        policy.NGINX_KEEPALIVE_SECONDS,
        "Longer than the 60 s after which common load balancers drop idle connections, so NGINX is not the one that "
        "drops them first.",
    )
    _connections(draft)
    _headers(draft)
    draft.calculated(
        "nginx.client_max_body_size",
        draft.workload.upload_limit_mb * MB,
        f"The upload limit of {draft.workload.upload_limit_mb} MB; a larger body gets 413 before it reaches the "
        "application.",
    )
    for name, what in (("nginx.client_header_timeout", "header"), ("nginx.client_body_timeout", "body")):
        draft.default(
            name,
            policy.NGINX_CLIENT_SECONDS,
            f"A client that pauses longer while it sends its {what} gets 408; it occupies a connection, never a "
            "worker.",
        )


def _headers(draft: Draft) -> None:
    draft.default(
        "nginx.large_client_header_buffers",
        policy.REQUEST_HEADER_BUFFER,
        "A longer request line gets 414 and a longer header field 400 before they reach Gunicorn, which could be told to read "
        f"no longer line than {number(policy.GUNICORN_REQUEST_LINE_MAXIMUM)} bytes.",
    )
    buffer = draft.number("nginx.large_client_header_buffers")
    line = buffer - policy.REQUEST_LINE_END
    draft.calculated(
        "gunicorn.limit_request_line",
        line if line <= policy.GUNICORN_REQUEST_LINE_MAXIMUM else 0,
        f"What NGINX lets through: {number(buffer)} bytes with the line's end of {policy.REQUEST_LINE_END}"
        + (
            "."
            if line <= policy.GUNICORN_REQUEST_LINE_MAXIMUM
            else ", more than Gunicorn counts up to, so it counts none."
        ),
    )
    draft.calculated(
        "gunicorn.limit_request_field_size",
        buffer + policy.REQUEST_FIELD_GROWS,
        f"What NGINX lets through: {number(buffer)} bytes with the line's end, and the space that it puts behind the colon.",
    )
    draft.default(
        "gunicorn.limit_request_fields",
        policy.REQUEST_FIELDS,
        "A client's 100 and those that NGINX adds; NGINX limits their size, not their number, so more of them get 431 from "
        "Gunicorn, and the application is not asked.",
    )
    draft.default(
        "nginx.proxy_buffer_size",
        policy.ANSWER_HEADER_BUFFER,
        "The header of an answer must fit into one buffer, or it is a 502; Gunicorn sets no limit, and browsers keep "
        "cookies of 4 KB each.",
    )


def _connections(draft: Draft) -> None:
    processes = draft.number("nginx.worker_processes")
    slots = draft.number("gunicorn.workers") * draft.each
    queued = draft.number("gunicorn.backlog")
    rate = draft.workload.peak_rps or draft.capacity_rps
    idle = math.ceil(rate * draft.number("nginx.keepalive_timeout"))
    need = 2 * (slots + queued) + idle
    wanted = max(policy.NGINX_CONNECTIONS_MINIMUM, ceil_to(policy.NGINX_SPREAD * need / processes, 256))
    hard = draft.facts.nofile_hard
    allowed = wanted if hard is None else min(wanted, hard // 2)
    reason = (
        f"{number(slots)} requests in service and {number(queued)} queued take 2 connections each, {number(rate, 1)} "
        f"new clients a second leave up to {number(idle)} idle ones: {number(need)} in all, times "
        f"{policy.NGINX_SPREAD} for uneven sharing, over {counted(processes, 'process', 'processes')}; at least "
        f"{policy.NGINX_CONNECTIONS_MINIMUM}"
    )
    if allowed < wanted:
        reason += f", and no more than half of the {number(hard or 0)} open files that the host grants"
        draft.warnings.append(
            f"NGINX would want {number(wanted)} connections per process, but the host grants {number(hard or 0)} open "
            f"files; {number(allowed)} are planned"
        )
    draft.calculated("nginx.worker_connections", allowed, reason + ".")
    connections = draft.number("nginx.worker_connections")
    files = 2 * connections if hard is None else min(2 * connections, hard)
    draft.calculated(
        "nginx.worker_rlimit_nofile",
        files,
        f"A file for each of {number(connections)} connections, and as many for static files, logs and buffered "
        "bodies.",
    )
