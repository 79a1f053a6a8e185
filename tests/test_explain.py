"""Derivations: every setting has one, it ends in the plan's own value, and its lines are the ones worked out by hand."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.explaining.explanations import DERIVATIONS, Explanation, explain
from farrier.facts import HostFacts
from farrier.planner import drafted
from farrier.policy_whys import whys
from farrier.settings import BY_NAME, SPECS, Value
from farrier.workload import Workload

STATED = frozenset({"cpu_seconds", "wait_seconds"})
ORDINARY = Workload(stated=STATED)
HOST = HostFacts(host="web1", cpus=2.0, memory_mb=3936, somaxconn=4096, nofile_hard=524_288)


def explained(
    name: str, facts: HostFacts = HOST, workload: Workload = ORDINARY, overrides: Mapping[str, Value] | None = None
) -> Explanation:
    return explain(drafted(facts, workload, overrides or {}), [name])[0]


def test_every_setting_has_a_derivation() -> None:
    assert list(DERIVATIONS) == [spec.name for spec in SPECS]


@given(
    st.floats(0.1, 64),
    st.integers(150, 100_000),
    st.floats(0.0005, 2),
    st.floats(0, 5),
    st.integers(1, 50),
    st.booleans(),
    st.sampled_from([None, 128, 4096, 100_000]),
    st.sampled_from([None, 600, 524_288]),
)
def test_a_derivation_ends_in_the_plans_value(
    cpus: float,
    memory_mb: int,
    cpu: float,
    wait: float,
    limit: int,
    preload: bool,
    somaxconn: int | None,
    nofile: int | None,
) -> None:
    work = Workload(
        cpu_seconds=cpu, wait_seconds=wait, request_limit_seconds=limit, preload_safe=preload, stated=STATED
    )
    facts = HostFacts(host="web1", cpus=cpus, memory_mb=memory_mb, somaxconn=somaxconn, nofile_hard=nofile)
    try:
        draft = drafted(facts, work, {})
    except DoesNotFitError:
        return
    for found in explain(draft, BY_NAME):
        assert found.derivation.value == found.setting.value, found.setting
        assert found.derivation.inputs
        assert found.derivation.steps


def test_the_workers_of_two_cpus_step_by_step() -> None:
    found = explained("gunicorn.workers")
    assert found.derivation.steps == (
        "a = W / C = 30 ms / 20 ms = 1.5",
        # B1 = 1.5 / 2.5 = 0.6, B2 = 0.9 / 2.9 = 0.310, B3 = 0.466 / 3.466 = 0.134
        "U(3) = 1 - B(3, 1.5) = 0.87, under the GIL 0.85: 3 processes can use 3 x 0.85 = 2.55 CPUs",
        "9 requests in service keep 1.99 of 2 CPUs busy",
        "X = 1.989 / 20 ms = 99.46 of c / C = 100 requests a second",
        "2 slots of 279.5 MB take 559 MB of 3,510 MB",
        "2 x 3 instead: 85 requests a second (-14.5) in 198 MB (-81.5 MB); below 97 % of c / C",
        "4 x 3 instead: 100 requests a second (+0.5) in 361 MB (+81.5 MB)",
    )
    assert found.changes == ("4 with 3 CPUs instead of 2 CPUs (cpus)",)


def test_inputs_say_what_they_are_and_where_they_come_from() -> None:
    inputs = {given.symbol: given for given in explained("gunicorn.backlog").derivation.inputs}
    assert inputs["X"] == ("X", "capacity of 3 x 3", "99.46 requests/s", "calculated; see gunicorn.workers", "")
    assert inputs["q"] == ("q", "longest wait for a free thread (queue_budget_seconds)", "10 s", "assumed", "")
    assert inputs["B <="] == ("B <=", "policy.MAX_BACKLOG", "65,535", "policy", "MAX_BACKLOG")
    (cpus,) = explained("nginx.worker_processes").derivation.inputs
    assert cpus == ("c", "usable CPUs (cpus)", "2 CPUs", "fact of the host", "")
    (cpus,) = explained("nginx.worker_processes", HOST.with_overrides({"cpus": 4.0})).derivation.inputs
    assert cpus == ("c", "usable CPUs (cpus)", "4 CPUs", "stated by the operator", "")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        (
            "gunicorn.backlog",
            ("X x q = 99.46 x 10 s = 994.6", "while a worker boots 99.5 x 3 s = 299 requests arrive"),
        ),
        (
            "systemd.MemoryMax",
            (
                "f S = 2 x 279.5 MB = 559 MB",
                "M / o = 3,510 MB / 2 = 1,755 MB",
                "the smaller: 559 MB = 586,153,984 bytes",
            ),
        ),
        ("systemd.TasksMax", ("1 master + 3 x (1 + 3) = 13", "2 x 13 + 64 = 90, rounded up: 96")),
        (
            "nginx.worker_connections",
            (
                "idle clients: 99.46 x 65 s = 6,465",
                "2 x (9 + 994) + 6,465 = 8,471",
                "1.5 x 8,471 / 2 = 6,353.25, so 6,400",
            ),
        ),
        ("nginx.proxy_read_timeout", ("10 s + 30 s + 2 s = 42 s, at most 60 s",)),
        (
            "gunicorn.max_requests",
            (
                "X / P = 99.46 / 3 = 33.15 requests a second of one worker",
                "33.15 x 3 s / 0.01 = 9,946, rounded up: 10,000",
            ),
        ),
    ],
)
def test_steps_worked_out_by_hand(name: str, steps: tuple[str, ...]) -> None:
    assert explained(name).derivation.steps == steps


def test_what_would_change_a_setting_is_found_by_planning_again() -> None:
    assert explained("nginx.client_max_body_size").changes == ("20 MB with 20 MB instead of 10 MB (upload_limit_mb)",)
    assert explained("gunicorn.keepalive").changes == ()
    assert "52 s with 20 s instead of 10 s (queue_budget_seconds)" in explained("nginx.proxy_read_timeout").changes
    assert "512 with 1,024 instead of 524,288 (nofile_hard)" in explained("nginx.worker_connections").changes
    # 984 MB - 99 - 32 = 853 MB hold two slots of 279.5 MB; 3,936 / 8 would not, but is not tried
    assert not any("(memory_mb)" in line for line in explained("gunicorn.workers").changes)


def test_an_operators_value_is_explained_beside_farriers_own() -> None:
    found = explained("gunicorn.backlog", overrides={"gunicorn.backlog": 300})
    assert (found.setting.value, found.derivation.value, found.changes) == (300, 994, ())


def test_every_constant_that_is_named_has_its_why() -> None:
    for found in explain(drafted(HOST, ORDINARY, {}), BY_NAME):
        for given_input in found.derivation.inputs:
            assert not given_input.constant or len(whys()[given_input.constant]) > 30


def test_every_constant_of_the_policy_has_its_why() -> None:
    assert set(whys()) == {name for name in vars(policy) if name.isupper()}
    assert whys()["TASKS_BASE"] == "Tasks beyond that, for subprocesses and libraries' helper threads."
