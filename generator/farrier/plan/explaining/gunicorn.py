"""Workers, threads, and what belongs to them."""

import math
from dataclasses import replace

from farrier import policy
from farrier.plan.explaining.sheet import Derivation, Input, Sheet
from farrier.plan.fitting import connection_sum
from farrier.sizing.capacity import busy_cpus, erlang_b, host_wait_ratio, process_utilisation
from farrier.wording import ceil_to, counted, mb, milliseconds, number


def workers(sheet: Sheet) -> Derivation:
    """P, from the CPUs, the GIL, memory and the database."""
    connected = ""
    if sheet.work.other_cpu_seconds:
        connected = "; what other services compute on the same CPUs counts: E[...] / (C + O) with (W - O) / (C + O) for a, and c / (C + O)"
    if sheet.draft.connections:
        connected += "; h hosts x o slots x P T requests in service may hold D connections, one each"
    return Derivation(
        "the P and T with the least memory at which X = min(P U(T), E[min(k, c)]) / C reaches s of c / C, C = g + n "
        "being the CPU time of a request in Gunicorn and outside, U(T) what a process uses under its GIL (see "
        "gunicorn.threads) and E[min(k, c)] the CPUs that P T requests keep busy; o slots of S fit into M, else the P "
        "and T in M with the largest X" + connected,
        (
            *sheet.work_inputs(),
            sheet.fact("c", "cpus"),
            sheet.constant("s", "KNEE"),
            sheet.constant("GIL", "GIL_CEILING"),
            sheet.constant("v", "GIL_THREAD_OVERHEAD"),
            sheet.constant("P >=", "MINIMUM_WORKERS"),
            sheet.workload("", "memory_private_mb"),
            sheet.workload("", "memory_shared_mb"),
            sheet.slot(),
            sheet.budget(),
            sheet.copies(),
            *sheet.connections(),
        ),
        (*_capacity(sheet), _memory(sheet), *_connections(sheet), *_neighbours(sheet, ((-1, 0), (1, 0)))),
        sheet.workers,
    )


def threads(sheet: Sheet) -> Derivation:
    """T, for the workers there are."""
    work = sheet.work
    little: tuple[str, ...] = ()
    if work.peak_rps is not None:
        need = work.peak_rps * work.service_seconds
        little = (
            f"Little's law: the peak keeps {number(work.peak_rps)} x {milliseconds(work.service_seconds)} = "
            f"{number(need, 1)} requests in service at once; P T = {sheet.service.slots}",
        )
    convoy: tuple[Input, ...] = ()
    if work.holds_the_gil:
        convoy = (
            sheet.workload("l", "longest_cpu_segment_seconds"),
            sheet.constant("i", "GIL_SWITCH_SECONDS", "s"),
            sheet.constant("j", "CONVOY_HOG_FACTOR"),
            sheet.constant("m", "CONVOY_MEMORY_FACTOR"),
            sheet.constant("f", "MEMORY_MAX_FACTOR"),
            sheet.budget(),
            sheet.copies(),
        )
    return Derivation(
        "the T that makes P x T the cheapest choice (see gunicorn.workers): U(T) = min(1 - B(T, a), GIL) / (1 + v q) "
        "with Erlang's B, the GIL's ceiling and q = T - min(1 - B(T, a), GIL) (1 + a) threads that stand in line for it, "
        "and P T requests in service keep s of the CPUs busy"
        + (
            "; where l > i and l >= j g the smallest T whose slot S takes at most m times as much as the cheapest, and o f S fit into M"
            if convoy
            else ""
        ),
        (
            *sheet.work_inputs(),
            sheet.setting("P", "gunicorn.workers"),
            sheet.constant("s", "KNEE"),
            sheet.constant("GIL", "GIL_CEILING"),
            sheet.constant("v", "GIL_THREAD_OVERHEAD"),
            sheet.constant("T <=", "MAX_THREADS"),
            sheet.workload("t", "memory_thread_mb"),
            *sheet.connections(),
            *convoy,
            *([sheet.workload("", "peak_rps")] if little else []),
        ),
        (*_capacity(sheet), *_connections(sheet), *_neighbours(sheet, ((0, -1), (0, 1))), *little),
        sheet.threads,
    )


def worker_class(sheet: Sheet) -> Derivation:
    """From the number of threads."""
    one = sheet.threads == 1
    return Derivation(
        "sync where T = 1, gthread where T > 1 or the operator says so",
        (sheet.setting("T", "gunicorn.threads"), *sheet.work_inputs()),
        (f"T = {sheet.threads}, as a request waits {number(sheet.work.wait_ratio)} s for each second of CPU",),
        "sync" if one and sheet.draft.overrides.get("gunicorn.worker_class") != "gthread" else "gthread",
    )


