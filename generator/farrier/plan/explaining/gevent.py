"""Gunicorn's gevent worker, where the operator asks for it."""

from farrier import policy
from farrier.plan.explaining.sheet import Derivation, Sheet
from farrier.plan.fitting import connection_sum
from farrier.plan.sections.gevent import in_service
from farrier.sizing.capacity import busy_cpus, greenlet_utilisation, host_wait_ratio
from farrier.wording import counted, mb, milliseconds, number


def workers(sheet: Sheet) -> Derivation:
    """A process for each CPU."""
    draft, work, (p, g) = sheet.draft, sheet.work, (sheet.workers, sheet.threads)
    on_host = host_wait_ratio(work.serving_cpu_seconds, work.wait_ratio, work.other_cpu_seconds)
    used, busy = greenlet_utilisation(g, work.wait_ratio), busy_cpus(p * g, on_host, sheet.cpus)
    own, whole = milliseconds(work.serving_cpu_seconds), milliseconds(work.host_cpu_seconds)
    others: tuple[str, ...] = ()
    reached = f"X = {number(min(p * used, busy), 4)} / {own}"
    if work.other_cpu_seconds:
        o = milliseconds(work.other_cpu_seconds)
        others = (
            f"C + O = {own} + {o} = {whole} of the host's CPUs, {o} of it in {work.other_names} on the same host",
        )
        reached = f"X = min({number(p * used, 4)} / {own}, {number(busy, 4)} / {whole})"
    return Derivation(
        "c rounded up, at least P: greenlets of one process take turns on one CPU; fewer where o slots of S do not fit into M "
        "or their requests into the database's connections",
        (
            sheet.fact("c", "cpus"),
            sheet.constant("P >=", "MINIMUM_WORKERS"),
            *sheet.work_inputs(),
            sheet.setting("G", "gunicorn.worker_connections"),
            sheet.slot(),
            sheet.budget(),
            sheet.copies(),
            *sheet.connections(),
        ),
        (
            f"a = W / C = {milliseconds(work.wait_seconds)} / {own} = {number(work.wait_ratio)}",
            *others,
            f"1 - B({g}, a) = {number(used)}: {counted(p, 'process', 'processes')} can use {number(p * used)} CPUs",
            f"{counted(p * g, 'request')} in service keep {number(busy, 4)} of {counted(sheet.cpus, 'CPU')} busy",
            f"{reached} = {number(draft.capacity_rps)} requests a second",
            f"{counted(draft.copies, 'slot')} of {number(draft.slot_mb, 1)} MB take {mb(draft.copies * draft.slot_mb)} of "
            f"{mb(draft.budget.gunicorn_mb)}",
            *_connections(sheet),
        ),
        p,
    )


def threads(sheet: Sheet) -> Derivation:
    """None of Gunicorn's."""
    return Derivation(
        "1: a gevent worker's greenlets share one thread",
        (sheet.setting("", "gunicorn.worker_class"),),
        ("gunicorn.worker_connections says how many requests a worker takes at once",),
        1,
    )


def worker_class(sheet: Sheet) -> Derivation:
    """The operator's, with what it changes."""
    p, g = sheet.workers, sheet.threads
    used = connection_sum(sheet.draft, sheet.draft.copies, p, g)
    return Derivation(
        "gevent where the operator says so; Farrier itself chooses sync where T = 1, else gthread",
        (
            sheet.setting("P", "gunicorn.workers"),
            sheet.setting("G", "gunicorn.worker_connections"),
            *sheet.work_inputs(),
        ),
        (
            f"P follows from the CPUs alone: a process uses one CPU at most, however many greenlets it has; here {p}",
            f"G, the requests at once in a worker, takes the place of threads, which are 1; here {g}",
            "a request that computes, or waits in a C extension that gevent does not know, holds up all others of its worker: "
            "under threads it gives way every "
            f"{milliseconds(policy.GIL_SWITCH_SECONDS)}, and while it waits",
            "drivers in Python (PyMySQL, pg8000, redis) and psycopg 3 give way, psycopg2 needs psycogreen, mysqlclient cannot",
            f"each greenlet may hold a database connection: {used}",
            "gunicorn.timeout is a sign of life as for gthread: it ends no request, but a worker whose request computes for so "
            "long without a pause is replaced, with all its requests",
            "farrier.watchdog_timeout is 0: the watchdog looks at threads",
            "gunicorn.preload_app is false: gevent patches Python in each worker, after the fork",
            "CPU and wait stay those that `farrier measure` found with threads, and hold as far as all waiting gives way",
            "gevent has to be in the application's requirements: a deploy refuses a release without it",
        ),
        "gevent",
    )


def worker_connections(sheet: Sheet) -> Derivation:
    """By Little's law, with a margin."""
    draft, work = sheet.draft, sheet.work
    little = in_service(draft, sheet.workers)
    each = f"{number(little, 2)} = (1 + {number(work.wait_ratio)}) x min(1, {number(sheet.cpus)} / {sheet.workers})"
    return Derivation(
        "m x (1 + W / C) x min(1, c / P), rounded up: m times what Little's law finds in service in a worker at its capacity; at "
        "most what memory and the database's connections hold",
        (
            sheet.constant("m", "GREENLET_MARGIN"),
            *sheet.work_inputs(),
            sheet.fact("c", "cpus"),
            sheet.setting("P", "gunicorn.workers"),
            sheet.constant("", "GREENLET_MB", "MB"),
            sheet.budget(),
            sheet.copies(),
            *sheet.connections(),
        ),
        (
            f"in service at capacity: {each}",
            f"{number(policy.GREENLET_MARGIN)} x {number(little, 2)} = {number(policy.GREENLET_MARGIN * little, 2)}, rounded up",
            *_connections(sheet),
        ),
        sheet.threads,
    )


def preload_app(sheet: Sheet) -> Derivation:
    """Off."""
    return Derivation(
        "false with gevent: it patches Python in each worker, after the fork",
        (sheet.setting("", "gunicorn.worker_class"),),
        ("what the master imported would keep locks and connections that block all requests of a worker",),
        False,
    )


def _connections(sheet: Sheet) -> tuple[str, ...]:
    draft = sheet.draft
    if draft.connections is None:
        return ()
    used = connection_sum(draft, draft.copies, sheet.workers, sheet.threads)
    return (f"{used} of {number(draft.connections.granted)} database connections",)
