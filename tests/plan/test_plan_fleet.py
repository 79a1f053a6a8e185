"""What the plans of many hosts cost, counted in sums over a host's states, which take nearly all the time where CPUs are many."""

import gc

import pytest

from farrier.facts.model import HostFacts
from farrier.plan.planner import plan_all
from farrier.plan.sized import Given, Sized
from farrier.project.workload import Workload
from farrier.sizing import concurrency
from farrier.sizing.capacity import busy_cpus, concurrency_for
from planned import STATED


@pytest.mark.parametrize(("memory_per_cpu", "connections"), [(60, None), (400, None), (60, 6_000)])
def test_a_host_of_its_own_size_costs_few_sums(memory_per_cpu: int, connections: int | None) -> None:
    for remembered in (busy_cpus, concurrency_for, concurrency._of_connections, concurrency._at_the_knee):
        remembered.cache_clear()
    sizes = [0.5 + 6.37 * i for i in range(100)]
    hosts = [
        HostFacts(host=f"web{i}", cpus=cpus, memory_mb=400 + int(memory_per_cpu * cpus)) for i, cpus in enumerate(sizes)
    ]
    plan_all(hosts, Workload(stated=STATED, database_connections=connections), {})
    sums = busy_cpus.cache_info().misses + concurrency_for.cache_info().misses
    assert sums < 4 * len(hosts)


def test_a_host_is_sized_once_and_again_only_for_who_reads_its_bottleneck(monkeypatch: pytest.MonkeyPatch) -> None:
    sizings = 0
    choose = Given.choose

    def counted(given: Given) -> Sized | None:
        nonlocal sizings
        sizings += 1
        return choose(given)

    monkeypatch.setattr(Given, "choose", counted)
    hosts = [HostFacts(host=f"web{i}", cpus=1.0 + i % 4, memory_mb=4000) for i in range(8)]
    plans = plan_all(hosts, Workload(stated=STATED, database_connections=6_000), {})
    assert sizings == 4
    assert plans["web0"].bound.startswith("CPU: ")
    read = sizings
    assert plans["web4"].bound == plans["web0"].bound
    assert sizings == read > 4


def test_planning_leaves_no_garbage_that_only_the_paused_collector_would_find() -> None:
    hosts = [HostFacts(host=f"web{i}", cpus=1.0 + i, memory_mb=4000) for i in range(20)]
    gc.collect()
    plans = plan_all(hosts, Workload(stated=STATED), {})
    assert gc.isenabled()
    assert gc.collect() == 0
    assert len(plans) == 20
