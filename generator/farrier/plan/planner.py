"""From host facts and workload to a plan: the order in which the settings follow from each other. Pure."""

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial

from farrier.errors import DoesNotFitError, FarrierError
from farrier.facts.model import HostFacts
from farrier.plan import objective
from farrier.plan.bottleneck import beside_own_choice, bound
from farrier.plan.draft import Draft
from farrier.plan.fitting import size
from farrier.plan.model import Plan
from farrier.plan.sections import concurrency, memory_limits, nginx, queue, timeouts, worker_life
from farrier.plan.sections.checks import check
from farrier.plan.sized import Basis
from farrier.project.workload import Workload
from farrier.settings import SPECS, Value
from farrier.wording import number


@dataclass
class Planner:
    """Plans every host of one environment; hosts with the same facts share the work."""

    workload: Workload
    overrides: Mapping[str, Value]
    hosts: int
    _known: dict[tuple[object, ...], Plan] = field(default_factory=dict)

    def plan(self, facts: HostFacts) -> Plan:
        """The plan of one host.

        Raises:
            DoesNotFitError: nothing fits the host, or an override breaks the memory budget or the timeout chain.
        """
        key = facts.size
        if key not in self._known:
            self._known[key] = _plan(facts, self.workload, self.overrides, self.hosts)
        known = self._known[key]
        return replace(known, host=facts.host, warnings=(*known.warnings, *_about_facts(facts)))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Planning leaves no garbage; to look for it again and again among all that stays alive takes longer the larger a fleet is."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def plan_all(
    hosts: Iterable[HostFacts], workload: Workload, overrides: Mapping[str, Value], number_of_hosts: int | None = None
) -> dict[str, Plan]:
    """The plans of all hosts by name, or one error that names every host for which none fits.

    They are the whole environment, unless `number_of_hosts` says how many share its database.
    """
    hosts = list(hosts)
    planner = Planner(workload, overrides, number_of_hosts or len(hosts))
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


def drafted(facts: HostFacts, workload: Workload, overrides: Mapping[str, Value], hosts: int = 1) -> Draft:
    """Every setting of one host, with the quantities that led to them.

    Raises:
        DoesNotFitError: nothing fits the host, or an override breaks the memory budget or the timeout chain.
    """
    sized = size(Basis(facts, workload, overrides, hosts))
    draft = Draft(facts, workload, overrides, hosts, sized=sized)
    decide(draft)
    return draft


def decide(draft: Draft) -> None:
    """Every setting of a host that is sized."""
    concurrency.concurrency(draft)
    worker_life.life(draft)
    links = timeouts.chain(draft)
    queue.backlog(draft, links)
    memory_limits.limits(draft)
    nginx.limits(draft)
    check(draft, links)
    objective.warn(draft)


def _plan(facts: HostFacts, workload: Workload, overrides: Mapping[str, Value], hosts: int) -> Plan:
    draft = drafted(facts, workload, overrides, hosts)
    settings = draft.settings | beside_own_choice(draft)
    draft = replace(draft, settings={spec.name: settings[spec.name] for spec in SPECS})
    return Plan(
        facts.host,
        facts.cpus,
        facts.memory_mb,
        draft.settings,
        draft.capacity_rps,
        round(draft.slot_mb),
        objective.p95_at_the_peak(draft),
        tuple(draft.warnings),
        draft,
        cache(partial(bound, draft)),  # hosts of the same size share the answer
    )


def _about_facts(facts: HostFacts) -> Iterator[str]:
    """What the operator stated, and what nobody knows, with its consequence."""
    if facts.stated:
        values = ", ".join(f"{name} {_written(getattr(facts, name))}" for name in sorted(facts.stated))
        yield f"stated by the operator, not gathered: {values}"
    for name, consequence in facts.missing:
        yield f"{name} is not known: {consequence}"


def _written(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)
