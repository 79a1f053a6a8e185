"""What systemd and NGINX allow."""

import math

from farrier import policy
from farrier.plan.explaining.sheet import Derivation, Input, Sheet
from farrier.plan.sections.memory_limits import rounded_share
from farrier.settings import Value
from farrier.wording import MB, ceil_to, mb, number


def memory_max(sheet: Sheet) -> Derivation:
    """A multiple of the need, or an equal part of what there is."""
    draft = sheet.draft
    share, ample = draft.budget.gunicorn_mb / draft.copies, policy.MEMORY_MAX_FACTOR * draft.slot_mb
    if draft.memory_assumed:
        value = rounded_share(draft)
        return Derivation(
            "M / o, rounded down to d binary digits but not below S: S is assumed, and an assumption must not kill",
            (sheet.slot(), sheet.budget(), sheet.copies(), sheet.constant("d", "ASSUMED_MEMORY_DIGITS")),
            (
                f"M / o = {mb(draft.budget.gunicorn_mb)} / {draft.copies} = {number(share, 1)} MB",
                f"{mb(value)} = {number(value * MB)} bytes",
            ),
            value * MB,
        )
    value = math.floor(min(share, ample))
    return Derivation(
        "min(f S, M / o), rounded down to whole MB: a leak ends in its own slot, and all slots at their limit still fit",
        (
            sheet.slot(),
            sheet.budget(),
            sheet.constant("f", "MEMORY_MAX_FACTOR"),
            sheet.copies(),
        ),
        (
            f"f S = {number(policy.MEMORY_MAX_FACTOR)} x {number(draft.slot_mb, 1)} MB = {number(ample, 1)} MB",
            f"M / o = {mb(draft.budget.gunicorn_mb)} / {draft.copies} = {number(share, 1)} MB",
            f"the smaller: {mb(value)} = {number(value * MB)} bytes",
        ),
        value * MB,
    )


def memory_high(sheet: Sheet) -> Derivation:
    """Where the kernel starts to reclaim."""
    maximum = sheet.draft.number("systemd.MemoryMax") // MB
    need, part = math.ceil(sheet.draft.slot_mb), math.floor(policy.MEMORY_HIGH_SHARE * maximum)
    value = min(max(need, part), maximum)
    return Derivation(
        "h x MemoryMax, not below S and not above MemoryMax: reclaimed before anything is killed",
        (sheet.setting("", "systemd.MemoryMax"), sheet.slot(), sheet.constant("h", "MEMORY_HIGH_SHARE")),
        (
            f"{number(policy.MEMORY_HIGH_SHARE)} x {mb(maximum)} = {mb(part)}; S = {mb(need)}",
            f"{mb(value)} = {number(value * MB)} bytes",
        ),
        value * MB,
    )


def limit_nofile(sheet: Sheet) -> Derivation:
    """Files of a worker."""
    raw = policy.FILES_PER_WORKER + policy.FILES_PER_THREAD * sheet.threads
    wanted = max(policy.LIMIT_NOFILE_MINIMUM, ceil_to(raw, 256))
    return Derivation(
        "w + f T, rounded up to 256, at least m, at most what the host grants",
        (
            sheet.each("T"),
            sheet.constant("w", "FILES_PER_WORKER"),
            sheet.constant("f", "FILES_PER_THREAD"),
            sheet.constant("m", "LIMIT_NOFILE_MINIMUM"),
            sheet.fact("", "nofile_hard"),
        ),
        (
            f"{policy.FILES_PER_WORKER} + {policy.FILES_PER_THREAD} x {sheet.threads} = {number(raw)}, so {number(wanted)}",
        ),
        _granted(sheet, wanted),
    )


def tasks_max(sheet: Sheet) -> Derivation:
    """Processes and threads of a slot."""
    threads = policy.GEVENT_POOL_THREADS if sheet.draft.greenlets else sheet.threads
    own, visible = 1 + sheet.workers * (1 + threads), sheet.draft.facts.visible_cpus
    pools = policy.TASKS_POOLS * (1 + sheet.workers) * visible
    raw = policy.TASKS_FACTOR * own + pools + policy.TASKS_BASE
    return Derivation(
        "f (1 + P (1 + T)) + l (1 + P) v + t, rounded up to 8: libraries start a thread for each CPU that they see, whatever "
        "the quota; a fork bomb ends here",
        (
            sheet.setting("P", "gunicorn.workers"),
            sheet.constant("T", "GEVENT_POOL_THREADS") if sheet.draft.greenlets else sheet.each("T"),
            Input("v", "CPUs that a program sees", str(visible), "fact of the host"),
            sheet.constant("f", "TASKS_FACTOR"),
            sheet.constant("l", "TASKS_POOLS"),
            sheet.constant("t", "TASKS_BASE"),
        ),
        (
            f"1 master + {sheet.workers} x (1 + {threads}) = {own}",
            f"{policy.TASKS_POOLS} x (1 + {sheet.workers}) x {visible} = {pools}",
            f"{policy.TASKS_FACTOR} x {own} + {pools} + {policy.TASKS_BASE} = {raw}, rounded up: {ceil_to(raw, 8)}",
        ),
        ceil_to(raw, 8),
    )


def nginx_processes(sheet: Sheet) -> Derivation:
    """One per CPU."""
    value = math.ceil(sheet.cpus)
    return Derivation(
        "c, rounded up: `auto` would count the CPUs of the whole machine",
        (sheet.fact("c", "cpus"),),
        (f"{number(sheet.cpus)}, rounded up: {value}",),
        value,
    )