def worker_connections(sheet: Sheet) -> Derivation:
    """As many as threads."""
    return Derivation(
        "T: a worker accepts what it can start, the rest waits in the queue that all workers share",
        (sheet.setting("T", "gunicorn.threads"),),
        (
            f"T = {sheet.threads}; with Gunicorn's default of 1,000 one worker would hold requests while others are idle",
        ),
        sheet.threads,
    )


def preload_app(sheet: Sheet) -> Derivation:
    """By safety; the saving is told."""
    cost = sheet.draft.cost
    slots = [replace(cost, preload=preload).slot_mb(sheet.workers, sheet.threads) for preload in (False, True)]
    return Derivation(
        "on where the workload says that importing before the fork is safe",
        (
            sheet.workload("", "preload_safe"),
            sheet.workload("", "memory_shared_mb"),
            sheet.setting("P", "gunicorn.workers"),
        ),
        (
            f"a slot takes {mb(slots[0])} without preload and {mb(slots[1])} with it: it saves {mb(slots[0] - slots[1])}",
        ),
        sheet.work.preload_safe,
    )


def max_requests(sheet: Sheet) -> Derivation:
    """So that recycling takes a small share of a worker's time."""
    per_worker = sheet.draft.capacity_rps / sheet.workers
    preload = sheet.draft.cost.preload
    boot = policy.PRELOADED_BOOT_SECONDS if preload else sheet.work.boot_seconds
    raw = per_worker * boot / policy.RECYCLE_SHARE
    return Derivation(
        "X / P x b / s, rounded up to 500, at least m: b seconds of replacing a worker are s of the time it served",
        (
            sheet.capacity(),
            sheet.setting("P", "gunicorn.workers"),
            sheet.constant("b", "PRELOADED_BOOT_SECONDS", "s") if preload else sheet.workload("b", "boot_seconds"),
            sheet.constant("s", "RECYCLE_SHARE"),
            sheet.constant("m", "MINIMUM_MAX_REQUESTS"),
        ),
        (
            f"X / P = {number(sheet.draft.capacity_rps)} / {sheet.workers} = {number(per_worker)} requests a second "
            "of one worker",
            f"{number(per_worker)} x {number(boot)} s / {number(policy.RECYCLE_SHARE)} = {number(raw, 0)}, rounded up: "
            f"{number(ceil_to(raw, 500))}",
        ),
        max(policy.MINIMUM_MAX_REQUESTS, ceil_to(raw, 500)),
    )


def max_requests_jitter(sheet: Sheet) -> Derivation:
    """A share of max_requests."""
    every = sheet.draft.number("gunicorn.max_requests")
    value = round(policy.RECYCLE_JITTER_SHARE * every)
    return Derivation(
        "j x max_requests",
        (sheet.setting("", "gunicorn.max_requests"), sheet.constant("j", "RECYCLE_JITTER_SHARE")),
        (f"{number(policy.RECYCLE_JITTER_SHARE)} x {number(every)} = {number(value)}",),
        value,
    )


def switch(sheet: Sheet) -> Derivation:
    """Whether two slots fit side by side."""
    draft, slots = sheet.draft, policy.SLOTS_WHILE_SWITCHING
    factor = policy.ASSUMED_MEMORY_FACTOR if draft.memory_assumed else 1.0
    fits = factor * draft.slot_mb <= math.floor(draft.budget.gunicorn_mb / slots)
    granted = not draft.connections or sheet.service.slots <= draft.connections.each(slots)
    name = "a o S" if draft.memory_assumed else "o S"
    steps = [
        f"{name} = {mb(factor * slots * draft.slot_mb)} {'fit' if fits else 'do not fit'} into M = {mb(draft.budget.gunicorn_mb)}"
    ]
    if draft.connections:
        used = connection_sum(draft, slots, sheet.workers, sheet.threads)
        steps.append(
            f"{used} {'of' if granted else 'do not fit into'} {number(draft.connections.granted)} database connections"
        )
    return Derivation(
        f"overlap where o slots of {'a ' if draft.memory_assumed else ''}S fit into M, and their connections into what the "
        "database grants, else stop-start"
        + ("; S is assumed, so a times as much must fit" if draft.memory_assumed else ""),
        (
            sheet.slot(),
            sheet.budget(),
            sheet.constant("o", "SLOTS_WHILE_SWITCHING"),
            *([sheet.constant("a", "ASSUMED_MEMORY_FACTOR")] if draft.memory_assumed else []),
            *sheet.connections(),
        ),
        tuple(steps),
        "overlap" if fits and granted else "stop-start",
    )


