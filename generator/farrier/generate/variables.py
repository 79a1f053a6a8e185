"""The only place that maps settings to the role's variables, and hosts of different size to one role."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from farrier import policy
from farrier.ansible.trust import Expression, Free
from farrier.plan.model import Plan
from farrier.project.model import Application, Environment, Project
from farrier.settings import SPECS, SettingSpec
from farrier.settings import Value as SettingValue

JsonValue = bool | int | float | str | list[str] | dict[str, str]


@dataclass(frozen=True)
class RoleVariable:
    """One public variable; `reason` holds the comment's sentences."""

    full_name: str
    value: JsonValue
    type: str
    meaning: str
    section: str
    reason: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """Hosts that get the same values; `plan` is that of the smallest."""

    name: str
    hosts: tuple[str, ...]
    plan: Plan

    @cached_property
    def values(self) -> dict[str, JsonValue]:
        """The values of this size by variable name, without the role's prefix."""
        return size_values(self.plan)


def size_values(plan: Plan) -> dict[str, JsonValue]:
    """The values of one plan, by role variable without the prefix."""
    values: dict[str, JsonValue] = {
        "sized_for_cpus": plan.cpus,
        "sized_for_memory_mb": plan.memory_mb,
        "slot_memory_mb": plan.predicted_memory_mb,
    }
    return values | {spec.variable: _written(spec, plan.value(spec.name)) for spec in SPECS}


def _is_memory(spec: SettingSpec) -> bool:
    """Whether a setting is an amount of memory that systemd reads, with its own suffixes."""
    return spec.section == "systemd" and spec.unit == "bytes"


def _written(spec: SettingSpec, value: SettingValue) -> SettingValue:
    """A value as people write it in a role: memory as `252M`; what is no whole number of megabytes stays in bytes."""
    if _is_memory(spec) and isinstance(value, int):
        return str(value) if value % 2**20 else f"{value // 2**20}M"
    return value


def sizes(plans: Mapping[str, Plan]) -> tuple[Size, ...]:
    """The hosts grouped by equal settings, the largest group first; named by CPUs and memory.

    Hosts with the same CPUs and settings share a size even if one has some megabytes more than the other.
    """
    groups: dict[tuple[object, ...], list[Plan]] = {}
    for plan in plans.values():
        groups.setdefault((plan.cpus, *(plan.value(spec.name) for spec in SPECS)), []).append(plan)
    named: list[Size] = []
    for group in sorted(groups.values(), key=lambda group: (-len(group), group[0].host)):
        smallest = min(group, key=lambda plan: plan.memory_mb)
        name = f"{smallest.cpus:g}_cpus_{smallest.memory_mb}_mb".replace(".", "_")
        if any(size.name == name for size in named):
            name = f"{name}_{len(named) + 1}"
        named.append(Size(name, tuple(plan.host for plan in group), smallest))
    return tuple(named)


def role_variables(
    project: Project, environment_name: str, plans: Mapping[str, Plan], groups: tuple[Size, ...]
) -> list[RoleVariable]:
    """Every public variable of an environment's role, in the order of its defaults file."""
    role = project.role(environment_name)
    return [
        *_application(project.application, project.environments[environment_name], role),
        *(_size_table(role) if len(groups) > 1 else []),
        *_sized_for(list(plans), groups, role),
        *_settings(groups, role),
    ]


