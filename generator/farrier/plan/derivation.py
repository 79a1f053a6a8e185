"""What a value is derived from: inputs with their unit and where they come from, as a reader is told them."""

from collections.abc import Iterator
from dataclasses import replace

from farrier import policy
from farrier.facts.model import FACTS
from farrier.plan.draft import Draft
from farrier.plan.fitting import connection_sum
from farrier.plan.model import Input
from farrier.project.workload import KEYS
from farrier.settings import BY_NAME, Value
from farrier.sizing.capacity import busy_cpus, erlang_b, host_wait_ratio, process_utilisation
from farrier.wording import MB, counted, mb, milliseconds, number, per_second

MEANINGS = {
    **{name: key.meaning for name, key in KEYS.items()},
    "cpus": "usable CPUs",
    "memory_mb": "usable memory",
    "somaxconn": "the host's net.core.somaxconn",
    "nofile_hard": "open files that the host grants a service",
}
"""Workload figures and host facts by the name under which they are stated."""


def quantity(name: str, value: object) -> str:
    """A workload figure or a host fact with its unit: `cpu_seconds` 0.02 is `20 ms`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "not known" if name in FACTS else "not asked for"
    unit = KEYS[name].unit if name in KEYS else {"memory_mb": "MB"}.get(name, "")
    if unit == "ms":
        return milliseconds(value)
    if name == "cpus":
        return counted(value, "CPU")
    return f"{number(value)} {unit}".rstrip()


def written(name: str, value: Value) -> str:
    """A setting's value as a person reads it: `559 MB`, `42 s`, `on`, `1,024`."""
    unit = BY_NAME[name].unit
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return mb(value / MB) if value >= MB else f"{number(value)} bytes"
    return f"{number(value)} s" if unit == "seconds" else number(value)


class Inputs:
    """A draft that is decided, as inputs and numbers for sentences."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.work = draft.workload
        self.service = draft.service
        self.workers, self.per_worker = self.service.workers, self.service.per_worker
        self.cpus = draft.facts.cpus

    def workload(self, symbol: str, name: str) -> Input:
        """A figure of the workload: measured, stated, or assumed because nobody stated it."""
        known = "stated in the workload" if name in self.work.stated else "assumed"
        known = "measured" if name in self.work.measured else known
        return Input(symbol, f"{MEANINGS[name]} ({name})", quantity(name, getattr(self.work, name)), known)

    def work_inputs(self) -> tuple[Input, ...]:
        """What C, W and O come from; no O where nobody found any."""
        others = (self.workload("O", "other_cpu_seconds"),) if self.work.other_cpu_seconds else ()
        figures = {"g": self.work.gunicorn_cpu_name, "n": "proxy_cpu_seconds", "W": "wait_seconds"}
        return (*(self.workload(symbol, name) for symbol, name in figures.items()), *others)

    def fact(self, symbol: str, name: str) -> Input:
        """A fact of the host: gathered, stated by the operator, or unknown."""
        value = getattr(self.draft.facts, name)
        known = "stated by the operator" if name in self.draft.facts.stated else "fact of the host"
        return Input(symbol, f"{MEANINGS[name]} ({name})", quantity(name, value), "fact" if value is None else known)

    def constant(self, symbol: str, name: str, unit: str = "") -> Input:
        """A constant of `policy`."""
        value = getattr(policy, name)
        return Input(symbol, f"policy.{name}", f"{number(value, 4)}{unit and ' ' + unit}", "policy", name)

    def setting(self, symbol: str, name: str) -> Input:
        """A setting that was decided before."""
        found = self.draft.settings[name]
        return Input(symbol, name, written(name, found.value), found.provenance.value)

    def each(self, symbol: str) -> Input:
        """Requests that a worker has in service at once."""
        return self.setting(symbol, self.draft.kind.setting)

    def connections(self) -> tuple[Input, ...]:
        """What the database grants, and to how many hosts; nothing where nobody has said."""
        if self.draft.connections is None:
            return ()
        hosts = Input("h", "hosts of the environment", number(self.draft.hosts), "facts")
        return self.workload("D", "database_connections"), hosts

    def capacity(self) -> Input:
        """X, which most of the rest follows from."""
        return Input(
            "X",
            f"capacity of {number(self.workers)} x {self.per_worker}",
            f"{number(self.draft.capacity_rps, 2)} requests/s",
            "calculated; see gunicorn.workers",
        )

    def slot(self) -> Input:
        """What one slot should need, with its sum."""
        return Input(
            "S", "what a slot should need", f"{number(self.draft.slot_mb, 1)} MB", f"calculated: {self.slot_sum()}"
        )

    def slot_sum(self) -> str:
        """The memory of a slot written out."""
        return self.draft.cost.breakdown(self.workers, self.per_worker)

    def budget(self) -> Input:
        """M, the memory left for Gunicorn, with its sum."""
        found = self.draft.budget
        return Input("M", "memory left for Gunicorn", mb(found.gunicorn_mb), f"calculated: {found.breakdown()}")

    def copies(self) -> Input:
        """How many slots have to fit at a time."""
        found = self.setting("", "farrier.switch")
        return Input(
            "o", "slots at a time", str(self.draft.copies), f"farrier.switch {found.value}, {found.provenance}"
        )

    def queue_budget(self, used: int) -> Input:
        """q, which may be shorter than asked for."""
        asked = self.workload("q", "queue_budget_seconds")
        if used == self.work.queue_budget_seconds:
            return asked
        why = f"calculated: {asked.value} ({asked.provenance}), but clients wait only {self.work.client_timeout_seconds} s"
        return asked._replace(value=f"{used} s", provenance=why)

    def request_limit(self, used: int) -> Input:
        """r; a sync worker's own timeout may be longer than what the workload says."""
        asked = self.workload("r", "request_limit_seconds")
        if used == self.work.request_limit_seconds:
            return asked
        return asked._replace(value=f"{used} s", provenance="gunicorn.timeout, which ends a request of a sync worker")


