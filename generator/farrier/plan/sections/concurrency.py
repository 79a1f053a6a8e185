"""Workers and threads: how many requests a slot has in service at once."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from farrier import policy
from farrier.plan.derivation import Inputs, capacity_steps, connection_steps, neighbour_steps
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum
from farrier.plan.model import Input, Working
from farrier.plan.sections import gevent
from farrier.plan.sections.switch import switch
from farrier.project.workload import Workload
from farrier.sizing.capacity import process_utilisation
from farrier.sizing.concurrency import Choice
from farrier.sizing.worker import GEVENT, GTHREAD, SYNC, WorkerKind
from farrier.wording import counted, mb, milliseconds, number, per_second

MEMORY = ("memory_private_mb", "memory_shared_mb", "memory_thread_mb")
"""The figures of a workload that a slot's memory comes from."""


def concurrency(draft: Draft) -> None:
    """Kind and number of workers, and threads, within the CPUs and the memory of two slots."""
    chosen = draft.sized.chosen
    switch(draft, chosen)
    SECTIONS[draft.kind].settings(draft, chosen)


def contradictions(draft: Draft) -> Iterator[str]:
    """What the operator's values ask of a kind of worker that cannot do it."""
    return SECTIONS[draft.kind].contradictions(draft)


def _with_threads(draft: Draft, chosen: Choice) -> None:
    _workers(draft, chosen)
    _class(draft, chosen)
    _threads(draft, chosen)
    _connections(draft, chosen)


def _workers(draft: Draft, chosen: Choice) -> None:
    work, cpus = draft.workload, draft.facts.cpus
    ideal = cpus / work.host_cpu_seconds
    if chosen.bound == "memory":
        reason = (
            f"Memory allows no more: {draft.budget.breakdown()} for Gunicorn, {counted(draft.copies, 'slot')} of "
            f"{draft.cost.breakdown(chosen.workers, chosen.per_worker)}{work.if_measured(*MEMORY)}{_in_case(draft)}."
        )
        if draft.capacity_rps < policy.KNEE * ideal:
            draft.warnings.append(
                f"memory is the limit: {number(draft.capacity_rps, 1)} of the {per_second(ideal)} "
                f"that {counted(cpus, 'CPU')} could answer"
            )
    elif chosen.bound == "database":
        reason = (
            f"The database allows no more: of {counted(work.database_connections or 0, 'connection')}, one for each request "
            f"in service, {connection_sum(draft.sized.given, draft.copies, chosen)} may be in use at once."
        )
        if draft.capacity_rps < policy.KNEE * ideal:
            draft.warnings.append(
                f"database connections are the limit: {number(draft.capacity_rps, 1)} of the {per_second(ideal)} "
                f"that {counted(cpus, 'CPU')} could answer"
            )
    else:
        share = process_utilisation(chosen.per_worker, work.wait_ratio)
        reason = (
            f"{counted(chosen.workers, 'process', 'processes')} of {counted(chosen.per_worker, 'thread')} keep "
            f"{counted(cpus, 'CPU')} busy: each reaches {number(100 * share, 0)} % of a CPU under its GIL, together "
            f"{number(draft.capacity_rps, 1)} of {per_second(ideal)} at {_cpu_each(draft)}."
        )
        if draft.capacity_rps < policy.KNEE * ideal and draft.is_override(
            "gunicorn.workers", "gunicorn.threads", "gunicorn.worker_class"
        ):
            draft.warnings.append(
                f"the operator's workers and threads carry {number(draft.capacity_rps, 1)} of the {per_second(ideal)} "
                f"that {counted(cpus, 'CPU')} could answer"
            )
    draft.calculated("gunicorn.workers", chosen.workers, reason, _workers_formula(draft), _workers_working)


def _workers_formula(draft: Draft) -> str:
    others = (
        "; what other services compute on the same CPUs counts: E[...] / (C + O) with (W - O) / (C + O) for a, and c / (C + O)"
        if draft.workload.other_cpu_seconds
        else ""
    )
    connected = (
        "; h hosts x o slots x P T requests in service may hold D connections, one each" if draft.connections else ""
    )
    return (
        "the P and T with the least memory at which X = min(P U(T), E[min(k, c)]) / C reaches s of c / C, C = g + n "
        "being the CPU time of a request in Gunicorn and outside, U(T) what a process uses under its GIL (see "
        "gunicorn.threads) and E[min(k, c)] the CPUs that P T requests keep busy; o slots of S fit into M, else the P "
        f"and T in M with the largest X{others}{connected}"
    )