def _application(app: Application, environment: Environment, role: str) -> Iterator[RoleVariable]:
    def variable(name: str, value: JsonValue, kind: str, meaning: str) -> RoleVariable:
        return RoleVariable(f"{role}_{name}", value, kind, meaning, "Application", (meaning + ".",))

    domains = [environment.domain, *environment.aliases]
    yield variable("domains", domains, "list", "Host names that NGINX serves; the first one is used for health checks")
    public: dict[str, str] = {key: Free(text) for key, text in (app.environment | environment.environment).items()}
    yield variable("environment", public, "dict", "Environment variables of the application that are not secret")
    meaning = "Environment variables for pip, such as https_proxy or a PIP_INDEX_URL with a password; keep them in Ansible vault"
    yield variable("pip_environment", {}, "dict", meaning)
    yield variable("keep_releases", policy.KEEP_RELEASES, "int", "Releases kept on the host, including the active one")
    meaning = "Take the lock from another play, which must be dead; for a single run, with -e"
    yield variable("take_lock", False, "bool", meaning)
    meaning = (
        "Take over a host of another environment or project, and whatever is in the way; for a single run, with -e"
    )
    yield variable("take_host", False, "bool", meaning)
    if environment.metrics_directory is not None:
        meaning = "Directory where node_exporter looks for metrics files"
        yield variable("metrics_directory", environment.metrics_directory, "str", meaning)


def _size_table(role: str) -> list[RoleVariable]:
    """Which row of the size table a host uses; the template writes the table itself."""
    return [
        RoleVariable(
            f"{role}_size",
            Expression(f"{{{{ {role}_size_of_host[inventory_hostname] | default(undef(hint=__{role}_unplanned)) }}}}"),
            "str",
            "The row of the size table for a host; set it for a host that was not planned",
            "Sizes",
            ("The row for this host; set it in host_vars for a host that was not planned.",),
        )
    ]


def _sized_for(hosts: list[str], groups: tuple[Size, ...], role: str) -> Iterator[RoleVariable]:
    """What the sizes were calculated for, the hosts the role deploys to, and whether it accepts smaller ones."""

    def variable(name: str, value: JsonValue, kind: str, meaning: str) -> RoleVariable:
        return RoleVariable(f"{role}_{name}", value, kind, meaning, "Sized for", (meaning + ".",))

    refused = "that the values below were calculated for; a smaller host is refused"
    for name, kind, meaning in (
        ("sized_for_cpus", "float", f"Usable CPUs {refused}"),
        ("sized_for_memory_mb", "int", f"Usable memory in MB {refused}"),
        (
            "slot_memory_mb",
            "int",
            "Memory in MB that a slot should need; a host whose other services leave less is refused",
        ),
    ):
        yield variable(name, _value(groups, name, role), kind, meaning)
    yield variable("planned_hosts", hosts, "list", "The planned hosts; any other is refused")
    meaning = "Deploy to a host smaller than planned; for a single run, with -e"
    yield variable("accept_smaller_host", False, "bool", meaning)


def _settings(groups: tuple[Size, ...], role: str) -> Iterator[RoleVariable]:
    for spec in SPECS:
        sizes_of: dict[str, list[str]] = {}
        for size in groups:
            sizes_of.setdefault(size.plan.settings[spec.name].reason, []).append(size.name)
        each = tuple(f"{', '.join(names)}: {reason}" for reason, names in sizes_of.items())
        yield RoleVariable(
            f"{role}_{spec.variable}",
            _value(groups, spec.variable, role),
            "str" if _is_memory(spec) else spec.type.__name__,
            spec.meaning[:1].upper() + spec.meaning[1:] + _unit(spec),
            spec.section,
            each if len(sizes_of) > 1 else tuple(sizes_of),
            spec.choices,
        )


def _unit(spec: SettingSpec) -> str:
    """How a value is to be read, behind its meaning."""
    if _is_memory(spec):
        return ", as systemd reads it: 252M"
    return f", in {spec.unit}" if spec.unit else ""


def _value(groups: tuple[Size, ...], name: str, role: str) -> JsonValue:
    """The literal value if all hosts agree, else a lookup in the size table."""
    values = [size.values[name] for size in groups]
    if all(value == values[0] for value in values):
        return values[0]
    return Expression(f"{{{{ {role}_sizes[{role}_size].{name} }}}}")


def differing(groups: tuple[Size, ...]) -> list[str]:
    """The variables in which sizes differ, in order."""
    if len(groups) < 2:
        return []
    return [name for name in groups[0].values if len({size.values[name] for size in groups}) > 1]