def capacity_steps(given: Inputs) -> tuple[str, ...]:
    """From g, n and W to X."""
    work, (p, t), cpus = given.work, (given.workers, given.per_worker), given.cpus
    ratio = work.wait_ratio
    by_erlang, used = 1 - erlang_b(t, ratio), process_utilisation(t, ratio)
    capped = f", under the GIL {number(used)}" if used < by_erlang - 0.005 else ""
    parts = f"{milliseconds(work.gunicorn_cpu_seconds)} + {milliseconds(work.proxy_cpu_seconds)}"
    own, whole = milliseconds(work.serving_cpu_seconds), milliseconds(work.host_cpu_seconds)
    busy = busy_cpus(p * t, host_wait_ratio(work.serving_cpu_seconds, ratio, work.other_cpu_seconds), cpus)
    carried, ideal = number(given.draft.capacity_rps), per_second(cpus / work.host_cpu_seconds, 2)
    if work.other_cpu_seconds:
        reached = (
            f"X = min({number(p * used, 4)} / {own}, {number(busy, 4)} / {whole}) = {carried} of c / (C + O) = {ideal}"
        )
    else:
        reached = f"X = {number(min(p * used, busy), 4)} / {own} = {carried} of c / C = {ideal}"
    return (
        f"C = g + n = {parts} = {own}",
        f"a = W / C = {milliseconds(work.wait_seconds)} / {own} = {number(ratio)}",
        f"U({t}) = 1 - B({t}, {number(ratio)}) = {number(by_erlang)}{capped}: {counted(p, 'process', 'processes')} can "
        f"use {number(p)} x {number(used)} = {counted(round(p * used, 2), 'CPU')}",
        *others_step(given),
        f"{counted(p * t, 'request')} in service keep {number(busy, 4)} of {counted(cpus, 'CPU')} busy",
        reached,
    )


def others_step(given: Inputs) -> tuple[str, ...]:
    """What other services compute for a request; nothing where nobody found any."""
    work = given.work
    if not work.other_cpu_seconds:
        return ()
    own, whole = milliseconds(work.serving_cpu_seconds), milliseconds(work.host_cpu_seconds)
    o = milliseconds(work.other_cpu_seconds)
    return (f"C + O = {own} + {o} = {whole} of the host's CPUs, {o} of it in {work.other_names} on the same host",)


def connection_steps(given: Inputs) -> tuple[str, ...]:
    """How many of the database's connections may be in use; nothing where nobody has said what it grants."""
    draft = given.draft
    if draft.connections is None:
        return ()
    used = connection_sum(draft.sized.given, draft.copies, draft.sized.chosen)
    return (f"{used} of {number(draft.connections.granted)} database connections",)


def neighbour_steps(given: Inputs, steps: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """What a worker or a thread less or more would carry, and cost."""
    draft, work = given.draft, given.work
    for more_workers, more_threads in steps:
        p, t = given.workers + more_workers, given.per_worker + more_threads
        if p < 1 or t < 1:
            continue
        rate = replace(given.service, workers=p, per_worker=t).capacity_rps
        need = draft.cost.slot_mb(p, t)
        verdict = ""
        if draft.copies * need > draft.budget.gunicorn_mb:
            verdict = f"; {counted(draft.copies, 'slot')} of it do not fit"
        elif draft.connections and p * t > draft.connections.each(draft.copies):
            verdict = "; the database grants too few connections for it"
        elif rate < policy.KNEE * given.cpus / work.host_cpu_seconds:
            verdict = f"; below {number(100 * policy.KNEE)} % of c / C"
        yield (
            f"{number(p)} x {t} instead: {per_second(rate)} ({_differs(rate - draft.capacity_rps)}) in "
            f"{mb(need)} ({_differs(need - draft.slot_mb)} MB){verdict}"
        )


def _differs(by: float) -> str:
    return f"{'+' if by >= 0 else ''}{number(by, 1)}"
