"""Derivations: every setting has one, and its lines are the ones worked out by hand."""

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier import policy
from farrier.cli.policy_whys import whys
from farrier.errors import DoesNotFitError
from farrier.facts.model import HostFacts
from farrier.plan.model import Provenance
from farrier.plan.planner import plan_all
from farrier.plan.what_if import Explanation, explain
from farrier.project.workload import Workload
from farrier.settings import BY_NAME, Value

STATED = frozenset({"cpu_seconds", "wait_seconds", "memory_private_mb", "memory_shared_mb"})
ORDINARY = Workload(stated=STATED)
HOST = HostFacts(host="web1", cpus=2.0, memory_mb=3936, somaxconn=4096, nofile_hard=524_288)

ILL_WRITTEN = re.compile(
    r"(?<![\w.,])\d{4,}"  # thousands are separated
    r"|(?<![\w.,])1 (connection|CPU|greenlet|process|request|slot|thread|worker)e?s\b|\b1 worker share\b"
)


def explained(
    name: str, facts: HostFacts = HOST, workload: Workload = ORDINARY, overrides: Mapping[str, Value] | None = None
) -> Explanation:
    return explain(plan_all([facts], workload, overrides or {})["web1"], [name])[0]


def test_the_workers_of_two_cpus_step_by_step() -> None:
    found = explained("gunicorn.workers")
    assert found.working.steps == (
        "C = g + n = 20 ms + 0.3 ms = 20.3 ms",
        "a = W / C = 30 ms / 20.3 ms = 1.48",
        # B1 = 1.4778 / 2.4778 = 0.5964, B2 = 0.8814 / 2.8814 = 0.3059, B3 = 0.4521 / 3.4521 = 0.1310,
        # B4 = 0.1935 / 4.1935 = 0.0461; 4 - 0.9539 x 2.4778 = 1.64 in line cost 0.25 %
        "U(4) = 1 - B(4, 1.48) = 0.95: 3 processes can use 3 x 0.95 = 2.85 CPUs",
        "12 requests in service keep 1.9998 of 2 CPUs busy",
        "X = 1.9998 / 20.3 ms = 98.51 of c / C = 98.52 requests a second",
        "2 slots of 281 MB take 562 MB of 3,510 MB",
        "2 x 4 instead: 93.7 requests a second (-4.8) in 199 MB (-82 MB); below 99.5 % of c / C",
        "4 x 4 instead: 98.5 requests a second (+0) in 363 MB (+82 MB)",
    )
    assert found.changes == ("4 with 3 CPUs instead of 2 CPUs (cpus)",)


def test_the_cpu_of_a_request_is_the_busy_figure_and_nginxs() -> None:
    measured = frozenset({"cpu_seconds", "wait_seconds", "busy_cpu_seconds"})
    work = Workload(busy_cpu_seconds=0.0157, stated=measured, measured=measured)
    for name in ("gunicorn.workers", "gunicorn.threads"):
        found = explained(name, workload=work).working
        assert found.inputs[:3] == (
            ("g", "CPU time of one request while many are under way (busy_cpu_seconds)", "15.7 ms", "measured", ""),
            ("n", "CPU time of one request outside Gunicorn (proxy_cpu_seconds)", "0.3 ms", "assumed", ""),
            ("W", "what one request waits for others (wait_seconds)", "30 ms", "measured", ""),
        )
        assert found.steps[:2] == ("C = g + n = 15.7 ms + 0.3 ms = 16 ms", "a = W / C = 30 ms / 16 ms = 1.88")
    given_input = explained("gunicorn.workers").working.inputs[0]
    assert given_input == ("g", "CPU time of one request (cpu_seconds)", "20 ms", "stated in the workload", "")
    constants = {i.constant: i.value for i in explained("gunicorn.threads").working.inputs if i.constant}
    assert (constants["KNEE"], constants["GIL_CEILING"], constants["GIL_THREAD_OVERHEAD"]) == (
        "0.995",
        "0.985",
        "0.0015",
    )


def test_threads_in_line_for_the_gil_are_in_the_step() -> None:
    # 32 threads at a = 1: Erlang B 1 - 0 = 1, the ceiling 0.985 and 30.03 in line leave 0.94254
    work = Workload(cpu_seconds=0.008, wait_seconds=0.008, proxy_cpu_seconds=0, stated=STATED)
    found = explained("gunicorn.threads", workload=work, overrides={"gunicorn.threads": 32, "gunicorn.workers": 2})
    assert (
        "U(32) = 1 - B(32, 1) = 1, under the GIL 0.94: 2 processes can use 2 x 0.94 = 1.89 CPUs" in found.working.steps
    )