def nginx_connections(sheet: Sheet) -> Derivation:
    """Clients, queue and Gunicorn."""
    draft = sheet.draft
    processes, slots = draft.number("nginx.worker_processes"), sheet.service.slots
    queued, keepalive = draft.number("gunicorn.backlog"), draft.number("nginx.keepalive_timeout")
    rate = sheet.work.peak_rps or draft.capacity_rps
    idle = math.ceil(rate * keepalive)
    need = 2 * (slots + queued) + idle
    raw = policy.NGINX_SPREAD * need / processes
    wanted = max(policy.NGINX_CONNECTIONS_MINIMUM, ceil_to(raw, 256))
    hard = draft.facts.nofile_hard
    return Derivation(
        "s (2 (P T + B) + r k) / n, rounded up to 256, at least m, at most half of the files that the host grants: "
        "two connections for each request in service or queued, one for each idle client",
        (
            Input("P T", "requests in service", number(slots), "calculated"),
            sheet.setting("B", "gunicorn.backlog"),
            sheet.workload("r", "peak_rps")
            if sheet.work.peak_rps
            else sheet.capacity()._replace(symbol="r", meaning="no peak is stated, so the capacity"),
            sheet.setting("k", "nginx.keepalive_timeout"),
            sheet.setting("n", "nginx.worker_processes"),
            sheet.constant("s", "NGINX_SPREAD"),
            sheet.constant("m", "NGINX_CONNECTIONS_MINIMUM"),
            sheet.fact("", "nofile_hard"),
        ),
        (
            f"idle clients: {number(rate)} x {keepalive} s = {number(idle)}",
            f"2 x ({number(slots)} + {number(queued)}) + {number(idle)} = {number(need)}",
            f"{policy.NGINX_SPREAD} x {number(need)} / {processes} = {number(raw)}, so {number(wanted)}",
        ),
        wanted if hard is None else min(wanted, hard // 2),
    )


def nginx_files(sheet: Sheet) -> Derivation:
    """Two files for each connection."""
    connections = sheet.draft.number("nginx.worker_connections")
    return Derivation(
        "2 x worker_connections, at most what the host grants: static files, logs and buffered bodies are files, too",
        (sheet.setting("", "nginx.worker_connections"), sheet.fact("", "nofile_hard")),
        (f"2 x {number(connections)} = {number(2 * connections)}",),
        _granted(sheet, 2 * connections),
    )


def body_size(sheet: Sheet) -> Derivation:
    """The upload limit in bytes."""
    value = sheet.work.upload_limit_mb * MB
    return Derivation(
        "u x 1,048,576 bytes: a larger body gets 413 before it reaches the application",
        (sheet.workload("u", "upload_limit_mb"),),
        (f"{sheet.work.upload_limit_mb} x {number(MB)} = {number(value)} bytes",),
        value,
    )


def request_line(sheet: Sheet) -> Derivation:
    """As long as NGINX lets it be."""
    buffer = sheet.draft.number("nginx.large_client_header_buffers")
    line, most = buffer - policy.REQUEST_LINE_END, policy.GUNICORN_REQUEST_LINE_MAXIMUM
    return Derivation(
        "b - e, what NGINX lets through; 0, any length, where Gunicorn cannot count so far",
        (
            sheet.setting("b", "nginx.large_client_header_buffers"),
            sheet.constant("e", "REQUEST_LINE_END"),
            sheet.constant("at most", "GUNICORN_REQUEST_LINE_MAXIMUM"),
        ),
        (f"{number(buffer)} - {policy.REQUEST_LINE_END} = {number(line)} bytes",),
        line if line <= most else 0,
    )


def request_field(sheet: Sheet) -> Derivation:
    """As long as NGINX lets it be, and makes it."""
    buffer = sheet.draft.number("nginx.large_client_header_buffers")
    value = buffer + policy.REQUEST_FIELD_GROWS
    return Derivation(
        "b + s, what NGINX lets through, and the space that it puts behind the colon",
        (
            sheet.setting("b", "nginx.large_client_header_buffers"),
            sheet.constant("s", "REQUEST_FIELD_GROWS"),
        ),
        (f"{number(buffer)} + {policy.REQUEST_FIELD_GROWS} = {number(value)} bytes",),
        value,
    )


def fixed(sheet: Sheet, constant: str, unit: str = "s") -> Derivation:
    """A constant, whatever the host."""
    value = int(getattr(policy, constant))
    return Derivation(
        f"policy.{constant}, whatever the host and the workload",
        (sheet.constant("", constant, unit),),
        (f"{number(value)} {unit}",),
        value,
    )


def no_keepalive(sheet: Sheet) -> Derivation:
    """0, and why that is no constant of the policy."""
    value: Value = 0
    return Derivation(
        "0, whatever the host and the workload: NGINX opens a connection for each request",
        (sheet.setting("", "gunicorn.worker_connections"),),
        (
            "on a unix socket a new connection costs microseconds, no request can meet one that is just being closed, "
            "and no thread waits for a second request",
        ),
        value,
    )


def _granted(sheet: Sheet, wanted: int) -> int:
    hard = sheet.draft.facts.nofile_hard
    return wanted if hard is None else min(wanted, hard)
