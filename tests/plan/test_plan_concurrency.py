"""Gevent where it is asked for, and threads that hold each other up: what a plan chooses, and what it says of it."""

from dataclasses import replace

import pytest

from farrier.settings import Value
from farrier.wording import MB
from planned import ORDINARY, host, pair, plan, refused, values

GEVENT: dict[str, Value] = {"gunicorn.worker_class": "gevent"}


def test_gevent_is_sized_by_cpus_and_littles_law() -> None:
    """2.3 ms of CPU and 50 ms of wait: a = 21.74, so a process has 22.74 requests in service at capacity, 45.48 doubled."""
    work = replace(ORDINARY, cpu_seconds=0.002, wait_seconds=0.05, preload_safe=True)
    found = plan(workload=work, overrides=GEVENT)
    assert {name: value for name, value in values(found).items() if name in GEVENT_CHANGES} == GEVENT_CHANGES
    assert found.capacity_rps == pytest.approx(2 / 0.0023, rel=1e-3)
    setting = found.settings["gunicorn.worker_class"]
    assert setting.provenance == "override"
    assert setting.reason.startswith("Set by the operator: each worker takes up to 46 requests at once as greenlets")
    assert (
        "Each greenlet may hold a database connection: 1 host x 2 slots x 2 workers x 46 greenlets = 184."
        in setting.reason
    )
    assert found.warnings == ()
    (warning,) = plan(
        overrides={**GEVENT, "gunicorn.workers": 3}, workload=replace(ORDINARY, wait_seconds=0.01)
    ).warnings
    assert warning.startswith("gevent brings nothing here: a request waits 10 ms and takes 20.3 ms of CPU")


GEVENT_CHANGES: dict[str, Value] = {
    "gunicorn.worker_class": "gevent",
    "gunicorn.workers": 2,
    "gunicorn.threads": 1,
    "gunicorn.worker_connections": 46,
    "gunicorn.preload_app": False,
    "gunicorn.timeout": 30,
    "farrier.watchdog_timeout": 0,
    "systemd.LimitNOFILE": 1024,  # 256 + 8 x 46
    "systemd.TasksMax": 128,  # 2 x (1 + 2 x (1 + 10)) + 2 x (1 + 2) x 2 + 64 = 122
    "systemd.MemoryMax": 408 * MB,  # 2 x (35 + 2 x (80 + 4.6)) = 408.4
}


def test_gevent_stays_within_database_connections_and_memory() -> None:
    work = replace(ORDINARY, cpu_seconds=0.002, wait_seconds=0.05, database_connections=60)
    found = plan(workload=work, overrides=GEVENT)
    # 60 in 2 slots are 30, 15 in each of 2 workers.
    assert [found.value(name) for name in ("gunicorn.workers", "gunicorn.worker_connections")] == [2, 15]
    assert found.bound.startswith("database: 31 more greenlets in each worker would fit with 124 more connections")
    small = plan(host(cpus=1, memory_mb=360), replace(work, database_connections=None), GEVENT)
    # 360 - 64 - 16 = 280 MB, 140 for each of two slots: 35 + 1 x (80 + 46 x 0.1).
    assert [small.value(name) for name in ("gunicorn.workers", "gunicorn.worker_connections")] == [1, 46]


def test_what_gevent_does_not_go_with_is_refused() -> None:
    assert refused({**GEVENT, "gunicorn.preload_app": True}).startswith(
        "web1: gunicorn.preload_app true imports the application before gunicorn.worker_class gevent patches Python"
    )
    assert refused({**GEVENT, "gunicorn.threads": 4}).startswith("web1: gunicorn.threads 4 means nothing to")
    watched = plan(overrides={**GEVENT, "farrier.watchdog_timeout": 30}).warnings
    assert (
        "farrier.watchdog_timeout 30 s watches nothing: it looks at threads, and gevent's requests share one" in watched
    )


COMPUTING = replace(ORDINARY, longest_cpu_segment_seconds=0.1)


def test_processes_are_preferred_to_threads_that_hold_each_other_up() -> None:
    """4 x 3 carry as much as 3 x 4 and take 361 MB, less than 1.5 x 281; 5 x 2 would take 440."""
    found = plan(workload=COMPUTING)
    assert pair(found) == (4, 3)
    assert found.capacity_rps == plan().capacity_rps
    assert found.settings["gunicorn.threads"].reason == (
        "With 4 workers this makes 12 requests in service at once; a request waits 30 ms and takes 20.3 ms of CPU, and by Erlang B "
        "more threads would wait for the CPU, not work. A request may compute for 100 ms without a pause, and CPython hands on "
        "the GIL every 5 ms: a thread beside it waits 5 ms each time that it goes on, 10 ms beside 2 such requests. 4 x 3 in "
        "361 MB instead of 3 x 4 in 281 MB let fewer threads wait for one that computes for 100 ms."
    )


def test_memory_is_not_filled_up_for_fewer_threads() -> None:
    """1,024 - 103 - 32 = 889 MB hold two slots of 361 MB, but neither could grow to twice that."""
    found = plan(host(memory_mb=1024), COMPUTING)
    assert pair(found) == (3, 4)
    assert found.settings["gunicorn.threads"].reason.endswith(
        "a thread beside it waits 5 ms each time that it goes on, 15 ms beside 3 such requests."
    )


def test_short_stretches_of_computing_hold_nobody_up() -> None:
    assert plan(workload=replace(ORDINARY, longest_cpu_segment_seconds=0.005)) == plan()


def test_where_all_compute_alike_no_memory_is_spent_on_fewer_threads() -> None:
    """99 ms are less than 5 times the mean 20 ms: the risk is told, and nothing else."""
    found = plan(workload=replace(COMPUTING, longest_cpu_segment_seconds=0.099))
    assert pair(found) == pair(plan()) == (3, 4)
    assert "A request may compute for 99 ms without a pause" in found.settings["gunicorn.threads"].reason


def test_an_operators_threads_are_told_what_they_risk() -> None:
    found = plan(workload=COMPUTING, overrides={"gunicorn.workers": 2, "gunicorn.threads": 20})
    assert pair(found) == (2, 20)
    assert found.settings["gunicorn.threads"].reason.endswith("95 ms beside 19 such requests.")
    found = plan(workload=COMPUTING, overrides={"gunicorn.worker_class": "sync"})
    assert "GIL every" not in found.settings["gunicorn.threads"].reason