def _capacity(sheet: Sheet) -> tuple[str, ...]:
    """From g, n and W to X."""
    work, (p, t), cpus = sheet.work, (sheet.workers, sheet.threads), sheet.cpus
    ratio = work.wait_ratio
    by_erlang, used = 1 - erlang_b(t, ratio), process_utilisation(t, ratio)
    capped = f", under the GIL {number(used)}" if used < by_erlang - 0.005 else ""
    parts = f"{milliseconds(work.gunicorn_cpu_seconds)} + {milliseconds(work.proxy_cpu_seconds)}"
    own, whole = milliseconds(work.serving_cpu_seconds), milliseconds(work.host_cpu_seconds)
    busy = busy_cpus(p * t, host_wait_ratio(work.serving_cpu_seconds, ratio, work.other_cpu_seconds), cpus)
    reached: tuple[str, ...]
    if work.other_cpu_seconds:
        o = milliseconds(work.other_cpu_seconds)
        each = min(p * used / work.serving_cpu_seconds, busy / work.host_cpu_seconds)
        reached = (
            f"C + O = {own} + {o} = {whole} of the host's CPUs, {o} of it in {work.other_names} on the same host",
            f"{counted(p * t, 'request')} in service keep {number(busy, 4)} of {counted(cpus, 'CPU')} busy",
            f"X = min({number(p * used, 4)} / {own}, {number(busy, 4)} / {whole}) = {number(each)} of c / (C + O) = "
            f"{number(cpus / work.host_cpu_seconds)} requests a second",
        )
    else:
        reached = (
            f"{counted(p * t, 'request')} in service keep {number(busy, 4)} of {counted(cpus, 'CPU')} busy",
            f"X = {number(min(p * used, busy), 4)} / {own} = {number(sheet.draft.capacity_rps)} "
            f"of c / C = {number(cpus / work.host_cpu_seconds)} requests a second",
        )
    return (
        f"C = g + n = {parts} = {own}",
        f"a = W / C = {milliseconds(work.wait_seconds)} / {own} = {number(ratio)}",
        f"U({t}) = 1 - B({t}, {number(ratio)}) = {number(by_erlang)}{capped}: {counted(p, 'process', 'processes')} can "
        f"use {p} x {number(used)} = {number(p * used)} CPUs",
        *reached,
    )


def _memory(sheet: Sheet) -> str:
    draft = sheet.draft
    return (
        f"{counted(draft.copies, 'slot')} of {number(draft.slot_mb, 1)} MB take "
        f"{mb(math.ceil(draft.copies * draft.slot_mb))} of {mb(draft.budget.gunicorn_mb)}"
    )


def _connections(sheet: Sheet) -> tuple[str, ...]:
    draft = sheet.draft
    if draft.connections is None:
        return ()
    used = connection_sum(draft, draft.copies, sheet.workers, sheet.threads)
    return (f"{used} of {number(draft.connections.granted)} database connections",)


def _neighbours(sheet: Sheet, steps: tuple[tuple[int, int], ...]) -> list[str]:
    """What a worker or a thread less or more would carry, and cost."""
    draft, work = sheet.draft, sheet.work
    lines = []
    for more_workers, more_threads in steps:
        p, t = sheet.workers + more_workers, sheet.threads + more_threads
        if p < 1 or t < 1:
            continue
        rate = replace(sheet.service, workers=p, threads=t).capacity_rps
        need = draft.cost.slot_mb(p, t)
        verdict = ""
        if draft.copies * need > draft.budget.gunicorn_mb:
            verdict = f"; {counted(draft.copies, 'slot')} of it do not fit"
        elif draft.connections and p * t > draft.connections.each(draft.copies):
            verdict = "; the database grants too few connections for it"
        elif rate < policy.KNEE * sheet.cpus / work.host_cpu_seconds:
            verdict = f"; below {number(100 * policy.KNEE)} % of c / C"
        lines.append(
            f"{p} x {t} instead: {number(rate, 1)} requests a second ({_differs(rate - draft.capacity_rps, 1)}) in "
            f"{mb(need)} ({_differs(need - draft.slot_mb, 1)} MB){verdict}"
        )
    return lines


def _differs(by: float, digits: int) -> str:
    return f"{'+' if by >= 0 else ''}{number(by, digits)}"
