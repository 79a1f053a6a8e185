"""Molecule scenarios: test hosts that stand in for an environment's hosts, planned like them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farrier import policy
from farrier.facts.model import HostFacts
from farrier.generate.variables import JsonValue, RoleVariable, size_values
from farrier.plan.model import Plan
from farrier.plan.planner import plan_all
from farrier.project.model import Project
from farrier.project.workload import Workload
from farrier.settings import Value

AS_NEW_AS_DEBIAN_13 = {"Debian": 13, "Ubuntu": 24}


@dataclass(frozen=True)
class TestHost:
    """A disposable host: `cpus` and `memory_mb` are its cgroup's limits, `variables` the role variables it sets."""

    name: str
    cpus: float
    memory_mb: int
    variables: Mapping[str, JsonValue]


@dataclass(frozen=True)
class TestScenario:
    """The hosts of one Molecule scenario, and the plans that they are compared with."""

    name: str
    system: str
    hosts: tuple[TestHost, ...]
    plans: Mapping[str, Plan]


def scenarios(
    project: Project,
    environment_name: str,
    facts: Iterable[HostFacts],
    plans: Mapping[str, Plan],
    workload: Workload,
    variables: Iterable[RoleVariable],
) -> list[TestScenario]:
    """The scenario named after the environment, and those that the project file adds for it; `variables` are its role's."""
    known = list(facts)
    overrides = project.environments[environment_name].overrides
    defaults = {v.full_name: v.value for v in variables}
    role = project.role(environment_name)

    def scenario(
        name: str, system: str | None, limits: list[tuple[float, int]], extra: Mapping[str, Value]
    ) -> TestScenario:
        hosts = [_facts(f"{project.application.name}-{name}-{i + 1}", *limit) for i, limit in enumerate(limits)]
        planned = plan_all(hosts, workload, {**overrides, **extra}, len(known))
        tested = tuple(
            TestHost(each.host, *limit, _differences(defaults, planned[each.host], role))
            for each, limit in zip(hosts, limits, strict=True)
        )
        return TestScenario(name, system or _system(known), tested, planned)

    found = [scenario(environment_name, None, _limits(plans), {})]
    for name, own in project.scenarios.items():
        if own.environment == environment_name:
            cpus, memory = _limits(plans)[0]
            found.append(scenario(name, own.system, [(own.cpus or cpus, own.memory_mb or memory)], own.overrides))
    return found


def _facts(name: str, cpus: float, limit_mb: int) -> HostFacts:
    """Facts of a test host before it exists: its limits, minus what its own system uses."""
    return HostFacts(
        host=name, cpus=cpus, memory_mb=limit_mb - policy.SCENARIO_SYSTEM_MB, nofile_hard=policy.SCENARIO_NOFILE
    )


def _limits(plans: Mapping[str, Plan]) -> list[tuple[float, int]]:
    """CPUs and memory of one test host for each size of the environment, as large as a development machine can make it."""
    limits = {
        (
            min(plan.cpus, policy.SCENARIO_MAX_CPUS),
            min(plan.memory_mb + policy.SCENARIO_SYSTEM_MB, policy.SCENARIO_MAX_MEMORY_MB),
        )
        for plan in plans.values()
    }
    return sorted(limits, reverse=True)[: policy.SCENARIO_MAX_HOSTS]


def _differences(defaults: Mapping[str, JsonValue], plan: Plan, role: str) -> dict[str, JsonValue]:
    own: dict[str, JsonValue] = {f"{role}_{name}": value for name, value in size_values(plan).items()}
    own[f"{role}_planned_hosts"] = [plan.host]
    return {name: value for name, value in own.items() if defaults[name] != value}


def _system(facts: list[HostFacts]) -> str:
    """The test image whose systemd and Python match the hosts', or come closest."""
    releases = ((known.distribution, (known.version or "").partition(".")[0]) for known in facts)
    is_new = any(
        release.isdigit() and int(release) >= AS_NEW_AS_DEBIAN_13.get(name or "", 1000) for name, release in releases
    )
    return "debian13" if is_new else "debian12"