def test_inputs_say_what_they_are_and_where_they_come_from() -> None:
    inputs = {given.symbol: given for given in explained("gunicorn.backlog").working.inputs}
    assert inputs["X"] == ("X", "capacity of 3 x 4", "98.51 requests/s", "calculated; see gunicorn.workers", "")
    assert inputs["q"] == ("q", "longest wait for a free thread (queue_budget_seconds)", "10 s", "assumed", "")
    assert inputs["B <="] == ("B <=", "policy.MAX_BACKLOG", "65,535", "policy", "MAX_BACKLOG")
    (cpus,) = explained("nginx.worker_processes").working.inputs
    assert cpus == ("c", "usable CPUs (cpus)", "2 CPUs", "fact of the host", "")
    (cpus,) = explained("nginx.worker_processes", replace(HOST, cpus=4.0, stated=frozenset({"cpus"}))).working.inputs
    assert cpus == ("c", "usable CPUs (cpus)", "4 CPUs", "stated by the operator", "")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        (
            "gunicorn.backlog",
            ("X x q = 98.51 x 10 s = 985.1", "while a worker boots 98.5 x 3 s = 296 requests arrive, held"),
        ),
        (
            "systemd.MemoryMax",
            (
                "f S = 2 x 281 MB = 562 MB",
                "M / o = 3,510 MB / 2 = 1,755 MB",
                "the smaller: 562 MB = 589,299,712 bytes",
            ),
        ),
        (
            "systemd.TasksMax",
            ("1 master + 3 x (1 + 4) = 16", "2 x (1 + 3) x 2 = 16", "2 x 16 + 16 + 64 = 112, rounded up: 112"),
        ),
        ("gunicorn.limit_request_line", ("8,192 - 2 = 8,190 bytes",)),
        ("gunicorn.limit_request_field_size", ("8,192 + 1 = 8,193 bytes",)),
        ("gunicorn.limit_request_fields", ("128 fields",)),
        ("nginx.proxy_buffer_size", ("16,384 bytes",)),
        ("farrier.retry_after", ("max(1, 10) s",)),
        (
            "nginx.worker_connections",
            (
                "idle clients: 98.51 x 65 s = 6,404",
                "2 x (12 + 985) + 6,404 = 8,398",
                "1.5 x 8,398 / 2 = 6,298.5, so 6,400",
            ),
        ),
        ("nginx.proxy_read_timeout", ("10 s + 30 s + 2 s = 42 s, at most 60 s",)),
        (
            "gunicorn.max_requests",
            (
                "X / P = 98.51 / 3 = 32.84 requests a second of one worker",
                "32.84 x 3 s / 0.01 = 9,851, rounded up: 10,000",
            ),
        ),
    ],
)
def test_steps_worked_out_by_hand(name: str, steps: tuple[str, ...]) -> None:
    assert explained(name).working.steps == steps


def test_what_would_change_a_setting_is_found_by_planning_again() -> None:
    assert explained("nginx.client_max_body_size").changes == ("20 MB with 20 MB instead of 10 MB (upload_limit_mb)",)
    assert explained("gunicorn.keepalive").changes == ()
    assert "52 s with 20 s instead of 10 s (queue_budget_seconds)" in explained("nginx.proxy_read_timeout").changes
    assert "512 with 1,024 instead of 524,288 (nofile_hard)" in explained("nginx.worker_connections").changes
    # 984 MB - 99 - 32 = 853 MB hold two slots of 281 MB; 3,936 / 8 would not, but is not tried
    assert not any("(memory_mb)" in line for line in explained("gunicorn.workers").changes)


def test_an_operators_switch_is_explained_beside_what_fits() -> None:
    found = explained("farrier.switch", overrides={"farrier.switch": "stop-start"})
    assert (found.setting.value, found.setting.own) == ("stop-start", "overlap")
    assert found.setting.reason == (
        "Set by the operator; Farrier would choose overlap: Two slots of 281 MB fit into the 3,510 MB left for Gunicorn, "
        "so the new release starts beside the old one."
    )


def test_two_names_of_one_queue_are_derived_from_each_other() -> None:
    found = explained("gunicorn.backlog", overrides={"systemd.Backlog": 300})
    assert (found.setting.value, found.setting.own) == (300, 300)
    assert found.working.steps == ("300, the same queue",)


def test_an_operators_value_is_explained_beside_farriers_own() -> None:
    found = explained("gunicorn.backlog", overrides={"gunicorn.backlog": 300})
    assert (found.setting.value, found.setting.own, found.changes) == (300, 985, ())


@given(
    st.floats(0.1, 64),
    st.integers(150, 100_000),
    st.floats(0.0005, 2),
    st.floats(0, 5),
    st.booleans(),
    st.sampled_from([None, 128, 100_000]),
    st.sampled_from([None, 600, 524_288]),
    st.sampled_from([None, "sync", "gthread", "gevent"]),
    st.sampled_from([STATED, frozenset({"cpu_seconds", "wait_seconds"})]),
)
def test_every_setting_of_every_plan_can_be_explained(
    cpus: float,
    memory_mb: int,
    cpu: float,
    wait: float,
    preload: bool,
    somaxconn: int | None,
    nofile: int | None,
    kind: str | None,
    stated: frozenset[str],
) -> None:
    work = Workload(cpu_seconds=cpu, wait_seconds=wait, preload_safe=preload, stated=stated)
    facts = HostFacts(host="web1", cpus=cpus, memory_mb=memory_mb, somaxconn=somaxconn, nofile_hard=nofile)
    try:
        plan = plan_all([facts], work, {"gunicorn.worker_class": kind} if kind else {})["web1"]
    except DoesNotFitError:
        return
    for said in (*(setting.reason for setting in plan.settings.values()), *plan.warnings, plan.bound):
        assert not ILL_WRITTEN.search(said)
    for found in explain(plan, BY_NAME):
        assert not any(ILL_WRITTEN.search(step) for step in found.working.steps)
        assert found.working.inputs, found.setting
        assert found.working.steps, found.setting
        assert found.setting.provenance is Provenance.OVERRIDE or found.setting.own == found.setting.value


