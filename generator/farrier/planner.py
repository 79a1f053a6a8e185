"""From host facts and workload to a plan: the order in which the settings follow from each other. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from farrier import policy
from farrier.errors import DoesNotFitError, FarrierError
from farrier.facts import HostFacts
from farrier.plan import Plan
from farrier.planning import gunicorn, nginx, process, queue, timeouts
from farrier.planning.checks import check
from farrier.planning.draft import Draft
from farrier.settings import SPECS, Value
from farrier.sizing.capacity import p95_seconds
from farrier.units import milliseconds, number
from farrier.workload import Workload


@dataclass
class Planner:
    """Plans every host of one environment; hosts with the same facts share the work."""

    workload: Workload
    overrides: Mapping[str, Value]
    _known: dict[tuple[object, ...], Plan] = field(default_factory=dict)

    def plan(self, facts: HostFacts) -> Plan:
        """The plan of one host.

        Raises:
            DoesNotFitError: nothing fits the host, or an override breaks the memory budget or the timeout chain.
        """
        key = facts.size
        if key not in self._known:
            self._known[key] = _plan(facts, self.workload, self.overrides)
        known = self._known[key]
        return Plan(
            facts.host,
            known.cpus,
            known.memory_mb,
            known.settings,
            known.capacity_rps,
            known.predicted_memory_mb,
            known.p95_seconds,
            (*known.warnings, *_about_facts(facts)),
        )


def plan_all(hosts: Iterable[HostFacts], workload: Workload, overrides: Mapping[str, Value]) -> dict[str, Plan]:
    """The plans of all hosts by name, or one error that names every host for which none fits."""
    planner = Planner(workload, overrides)
    plans: dict[str, Plan] = {}
    refused: list[FarrierError] = []
    for facts in sorted(hosts, key=lambda f: f.host):
        try:
            plans[facts.host] = planner.plan(facts)
        except DoesNotFitError as error:
            refused.append(DoesNotFitError(*(f"{facts.host}: {message}" for message in error.messages)))
    if refused:
        raise DoesNotFitError(*(message for error in refused for message in error.messages))
    return plans


def _plan(facts: HostFacts, workload: Workload, overrides: Mapping[str, Value]) -> Plan:
    draft = Draft(facts, workload, overrides)
    gunicorn.concurrency(draft)
    timeouts.chain(draft)
    queue.backlog(draft)
    process.limits(draft)
    nginx.limits(draft)
    check(draft)
    _warn_about_the_objective(draft)
    return Plan(
        facts.host,
        facts.cpus,
        facts.memory_mb,
        {spec.name: draft.settings[spec.name] for spec in SPECS},
        draft.capacity_rps,
        round(draft.slot_mb),
        _p95(draft),
        tuple(draft.warnings),
    )


def _about_facts(facts: HostFacts) -> Iterator[str]:
    """What the operator stated, and what nobody knows, with its consequence."""
    if facts.stated:
        values = ", ".join(f"{name} {getattr(facts, name)}" for name in sorted(facts.stated))
        yield f"stated by the operator, not gathered: {values}"
    for name, consequence in facts.missing:
        yield f"{name} is not known: {consequence}"


def _p95(draft: Draft) -> float | None:
    """p95 at the peak asked for; None where no peak was asked for or the host cannot carry it."""
    work = draft.workload
    if work.peak_rps is None or work.peak_rps >= draft.capacity_rps:
        return None
    cpus = draft.capacity_rps * work.cpu_seconds
    return p95_seconds(work.peak_rps, work.cpu_seconds, work.wait_seconds, cpus)


def _warn_about_the_objective(draft: Draft) -> None:
    work, warn = draft.workload, draft.warnings.append
    if work.is_assumed:
        warn(
            f"the cost of a request is assumed, not measured: {milliseconds(work.cpu_seconds)} CPU and "
            f"{milliseconds(work.wait_seconds)} wait; state cpu_seconds and wait_seconds in the workload"
        )
    if work.peak_rps is not None and work.peak_rps >= draft.capacity_rps:
        warn(
            f"the peak of {number(work.peak_rps)} requests a second is more than this host carries "
            f"({number(draft.capacity_rps, 1)}): it would take "
            f"{number(work.peak_rps * work.cpu_seconds / policy.KNEE, 1)} CPUs, here or on further hosts"
        )
    p95 = _p95(draft)
    if work.latency_p95_seconds is not None and p95 is not None and p95 > work.latency_p95_seconds:
        warn(
            f"the latency objective is missed at the peak: p95 {milliseconds(p95)} predicted, "
            f"{milliseconds(work.latency_p95_seconds)} asked for"
        )
