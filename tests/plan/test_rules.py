"""Other people's rules beside Farrier's: their numbers on hosts worked out by hand, and what each would carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier.facts.model import HostFacts
from farrier.plan.comparison import compare
from farrier.plan.planner import drafted
from farrier.project.workload import Workload
from farrier.sizing.rules import RULES

STATED = frozenset({"cpu_seconds", "wait_seconds", "memory_private_mb", "memory_shared_mb"})


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "chosen"),
    [
        # R = 3936, M = 80: 0.75 x 3936 / 80 = 36.9; 3936 / 256 = 15.4; (3936 - 43) / 40 = 97.3
        (2.0, 3936, [(1, 1), (5, 1), (36, 1), (5, 1), (4, 1), (3, 1), (2, 4), (2, 1)]),
        (8.0, 3936, [(1, 1), (17, 1), (36, 1), (15, 1), (12, 1), (9, 1), (8, 4), (8, 1)]),
        # R = 200: 1.9 workers; 0.8, at least 1; 3.9
        (1.0, 200, [(1, 1), (3, 1), (1, 1), (1, 1), (2, 1), (2, 1), (2, 4), (2, 1)]),
        # half a CPU counts as one
        (0.5, 3936, [(1, 1), (3, 1), (36, 1), (3, 1), (2, 1), (2, 1), (2, 4), (2, 1)]),
    ],
)
def test_the_rules_numbers(cpus: float, memory_mb: int, chosen: list[tuple[int, int]]) -> None:
    assert [rule.choose(cpus, memory_mb, 80) for rule in RULES] == chosen


def test_each_rule_has_its_formula_and_its_source() -> None:
    assert [(rule.name, rule.formula) for rule in RULES] == [
        ("Gunicorn's defaults", "1"),
        ("Gunicorn", "2n + 1"),
        ("Passenger", "0.75 R / M"),
        ("Heroku", "min(2n + 1, R / 256)"),
        ("sclorg", "min(2n, (R - 43) / 40, 12)"),
        ("debops", "n + 1"),
        ("GitLab", "max(2, n), 4 threads"),
        ("tiangolo", "max(n, 2)"),
    ]
    assert all(len(rule.source) > 15 for rule in RULES)


def test_the_rules_beside_farriers_choice_for_requests_that_wait() -> None:
    """2.3 ms CPU and 50 ms wait on 1 CPU: `2n + 1` = 3 sync workers carry 57.1 of 435 requests a second."""
    work = Workload(cpu_seconds=0.002, wait_seconds=0.05, peak_rps=50, stated=STATED | {"peak_rps"})
    found = compare(drafted(HostFacts(host="web1", cpus=1, memory_mb=2000), work, {}))
    own, *rules = found.rows
    assert (own.name, found.at_rps, found.is_peak) == ("Farrier", 50, True)
    assert own.service.capacity_rps > 420
    gunicorn = rules[1].as_document()
    assert gunicorn == {
        "name": "Gunicorn",
        "formula": "2n + 1",
        "workers": 3,
        "threads": 1,
        "capacity_rps": 57.1,  # 3 x 19.12, less the little that they meet at the CPU
        "memory_mb": 276,  # 35 + 3 x 80.5
        "fits": True,
        "p95_seconds": 0.436,  # rho 0.875, Erlang C 0.7736: 52.3 ms + ln(0.7736 / 0.05) / 7.131
    }
    defaults = rules[0]
    # One worker carries 1 / 52.3 ms = 19.1 requests a second: it cannot carry the peak.
    assert defaults.service.capacity_rps == pytest.approx(19.12, abs=0.01)
    assert defaults.p95_seconds is None
    passenger = rules[2].as_document()
    # 0.75 x 2000 / 80 = 18 workers: 35 + 18 x 80.5 = 1,484 MB, but (2000 - 200 - 16) / 2 = 892 MB are left for a slot
    assert (passenger["workers"], passenger["memory_mb"], passenger["fits"]) == (18, 1484, False)
    assert found.budget_mb == 892


def test_a_rule_that_needs_more_connections_than_granted_does_not_fit() -> None:
    work = Workload(database_connections=8, stated=STATED)
    rows = compare(drafted(HostFacts(host="web1", cpus=2, memory_mb=3936), work, {})).rows
    # 4 for each of two slots: Gunicorn's 2n + 1 = 5 are too many, debops' n + 1 = 3 are not.
    assert {row.name: row.fits for row in rows if row.name in ("Farrier", "Gunicorn", "debops")} == {
        "Farrier": True,
        "Gunicorn": False,
        "debops": True,
    }


def test_without_a_peak_latency_is_compared_at_70_percent_of_capacity() -> None:
    found = compare(drafted(HostFacts(host="web1", cpus=2, memory_mb=3936), Workload(stated=STATED), {}))
    assert found.at_rps == pytest.approx(0.7 * 98.51, abs=0.01)
    assert not found.is_peak


@given(st.floats(0.1, 64), st.integers(2_000, 100_000), st.floats(0.0005, 1), st.floats(0, 2))
def test_no_rule_that_fits_carries_noticeably_more(cpus: float, memory_mb: int, cpu: float, wait: float) -> None:
    """Farrier stops at 99.5 % of what the CPUs can do, and tries workers in steps of 3 %: that much a rule may be ahead."""
    work = Workload(cpu_seconds=cpu, wait_seconds=wait, stated=STATED)
    own, *rules = compare(drafted(HostFacts(host="web1", cpus=cpus, memory_mb=memory_mb), work, {})).rows
    for row in rules:
        if row.fits:
            assert row.service.capacity_rps <= own.service.capacity_rps / 0.96, row.name