def test_every_constant_that_is_named_has_its_why() -> None:
    for found in explain(plan_all([HOST], ORDINARY, {})["web1"], BY_NAME):
        for given_input in found.working.inputs:
            assert not given_input.constant or len(whys()[given_input.constant]) > 30


def test_every_constant_of_the_policy_has_its_why() -> None:
    assert set(whys()) == {name for name in vars(policy) if name.isupper()}
    assert whys()["TASKS_BASE"] == "Tasks beyond that, for subprocesses and libraries' helper threads."


def test_the_connections_of_the_database_are_a_step() -> None:
    work = Workload(database_connections=24, stated=STATED | {"database_connections"})
    plan = plan_all([HOST], work, {}, 2)["web1"]
    workers, threads, switch = explain(plan, ["gunicorn.workers", "gunicorn.threads", "farrier.switch"])
    for found in (workers, threads):
        assert "2 hosts x 2 slots x 3 workers x 2 threads = 24 of 24 database connections" in found.working.steps
        inputs = {given.symbol: given for given in found.working.inputs}
        meaning = "connections that the database grants to all hosts (database_connections)"
        assert inputs["D"] == ("D", meaning, "24", "stated in the workload", "")
        assert inputs["h"] == ("h", "hosts of the environment", "2", "facts", "")
    assert any(step.endswith("the database grants too few connections for it") for step in threads.working.steps)
    assert "4 with 48 instead of 24 (database_connections)" in threads.changes
    assert switch.setting.own == "overlap"
    scarce = Workload(database_connections=2, stated=STATED)
    one = explain(plan_all([HOST], scarce, {}, 2)["web1"], ["farrier.switch"])[0]
    assert one.setting.own == one.setting.value == "stop-start"
    assert one.working.steps == (
        "o S = 231 MB fit into M = 3,510 MB",
        "2 hosts x 2 slots x 1 worker x 1 thread = 4 do not fit into 2 database connections",
    )
    assert not any(given.symbol == "D" for given in explained("gunicorn.workers").working.inputs)


def test_the_longest_cpu_segment_is_an_input_of_threads() -> None:
    work = Workload(longest_cpu_segment_seconds=0.1, stated=STATED | {"longest_cpu_segment_seconds"})
    found = explained("gunicorn.threads", workload=work)
    inputs = {given.symbol: given for given in found.working.inputs}
    assert inputs["l"].value == "100 ms"
    assert (inputs["i"].value, inputs["i"].constant) == ("0.005 s", "GIL_SWITCH_SECONDS")
    assert (inputs["j"].value, inputs["j"].constant) == ("5", "CONVOY_HOG_FACTOR")
    assert (inputs["m"].value, inputs["m"].constant) == ("1.5", "CONVOY_MEMORY_FACTOR")
    assert found.setting.own == found.setting.value == 3
    assert "4 with 5 ms instead of 100 ms (longest_cpu_segment_seconds)" in found.changes
    assert "l" not in {given.symbol for given in explained("gunicorn.threads").working.inputs}


def test_what_other_services_compute_on_the_same_host_is_in_the_derivation() -> None:
    work = Workload(
        cpu_seconds=0.016,
        wait_seconds=0.0066,
        other_cpu_seconds=0.0153,
        other_services=("postgresql.service",),
        stated=STATED | {"other_cpu_seconds"},
        measured=frozenset({"other_cpu_seconds"}),
    )
    one = HostFacts(host="web1", cpus=1.0, memory_mb=3936, somaxconn=4096, nofile_hard=524_288)
    found = explained("gunicorn.workers", one, work)
    others = next(each for each in found.working.inputs if each.symbol == "O")
    assert (others.value, others.provenance) == ("15.3 ms", "measured")
    assert found.working.steps[3:6] == (
        "C + O = 16.3 ms + 15.3 ms = 31.6 ms of the host's CPUs, 15.3 ms of it in postgresql.service on the same host",
        "2 requests in service keep 1 of 1 CPU busy",
        "X = min(1.4236 / 16.3 ms, 1 / 31.6 ms) = 31.65 of c / (C + O) = 31.65 requests a second",
    )
    assert found.setting.formula.count("c / (C + O)") == 1
    gevent = explained("gunicorn.workers", one, work, {"gunicorn.worker_class": "gevent"}).working
    assert others in gevent.inputs
    assert found.working.steps[3] in gevent.steps
    assert not any("C + O" in step for step in explained("gunicorn.workers").working.steps)
