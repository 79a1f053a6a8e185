"""Hosts, workloads and plans that tests of the plan have in common."""

from collections.abc import Mapping

import pytest

from farrier.errors import DoesNotFitError
from farrier.facts.model import HostFacts
from farrier.plan.model import Plan
from farrier.plan.planner import plan_all
from farrier.project.workload import Workload
from farrier.settings import Value

STATED = frozenset({"cpu_seconds", "wait_seconds", "memory_private_mb", "memory_shared_mb"})
ORDINARY = Workload(stated=STATED)


def host(
    cpus: float = 2.0, memory_mb: int = 3936, somaxconn: int | None = 4096, nofile: int | None = 524_288
) -> HostFacts:
    return HostFacts(host="web1", cpus=cpus, memory_mb=memory_mb, somaxconn=somaxconn, nofile_hard=nofile)


def plan(
    facts: HostFacts | None = None,
    workload: Workload = ORDINARY,
    overrides: Mapping[str, Value] | None = None,
) -> Plan:
    return plan_all([facts or host()], workload, overrides or {})["web1"]


def refused(overrides: Mapping[str, Value], facts: HostFacts | None = None, workload: Workload = ORDINARY) -> str:
    with pytest.raises(DoesNotFitError) as caught:
        plan(facts, workload, overrides)
    return "\n".join(caught.value.messages)


def values(found: Plan) -> dict[str, Value]:
    return {name: setting.value for name, setting in found.settings.items()}


def pair(found: Plan) -> tuple[Value, Value]:
    return found.value("gunicorn.workers"), found.value("gunicorn.threads")
