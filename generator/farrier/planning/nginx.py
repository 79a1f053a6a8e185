"""NGINX's own limits: enough connections for the clients, the queue and Gunicorn together."""

import math

from farrier import policy
from farrier.planning.draft import Draft
from farrier.units import MB, ceil_to, counted, number


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
