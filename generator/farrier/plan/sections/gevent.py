"""Gunicorn's gevent worker, where the operator asks for it: what it changes, and how many requests a worker takes at once."""

from collections.abc import Iterator

from farrier import policy
from farrier.plan.derivation import Inputs, connection_steps, others_step
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum
from farrier.plan.model import Working
from farrier.project.workload import Workload
from farrier.sizing.capacity import busy_cpus, greenlet_utilisation, host_wait_ratio
from farrier.sizing.concurrency import Choice
from farrier.wording import counted, mb, milliseconds, number, per_second


def settings(draft: Draft, chosen: Choice) -> None:
    """Class, workers, threads and worker_connections."""
    _class(draft, chosen)
    limit = {"memory": "; memory allows no more", "database": "; the database grants no more connections"}
    bound = limit.get(chosen.bound, "")
    _workers(draft, chosen, bound)
    draft.default(
        "gunicorn.threads",
        1,
        "A gevent worker has no use for threads: its greenlets share one.",
        "1: a gevent worker's greenlets share one thread",
        lambda given: Working(
            (given.setting("", "gunicorn.worker_class"),),
            ("gunicorn.worker_connections says how many requests a worker takes at once",),
        ),
    )
    _connections(draft, chosen, bound)
    _no_preload(draft)
    draft.warnings.extend(_warnings(draft))


def contradictions(draft: Draft) -> Iterator[str]:
    """What else an operator sets that this kind of worker cannot have."""
    if draft.settings["gunicorn.preload_app"].value:
        yield (
            "gunicorn.preload_app true imports the application before gunicorn.worker_class gevent patches Python in each "
            "worker, so its locks and connections would block all requests: set it to false"
        )
    if draft.number("gunicorn.threads") != 1:
        yield (
            f"gunicorn.threads {draft.number('gunicorn.threads')} means nothing to gunicorn.worker_class gevent: set "
            "gunicorn.worker_connections, the requests that a worker takes at once"
        )


def _no_preload(draft: Draft) -> None:
    draft.default(
        "gunicorn.preload_app",
        False,
        "gevent patches Python in each worker, after the fork: what an application imported before would not give way to "
        "other requests.",
        "false with gevent: it patches Python in each worker, after the fork",
        lambda given: Working(
            (given.setting("", "gunicorn.worker_class"),),
            ("what the master imported would keep locks and connections that block all requests of a worker",),
        ),
    )


def _class(draft: Draft, chosen: Choice) -> None:
    p, g = chosen.workers, chosen.per_worker
    used = connection_sum(draft.sized.given, draft.copies, chosen)
    draft.asked(
        "gunicorn.worker_class",
        "gevent",
        f"Set by the operator: {' '.join(_what_changes(draft, chosen))}",
        "gevent where the operator says so; Farrier itself chooses sync where T = 1, else gthread",
        lambda given: Working(
            (
                given.setting("P", "gunicorn.workers"),
                given.setting("G", "gunicorn.worker_connections"),
                *given.work_inputs(),
            ),
            (
                f"P follows from the CPUs alone: a process uses one CPU at most, however many greenlets it has; here {number(p)}",
                f"G, the requests at once in a worker, takes the place of threads, which are 1; here {number(g)}",
                "a request that computes, or waits in a C extension that gevent does not know, holds up all others of its "
                f"worker: under threads it gives way every {milliseconds(policy.GIL_SWITCH_SECONDS)}, and while it waits",
                "drivers in Python (PyMySQL, pg8000, redis) and psycopg 3 give way, psycopg2 needs psycogreen, mysqlclient "
                "cannot",
                f"each greenlet may hold a database connection: {used}",
                "gunicorn.timeout is a sign of life as for gthread: it ends no request, but a worker whose request computes "
                "for so long without a pause is replaced, with all its requests",
                "farrier.watchdog_timeout is 0: the watchdog looks at threads",
                "gunicorn.preload_app is false: gevent patches Python in each worker, after the fork",
                "CPU and wait stay those that `farrier measure` found with threads, and hold as far as all waiting gives way",
                "gevent has to be in the application's requirements: a deploy refuses a release without it",
            ),
        ),
    )


def _workers(draft: Draft, chosen: Choice, bound: str) -> None:
    work, cpus = draft.workload, draft.facts.cpus
    ideal = cpus / work.host_cpu_seconds
    draft.calculated(
        "gunicorn.workers",
        chosen.workers,
        f"A process for each of {counted(cpus, 'CPU')}, at least {policy.MINIMUM_WORKERS}, as greenlets of one take turns on "
        f"one CPU: together {number(draft.capacity_rps, 1)} of {per_second(ideal)}{others(work)}"
        f"{bound}.",
        "c rounded up, at least P: greenlets of one process take turns on one CPU; fewer where o slots of S do not fit into M "
        "or their requests into the database's connections",
        _workers_working,
    )


