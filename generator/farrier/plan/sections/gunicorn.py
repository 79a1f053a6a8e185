"""Workers, threads and what belongs to them."""

import math

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum, decide_switch, overlaps, too_much
from farrier.plan.sections import gevent
from farrier.sizing import greenlets
from farrier.sizing.capacity import process_utilisation
from farrier.sizing.concurrency import Concurrency, Demand, choose
from farrier.sizing.memory import Cost, budget
from farrier.wording import ceil_to, counted, mb, milliseconds, number

MEMORY = ("memory_private_mb", "memory_shared_mb", "memory_thread_mb")
"""The figures of a workload that a slot's memory comes from."""


def concurrency(draft: Draft) -> None:
    """Workers, threads, class and preload, within the CPUs and the memory of two slots."""
    work, facts = draft.workload, draft.facts
    preload = bool(draft.overrides.get("gunicorn.preload_app", work.preload_safe))
    draft.cost = Cost(work.memory_private_mb, work.memory_shared_mb, preload, work.memory_thread_mb)
    if draft.greenlets:
        draft.cost = gevent.cost(work)
    draft.budget = budget(facts.memory_mb, math.ceil(facts.cpus))
    demand = Demand(
        work.serving_cpu_seconds,
        work.wait_ratio,
        facts.cpus,
        *_fixed(draft),
        few_threads=work.makes_convoys,
        other_cpu_seconds=work.other_cpu_seconds,
    )
    if draft.greenlets:
        demand = gevent.demand(draft)
    chosen = _choose(draft, demand)
    draft.slot_mb = draft.cost.slot_mb(chosen.workers, chosen.threads)
    draft.capacity_rps = demand.capacity(chosen.workers, chosen.threads)
    if draft.greenlets:
        gevent.settings(draft, chosen)
    else:
        _workers(draft, chosen)
        _threads(draft, chosen)
        _preload(draft, chosen)
    _recycling(draft, chosen)


def _fixed(draft: Draft) -> tuple[int | None, int | None]:
    """What the operator fixed of workers and threads; a sync worker has one thread."""
    threads = draft.fixed("gunicorn.threads")
    if draft.overrides.get("gunicorn.worker_class") == "sync":
        threads = 1
    return draft.fixed("gunicorn.workers"), threads


def _choose(draft: Draft, demand: Demand) -> Concurrency:
    """The best that fits twice, or once where two slots cannot run side by side."""
    available = draft.budget.gunicorn_mb
    switch = draft.overrides.get("farrier.switch")
    tried = [1] if switch == "stop-start" else [policy.SLOTS_WHILE_SWITCHING]
    if switch is None:
        tried.append(1)

    def best(cost: Cost, copies: int) -> Concurrency | None:
        granted = draft.connections.each(copies) if draft.connections else None
        return (greenlets.choose if demand.greenlets else choose)(demand, cost, available, copies, granted)

    for copies in tried:
        chosen = best(draft.cost, copies)
        if chosen:
            draft.copies = copies
            cautious = draft.cost.times(policy.ASSUMED_MEMORY_FACTOR)
            if draft.memory_assumed and not overlaps(draft, cautious, chosen):
                chosen = best(cautious, tried[-1]) or chosen
                draft.copies = copies if overlaps(draft, cautious, chosen) else tried[-1]
            decide_switch(draft, chosen)
            return chosen
    raise DoesNotFitError(*too_much(draft, demand.workers or 1, demand.threads or 1, tried[-1]))