def _workers_working(given: Inputs) -> Working:
    draft = given.draft
    memory = mb(math.ceil(draft.copies * draft.slot_mb))
    return Working(
        (
            *given.work_inputs(),
            given.fact("c", "cpus"),
            given.constant("s", "KNEE"),
            given.constant("GIL", "GIL_CEILING"),
            given.constant("v", "GIL_THREAD_OVERHEAD"),
            given.constant("P >=", "MINIMUM_WORKERS"),
            given.workload("", "memory_private_mb"),
            given.workload("", "memory_shared_mb"),
            given.slot(),
            given.budget(),
            given.copies(),
            *given.connections(),
        ),
        (
            *capacity_steps(given),
            f"{counted(draft.copies, 'slot')} of {number(draft.slot_mb, 1)} MB take {memory} of {mb(draft.budget.gunicorn_mb)}",
            *connection_steps(given),
            *neighbour_steps(given, ((-1, 0), (1, 0))),
        ),
    )


def _in_case(draft: Draft) -> str:
    """What is left free where a slot's memory is only assumed."""
    factor = number(policy.ASSUMED_MEMORY_FACTOR)
    return f", which is assumed, with room for {factor} x as much" if draft.memory_assumed else ""


def _cpu_each(draft: Draft) -> str:
    """`20.3 ms of CPU each, 0.3 ms of it NGINX's`."""
    work = draft.workload
    proxy = f", {milliseconds(work.proxy_cpu_seconds)} of it NGINX's" if work.proxy_cpu_seconds else ""
    if work.other_cpu_seconds:
        joint = " and " if proxy else ", "
        proxy += f"{joint}{milliseconds(work.other_cpu_seconds)} of it in {work.other_names} on the same host"
    known = work.if_measured(work.gunicorn_cpu_name, "wait_seconds")
    return f"{milliseconds(work.host_cpu_seconds)} of CPU each{known}{proxy}"


def _class(draft: Draft, chosen: Choice) -> None:
    work, is_sync = draft.workload, draft.kind is SYNC
    draft.calculated(
        "gunicorn.worker_class",
        draft.kind.name,
        f"One thread per worker is enough where {_ratio(work)}; a sync worker also ends a request that exceeds `timeout`."
        if is_sync
        else f"Threads answer other requests while one waits: {_ratio(work)}.",
        "sync where T = 1, gthread where T > 1 or the operator says so",
        lambda given: Working(
            (given.setting("T", "gunicorn.threads"), *given.work_inputs()),
            (f"T = {chosen.per_worker}, as a request waits {number(work.wait_ratio)} s for each second of CPU",),
        ),
    )


def _ratio(work: Workload) -> str:
    known = work.if_measured(work.gunicorn_cpu_name, "wait_seconds")
    return f"a request waits {milliseconds(work.wait_seconds)} and takes {milliseconds(work.serving_cpu_seconds)} of CPU{known}"


