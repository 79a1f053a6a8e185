"""Gunicorn's gevent worker, where the operator asks for it: what it changes, and how many requests a worker takes at once."""

from collections.abc import Iterator

from farrier import policy
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum
from farrier.project.workload import Workload
from farrier.sizing.concurrency import Concurrency, Demand
from farrier.sizing.memory import Cost
from farrier.wording import counted, milliseconds, number


def cost(work: Workload) -> Cost:
    """Without preload, and with greenlets for threads."""
    return Cost(work.memory_private_mb, work.memory_shared_mb, False, policy.GREENLET_MB, "greenlet")


def demand(draft: Draft) -> Demand:
    """The work, and what the operator has fixed."""
    work = draft.workload
    fixed = draft.fixed("gunicorn.workers"), draft.fixed("gunicorn.worker_connections")
    return Demand(
        work.serving_cpu_seconds,
        work.wait_ratio,
        draft.facts.cpus,
        *fixed,
        greenlets=True,
        other_cpu_seconds=work.other_cpu_seconds,
    )


def settings(draft: Draft, chosen: Concurrency) -> None:
    """Class, workers, threads, worker_connections and preload."""
    work, cpus = draft.workload, draft.facts.cpus
    draft.asked("gunicorn.worker_class", "gevent", f"Set by the operator: {' '.join(_what_changes(draft, chosen))}")
    ideal = cpus / work.host_cpu_seconds
    limit = {"memory": "; memory allows no more", "database": "; the database grants no more connections"}
    draft.calculated(
        "gunicorn.workers",
        chosen.workers,
        f"A process for each of {counted(cpus, 'CPU')}, at least {policy.MINIMUM_WORKERS}, as greenlets of one take turns on "
        f"one CPU: together {number(draft.capacity_rps, 1)} of {number(ideal, 1)} requests a second{others(work)}"
        f"{limit.get(chosen.bound, '')}.",
    )
    draft.default("gunicorn.threads", 1, "A gevent worker has no use for threads: its greenlets share one.")
    draft.calculated(
        "gunicorn.worker_connections",
        chosen.threads,
        f"{number(policy.GREENLET_MARGIN)} x the {number(in_service(draft, chosen.workers), 1)} requests that Little's law finds in "
        f"service in a worker at its capacity, as one waits {milliseconds(work.wait_seconds)} for "
        f"{milliseconds(work.serving_cpu_seconds)} of CPU; the rest waits in the queue that all workers share"
        f"{limit.get(chosen.bound, '')}.",
    )
    draft.default(
        "gunicorn.preload_app",
        False,
        "gevent patches Python in each worker, after the fork: what an application imported before would not give way to "
        "other requests.",
    )
    draft.warnings.extend(_warnings(draft))


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


def _what_changes(draft: Draft, chosen: Concurrency) -> Iterator[str]:
    """Against threads, in sentences."""
    yield (
        f"each worker takes up to {counted(chosen.threads, 'request')} at once as greenlets, which give way to each other only "
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
    used = connection_sum(draft, draft.copies, chosen.workers, chosen.threads)
    yield f"Each greenlet may hold a database connection: {used}."
    yield "`timeout` ends no request, the watchdog is off, nothing is preloaded, and the requirements must name gevent."


def _warnings(draft: Draft) -> Iterator[str]:
    work = draft.workload
    if work.wait_ratio < 1:
        yield (
            f"gevent brings nothing here: a request waits {milliseconds(work.wait_seconds)} for "
            f"{milliseconds(work.serving_cpu_seconds)} of CPU, and greenlets only help while requests wait"
        )