def _workers(draft: Draft, chosen: Concurrency) -> None:
    work, cpus = draft.workload, draft.facts.cpus
    ideal = cpus / work.host_cpu_seconds
    if chosen.bound == "memory":
        reason = (
            f"Memory allows no more: {draft.budget.breakdown()} for Gunicorn, {counted(draft.copies, 'slot')} of "
            f"{draft.cost.breakdown(chosen.workers, chosen.threads)}{work.if_measured(*MEMORY)}{_in_case(draft)}."
        )
        if draft.capacity_rps < policy.KNEE * ideal:
            draft.warnings.append(
                f"memory is the limit: {number(draft.capacity_rps, 1)} of the {number(ideal, 1)} requests a second "
                f"that {counted(cpus, 'CPU')} could answer"
            )
    elif chosen.bound == "database":
        reason = (
            f"The database allows no more: of {number(work.database_connections or 0)} connections, one for each request "
            f"in service, {connection_sum(draft, draft.copies, chosen.workers, chosen.threads)} may be in use at once."
        )
        if draft.capacity_rps < policy.KNEE * ideal:
            draft.warnings.append(
                f"database connections are the limit: {number(draft.capacity_rps, 1)} of the {number(ideal, 1)} requests "
                f"a second that {counted(cpus, 'CPU')} could answer"
            )
    else:
        share = process_utilisation(chosen.threads, work.wait_ratio)
        reason = (
            f"{counted(chosen.workers, 'process', 'processes')} of {counted(chosen.threads, 'thread')} keep "
            f"{counted(cpus, 'CPU')} busy: each reaches {number(100 * share, 0)} % of a CPU under its GIL, together "
            f"{number(draft.capacity_rps, 1)} of {number(ideal, 1)} requests a second at {_cpu_each(draft)}."
        )
        if draft.capacity_rps < policy.KNEE * ideal and draft.is_override(
            "gunicorn.workers", "gunicorn.threads", "gunicorn.worker_class"
        ):
            draft.warnings.append(
                f"the operator's workers and threads carry {number(draft.capacity_rps, 1)} of the {number(ideal, 1)} "
                f"requests a second that {counted(cpus, 'CPU')} could answer"
            )
    draft.calculated("gunicorn.workers", chosen.workers, reason)


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


def _threads(draft: Draft, chosen: Concurrency) -> None:
    work = draft.workload
    ratio = f"a request waits {milliseconds(work.wait_seconds)} for {milliseconds(work.serving_cpu_seconds)} of CPU"
    ratio += work.if_measured(work.gunicorn_cpu_name, "wait_seconds")
    if chosen.threads == 1 and draft.overrides.get("gunicorn.worker_class") != "gthread":
        kind, why = (
            "sync",
            f"One thread per worker is enough where {ratio}; a sync worker also ends a request that exceeds `timeout`.",
        )
    else:
        kind, why = "gthread", f"Threads answer other requests while one waits: {ratio}."
    draft.calculated("gunicorn.worker_class", kind, why)
    little = (
        f" At the peak of {number(work.peak_rps)} requests a second Little's law needs "
        f"{number(work.peak_rps * work.service_seconds, 1)}."
        if work.peak_rps
        else ""
    )
    slots = counted(chosen.workers * chosen.threads, "request")
    enough = (
        "a sync worker has one thread"
        if kind == "sync"
        else "by Erlang B more threads would wait for the CPU, not work"
    )
    if chosen.bound == "memory":
        enough = "memory allows no more"
    elif chosen.bound == "database":
        enough = "the database grants no more connections"
    draft.calculated(
        "gunicorn.threads",
        chosen.threads,
        f"With {counted(chosen.workers, 'worker')} this makes {slots} in service at once; {ratio}, and {enough}.{little}"
        f"{_convoy(draft, chosen)}",
    )
    draft.calculated(
        "gunicorn.worker_connections",
        chosen.threads,
        f"Equal to the {counted(chosen.threads, 'thread')} of a worker: it accepts only what it can start, and the "
        "rest waits in the queue that all workers share.",
    )
    own = draft.fixed("gunicorn.worker_connections")
    if own is not None and own < chosen.threads:
        draft.warnings.append(
            f"worker_connections {own} leaves {counted(chosen.threads - own, 'thread')} of each worker idle"
        )
    elif own is not None and own > chosen.threads:
        draft.warnings.append(
            f"worker_connections {own} lets a worker hold {counted(own - chosen.threads, 'request')} more than its "
            f"{counted(chosen.threads, 'thread')}; they wait there while other workers are idle"
        )