def _threads(draft: Draft, chosen: Choice) -> None:
    work = draft.workload
    need = work.service_seconds * (work.peak_rps or 0.0)
    little = (
        f" At the peak of {per_second(work.peak_rps, 2)} Little's law needs {number(need, 1)}." if work.peak_rps else ""
    )
    enough = (
        "a sync worker has one thread"
        if draft.kind is SYNC
        else "by Erlang B more threads would wait for the CPU, not work"
    )
    if chosen.bound == "memory":
        enough = "memory allows no more"
    elif chosen.bound == "database":
        enough = "the database grants no more connections"

    def working(given: Inputs) -> Working:
        convoy: tuple[Input, ...] = ()
        if work.holds_the_gil:
            convoy = (
                given.workload("l", "longest_cpu_segment_seconds"),
                given.constant("i", "GIL_SWITCH_SECONDS", "s"),
                given.constant("j", "CONVOY_HOG_FACTOR"),
                given.constant("m", "CONVOY_MEMORY_FACTOR"),
                given.constant("f", "MEMORY_MAX_FACTOR"),
                given.budget(),
                given.copies(),
            )
        peak = (
            f"Little's law: the peak keeps {number(work.peak_rps or 0)} x {milliseconds(work.service_seconds)} = "
            f"{number(need, 1)} requests in service at once; P T = {number(chosen.concurrency)}"
        )
        return Working(
            (
                *given.work_inputs(),
                given.setting("P", "gunicorn.workers"),
                given.constant("s", "KNEE"),
                given.constant("GIL", "GIL_CEILING"),
                given.constant("v", "GIL_THREAD_OVERHEAD"),
                given.constant("T <=", "MAX_THREADS"),
                given.workload("t", "memory_thread_mb"),
                *given.connections(),
                *convoy,
                *([given.workload("", "peak_rps")] if work.peak_rps else []),
            ),
            (
                *capacity_steps(given),
                *connection_steps(given),
                *neighbour_steps(given, ((0, -1), (0, 1))),
                *([peak] if work.peak_rps else []),
            ),
        )

    convoy = "; where l > i and l >= j g the smallest T whose slot S takes at most m times as much as the cheapest, and o f S fit into M"
    draft.calculated(
        "gunicorn.threads",
        chosen.per_worker,
        f"With {counted(chosen.workers, 'worker')} this makes {counted(chosen.concurrency, 'request')} in service at once; "
        f"{_ratio(work)}, and {enough}.{little}{_convoy(draft, chosen)}",
        "the T that makes P x T the cheapest choice (see gunicorn.workers): U(T) = min(1 - B(T, a), GIL) / (1 + v q) "
        "with Erlang's B, the GIL's ceiling and q = T - min(1 - B(T, a), GIL) (1 + a) threads that stand in line for it, "
        f"and P T requests in service keep s of the CPUs busy{convoy if work.holds_the_gil else ''}",
        working,
    )


def _connections(draft: Draft, chosen: Choice) -> None:
    threads = chosen.per_worker
    draft.calculated(
        "gunicorn.worker_connections",
        threads,
        f"Equal to the {counted(threads, 'thread')} of a worker: it accepts only what it can start, and the "
        "rest waits in the queue that all workers share.",
        "T: a worker accepts what it can start, the rest waits in the queue that all workers share",
        lambda given: Working(
            (given.setting("T", "gunicorn.threads"),),
            (f"T = {threads}; with Gunicorn's default of 1,000 one worker would hold requests while others are idle",),
        ),
    )
    own = draft.fixed("gunicorn.worker_connections")
    if own is not None and own < threads:
        draft.warnings.append(f"worker_connections {own} leaves {counted(threads - own, 'thread')} of each worker idle")
    elif own is not None and own > threads:
        draft.warnings.append(
            f"worker_connections {own} lets a worker hold {counted(own - threads, 'request')} more than its "
            f"{counted(threads, 'thread')}; they wait there while other workers are idle"
        )


def _convoy(draft: Draft, chosen: Choice) -> str:
    """What a request that computes for long does to the threads beside it; a sentence or two, or none."""
    if not draft.workload.holds_the_gil:
        return ""
    sentences = ""
    segment, interval = draft.workload.longest_cpu_segment_seconds or 0.0, policy.GIL_SWITCH_SECONDS
    if chosen.per_worker > 1:
        others = chosen.per_worker - 1
        longest = f", {milliseconds(others * interval)} beside {others} such requests" if others > 1 else ""
        sentences = (
            f" A request may compute for {milliseconds(segment)}{draft.workload.if_measured('longest_cpu_segment_seconds')} "
            f"without a pause, and CPython hands on the GIL every {milliseconds(interval)}: a thread beside it waits "
            f"{milliseconds(interval)} each time that it goes on{longest}."
        )
    cheapest = chosen.instead_of
    if cheapest:
        need = [draft.cost.slot_mb(each.workers, each.per_worker) for each in (chosen, cheapest)]
        sentences += (
            f" {number(chosen.workers)} x {chosen.per_worker} in {mb(need[0])} instead of "
            f"{number(cheapest.workers)} x {cheapest.per_worker} in {mb(need[1])} let fewer threads wait for one that "
            f"computes for {milliseconds(segment)}."
        )
    return sentences


class Section(NamedTuple):
    """What a kind of worker puts into a plan, and which of the operator's values it refuses."""

    settings: Callable[[Draft, Choice], None]
    contradictions: Callable[[Draft], Iterator[str]] = lambda draft: iter(())


SECTIONS: dict[WorkerKind, Section] = {
    SYNC: Section(_with_threads),
    GTHREAD: Section(_with_threads),
    GEVENT: Section(gevent.settings, gevent.contradictions),
}