def _workers_working(given: Inputs) -> Working:
    draft, work, (p, g) = given.draft, given.work, (given.workers, given.per_worker)
    on_host = host_wait_ratio(work.serving_cpu_seconds, work.wait_ratio, work.other_cpu_seconds)
    used, busy = greenlet_utilisation(g, work.wait_ratio), busy_cpus(p * g, on_host, given.cpus)
    own, whole = milliseconds(work.serving_cpu_seconds), milliseconds(work.host_cpu_seconds)
    reached = f"X = {number(min(p * used, busy), 4)} / {own}"
    if work.other_cpu_seconds:
        reached = f"X = min({number(p * used, 4)} / {own}, {number(busy, 4)} / {whole})"
    return Working(
        (
            given.fact("c", "cpus"),
            given.constant("P >=", "MINIMUM_WORKERS"),
            *given.work_inputs(),
            given.setting("G", "gunicorn.worker_connections"),
            given.slot(),
            given.budget(),
            given.copies(),
            *given.connections(),
        ),
        (
            f"a = W / C = {milliseconds(work.wait_seconds)} / {own} = {number(work.wait_ratio)}",
            *others_step(given),
            f"1 - B({number(g)}, a) = {number(used)}: {counted(p, 'process', 'processes')} can use {counted(round(p * used, 2), 'CPU')}",
            f"{counted(p * g, 'request')} in service keep {number(busy, 4)} of {counted(given.cpus, 'CPU')} busy",
            f"{reached} = {per_second(draft.capacity_rps, 2)}",
            f"{counted(draft.copies, 'slot')} of {number(draft.slot_mb, 1)} MB take {mb(draft.copies * draft.slot_mb)} of "
            f"{mb(draft.budget.gunicorn_mb)}",
            *connection_steps(given),
        ),
    )


def _connections(draft: Draft, chosen: Choice, bound: str) -> None:
    work, cpus, workers = draft.workload, draft.facts.cpus, chosen.workers
    little = in_service(draft, workers)
    draft.calculated(
        "gunicorn.worker_connections",
        chosen.per_worker,
        f"{number(policy.GREENLET_MARGIN)} x the {counted(round(little, 1), 'request')} that Little's law finds in "
        f"service in a worker at its capacity, as one waits {milliseconds(work.wait_seconds)} and takes "
        f"{milliseconds(work.serving_cpu_seconds)} of CPU; the rest waits in the queue that all workers share"
        f"{bound}.",
        "m x (1 + W / C) x min(1, c / P), rounded up: m times what Little's law finds in service in a worker at its capacity; at "
        "most what memory and the database's connections hold",
        lambda given: Working(
            (
                given.constant("m", "GREENLET_MARGIN"),
                *given.work_inputs(),
                given.fact("c", "cpus"),
                given.setting("P", "gunicorn.workers"),
                given.constant("", "GREENLET_MB", "MB"),
                given.budget(),
                given.copies(),
                *given.connections(),
            ),
            (
                f"in service at capacity: {number(little, 2)} = (1 + {number(work.wait_ratio)}) x min(1, {number(cpus)} / "
                f"{number(workers)})",
                f"{number(policy.GREENLET_MARGIN)} x {number(little, 2)} = {number(policy.GREENLET_MARGIN * little, 2)}, rounded "
                "up",
                *connection_steps(given),
            ),
        ),
    )


def in_service(draft: Draft, workers: int) -> float:
    """Requests in service in one of the workers at capacity: (1 + W/C) min(1, c / P)."""
    work = draft.workload
    own_cpus = draft.facts.cpus * (work.serving_cpu_seconds / work.host_cpu_seconds)
    return (1 + work.wait_ratio) * min(1.0, own_cpus / workers)


def others(work: Workload) -> str:
    """`, as 15.3 ms of a request are computed in postgresql.service on the same host`, or nothing."""
    if not work.other_cpu_seconds:
        return ""
    return (
        f", as {milliseconds(work.other_cpu_seconds)} of a request are computed in {work.other_names} on the same host"
    )


def _what_changes(draft: Draft, chosen: Choice) -> Iterator[str]:
    """Against threads, in sentences."""
    yield (
        f"each worker takes up to {counted(chosen.per_worker, 'request')} at once as greenlets, which give way to each other only "
        "where they wait in what gevent has patched."
    )
    segment = draft.workload.longest_cpu_segment_seconds
    known = (
        f", up to {milliseconds(segment)}{draft.workload.if_measured('longest_cpu_segment_seconds')}" if segment else ""
    )
    yield f"One that computes holds up all others of its worker for as long{known}."
    yield (
        "So does one that waits in a C extension: drivers in Python (PyMySQL, pg8000, redis) and psycopg 3 give way, psycopg2 "
        "needs psycogreen, mysqlclient cannot."
    )
    used = connection_sum(draft.sized.given, draft.copies, chosen)
    yield f"Each greenlet may hold a database connection: {used}."
    yield "`timeout` ends no request, the watchdog is off, nothing is preloaded, and the requirements must name gevent."


def _warnings(draft: Draft) -> Iterator[str]:
    work = draft.workload
    if work.wait_ratio < 1:
        yield (
            f"gevent brings nothing here: a request waits {milliseconds(work.wait_seconds)} and takes "
            f"{milliseconds(work.serving_cpu_seconds)} of CPU, and greenlets only help while requests wait"
        )