def _convoy(draft: Draft, chosen: Concurrency) -> str:
    """What a request that computes for long does to the threads beside it; a sentence or two, or none."""
    if not draft.workload.holds_the_gil:
        return ""
    sentences = ""
    segment, interval = draft.workload.longest_cpu_segment_seconds or 0.0, policy.GIL_SWITCH_SECONDS
    if chosen.threads > 1:
        others = chosen.threads - 1
        longest = f", {milliseconds(others * interval)} beside {others} such requests" if others > 1 else ""
        sentences = (
            f" A request may compute for {milliseconds(segment)}{draft.workload.if_measured('longest_cpu_segment_seconds')} "
            f"without a pause, and CPython hands on the GIL every {milliseconds(interval)}: a thread beside it waits "
            f"{milliseconds(interval)} each time that it goes on{longest}."
        )
    cheapest = chosen.instead_of
    if cheapest:
        need = [draft.cost.slot_mb(each.workers, each.threads) for each in (chosen, cheapest)]
        sentences += (
            f" {chosen.workers} x {chosen.threads} in {mb(need[0])} instead of {cheapest.workers} x {cheapest.threads} in "
            f"{mb(need[1])} let fewer threads wait for one that computes for {milliseconds(segment)}."
        )
    return sentences


def _preload(draft: Draft, chosen: Concurrency) -> None:
    work = draft.workload
    saved = mb(chosen.workers * work.memory_shared_mb)
    if "preload_safe" in work.measured:
        _measured_preload(draft, saved)
        return
    if work.preload_safe:
        draft.calculated(
            "gunicorn.preload_app",
            True,
            f"The workload says that importing before the fork is safe; {counted(chosen.workers, 'worker')} share "
            f"{mb(work.memory_shared_mb)} each, {saved} in all, and a broken release fails before it serves.",
        )
        return
    draft.default(
        "gunicorn.preload_app",
        False,
        "Nobody has said that the application may be imported before the fork (threads and sockets would not survive "
        f"it); `preload_safe: true` in the workload would save {saved}.",
    )
    if draft.overrides.get("gunicorn.preload_app"):
        draft.warnings.append(
            "preload_app is on although the workload does not say that it is safe: threads and sockets made at import "
            "do not survive the fork"
        )


def _measured_preload(draft: Draft, saved: str) -> None:
    work = draft.workload
    if work.preload_safe:
        draft.measured(
            "gunicorn.preload_app",
            True,
            f"Measured: importing starts no thread and opens no connection, so the workers may share "
            f"{mb(work.memory_shared_mb)} each, {saved} in all, and a broken release fails before it serves.",
        )
        return
    draft.measured(
        "gunicorn.preload_app",
        False,
        "Measured: importing starts threads or opens connections that would not survive the fork; the workload's file "
        "names them.",
    )
    if draft.overrides.get("gunicorn.preload_app"):
        draft.warnings.append(
            "preload_app is on although threads or connections made at import were measured, which do not survive the fork"
        )


def _recycling(draft: Draft, chosen: Concurrency) -> None:
    work = draft.workload
    preload = draft.cost.preload
    boot = policy.PRELOADED_BOOT_SECONDS if preload else work.boot_seconds
    known = "" if preload else work.if_measured("boot_seconds")
    per_worker = draft.capacity_rps / chosen.workers
    share = number(100 * policy.RECYCLE_SHARE)
    requests = max(policy.MINIMUM_MAX_REQUESTS, ceil_to(per_worker * boot / policy.RECYCLE_SHARE, 500))
    draft.calculated(
        "gunicorn.max_requests",
        requests,
        f"A worker that answers {number(per_worker, 1)} requests a second and takes {number(boot, 1)} s to replace{known} "
        f"loses at most {share} % of its time to recycling, which bounds leaks.",
    )
    every = draft.number("gunicorn.max_requests")
    draft.calculated(
        "gunicorn.max_requests_jitter",
        round(policy.RECYCLE_JITTER_SHARE * every),
        f"{number(100 * policy.RECYCLE_JITTER_SHARE, 0)} % of max_requests, so that workers are not replaced all at "
        "once.",
    )
    draft.default(
        "gunicorn.keepalive",
        0,
        "NGINX opens a connection for each request: on a unix socket that costs microseconds, and no request can meet "
        "a connection that is just being closed.",
    )
    if draft.fixed("gunicorn.keepalive"):
        draft.warnings.append("keepalive is above 0: NGINX closes each connection, so it only keeps threads waiting")
