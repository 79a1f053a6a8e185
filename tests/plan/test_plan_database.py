"""Connections that a database grants: shared by hosts and slots, never exceeded, named where they bind."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier.errors import DoesNotFitError
from farrier.plan.model import Plan
from farrier.plan.planner import plan_all
from farrier.project.workload import Workload
from farrier.settings import Value
from planned import ORDINARY, STATED, host, pair, plan


def granted(
    connections: int,
    hosts: int = 2,
    memory_mb: int = 3936,
    overrides: Mapping[str, Value] | None = None,
    peak: float | None = None,
) -> Plan:
    """The plan of one of equal hosts of 2 CPUs that share a database."""
    names = [f"web{i + 1}" for i in range(hosts)]
    work = replace(ORDINARY, database_connections=connections, peak_rps=peak)
    return plan_all([replace(host(memory_mb=memory_mb), host=name) for name in names], work, overrides or {})["web1"]


def test_connections_of_the_database_are_shared_by_hosts_and_slots() -> None:
    """24 connections for 2 hosts with 2 slots each are 6 requests in service: 3 x 2 carry as many as 6 x 1, for less."""
    found = granted(24)
    assert pair(found) == (3, 2)
    # 6 requests in service keep 1.8454 of 2 CPUs busy.
    assert found.capacity_rps == pytest.approx(1.8454 / 0.0203, abs=0.01)
    assert found.settings["gunicorn.workers"].reason == (
        "The database allows no more: of 24 connections, one for each request in service, 2 hosts x 2 slots x 3 workers x "
        "2 threads = 24 may be in use at once."
    )
    assert found.settings["gunicorn.threads"].reason.endswith("and the database grants no more connections.")
    assert found.bound == (
        "database: 2 more threads in each worker would fit with 24 more connections, and carry 7.6 more requests a second"
    )
    assert found.warnings == (
        "database connections are the limit: 90.9 of the 98.5 requests a second that 2 CPUs could answer",
    )
    assert pair(granted(48)) == (3, 4), "2 x 2 x 12 are enough"
    assert pair(granted(12, hosts=1)) == (3, 2)
    assert pair(granted(24, overrides={"farrier.switch": "stop-start"})) == (3, 4), "one slot at a time"


def test_a_pair_that_needs_fewer_connections_is_taken_where_it_carries_as_much() -> None:
    """11 requests in service: 5 x 2 keep 99.84 % of the CPUs busy, though 3 x 4 would take less memory."""
    found = granted(44)
    assert pair(found) == (5, 2)
    assert found.bound.startswith("CPU: ")
    assert found.warnings == ()


def test_connections_for_one_slot_only_mean_stop_then_start() -> None:
    found = granted(2)
    assert (*pair(found), found.value("farrier.switch")) == (1, 1, "stop-start")
    assert found.settings["farrier.switch"].reason == (
        "Two slots would use 2 hosts x 2 slots x 1 worker x 1 thread = 4 database connections of 2, so the old one stops "
        "first while the queue holds the requests."
    )
    assert found.warnings[0] == (
        "the database's connections are enough for one slot only: during a deploy requests wait in the queue until the "
        "old slot has ended its last ones, and for about 3 s of boot; 2 more connections would let two overlap"
    )


@pytest.mark.parametrize(
    ("connections", "overrides", "message"),
    [
        (
            1,
            {},
            "web1: no plan fits: one slot of 1 worker with 1 thread each needs 2 database connections (2 hosts x 1 slot x 1 "
            "worker x 1 thread = 2), but the limit is 1 (database_connections)",
        ),
        (
            60,
            {"gunicorn.workers": 5, "gunicorn.threads": 4, "farrier.switch": "overlap"},
            "web1: no plan fits: two slots of 5 workers with 4 threads each need 80 database connections (2 hosts x 2 slots "
            "x 5 workers x 4 threads = 80), but the limit is 60 (database_connections)",
        ),
    ],
)
def test_more_connections_than_granted_are_refused(connections: int, overrides: dict[str, Value], message: str) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        granted(connections, overrides=overrides)
    assert caught.value.messages[0] == message


def test_memory_may_bind_before_the_database() -> None:
    """2 x 152 MB hold one worker each; 254 MB more hold 2 x 278 + 66 + 32 = 654, and 6 connections a slot 3 x 2."""
    found = granted(24, memory_mb=400)
    assert found.settings["gunicorn.workers"].reason.startswith("Memory allows no more: ")
    assert found.bound == (
        "memory: 3 workers of 2 threads would fit with 254 MB more, and carry 42.6 more requests a second"
    )


def test_what_may_help_only_together() -> None:
    """One request in service is all that the database grants and all that 125 MB hold: neither alone would bring any."""
    work = replace(ORDINARY, wait_seconds=2.0, memory_thread_mb=10, database_connections=1)
    found = plan(host(cpus=1, memory_mb=205), work, {"farrier.switch": "stop-start"})
    assert pair(found) == (1, 1)
    # 4 x 205 MB hold 35 + 80 + 60 x 10 = 715 MB; 813 - 82 reserve - 16 NGINX is the least that does. 29.27 for 0.49.
    assert found.bound == (
        "database and memory: 59 more connections with 608 MB more would carry 28.8 more requests a second"
    )


def test_a_peak_that_the_database_does_not_allow() -> None:
    # 2 hosts of 3 x 4, two slots each: 48; that carries 98.5.
    assert (
        "the peak of 95 requests a second is more than this host carries (90.9): 48 database connections instead of 24 would"
    ) in granted(24, peak=95).warnings
    assert (
        "the peak of 140 requests a second is more than this host carries (19.9): no number of CPUs up to 64 would with the 4 "
        "database connections"
    ) in granted(4, peak=140).warnings


@given(st.integers(1, 400), st.integers(1, 9), st.floats(0.5, 8), st.floats(0.001, 0.1), st.floats(0, 0.5))
def test_no_plan_uses_more_connections_than_granted(
    connections: int, hosts: int, cpus: float, cpu: float, wait: float
) -> None:
    work = Workload(cpu_seconds=cpu, wait_seconds=wait, database_connections=connections, stated=STATED)
    try:
        found = plan_all([host(cpus)], work, {}, hosts)["web1"]
    except DoesNotFitError:
        assert connections < hosts
        return
    workers, threads = (int(value) for value in pair(found))
    copies = 2 if found.value("farrier.switch") == "overlap" else 1
    assert hosts * copies * workers * threads <= connections
    free = plan(host(cpus), replace(work, database_connections=None))
    assert found.capacity_rps <= free.capacity_rps / 0.995 + 1e-6
