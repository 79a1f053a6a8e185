"""What binds a plan, what a wish would take that is not met: each found by planning again."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier.errors import DoesNotFitError
from farrier.facts.model import HostFacts
from farrier.project.workload import Workload
from farrier.settings import Value
from planned import ORDINARY, STATED, host, plan

SMALL = Workload(memory_private_mb=30, memory_shared_mb=30, boot_seconds=1, preload_safe=True, stated=STATED)


@pytest.mark.parametrize(
    ("facts", "workload", "overrides", "bound"),
    [
        (host(), ORDINARY, {}, "CPU: 1 more CPU would carry 49.3 more requests a second"),
        # 2 x 5, at 98 % of their GILs, carry 96.7; 3 x 4 carry 98.5. They take 30 + 3 x 32 = 126 MB, so 252 MB for two slots,
        # + 64 reserve + 32 NGINX = 348.
        (
            host(memory_mb=300),
            SMALL,
            {},
            "memory: 3 workers of 4 threads would fit with 48 MB more, and carry 1.8 more requests a second",
        ),
        # 1 x 2 takes 116 MB, 2 x 3 198 MB: 396 MB for two slots + 64 reserve + 16 NGINX = 476.
        (
            host(cpus=1, memory_mb=312),
            ORDINARY,
            {},
            "memory: 2 workers of 3 threads would fit with 164 MB more, and carry 14.9 more requests a second",
        ),
        # 478 MB hold all that 1 CPU can use. 3 x 4 take 281 MB: 562 MB for two slots + 66 reserve + 32 NGINX = 660.
        (
            host(cpus=1, memory_mb=478),
            ORDINARY,
            {},
            "CPU and memory: 1 more CPU with 182 MB more would carry 49.4 more requests a second",
        ),
        (
            host(),
            ORDINARY,
            {"gunicorn.workers": 1, "gunicorn.threads": 1},
            "override: without the operator's gunicorn.workers 1 and gunicorn.threads 1 Farrier's own choice would carry "
            "78.6 more requests a second",
        ),
    ],
)
def test_what_binds_is_found_by_planning_with_more(
    facts: HostFacts, workload: Workload, overrides: dict[str, Value], bound: str
) -> None:
    assert plan(facts, workload, overrides).bound == bound


def test_where_nothing_would_help_the_bound_is_farriers_own() -> None:
    endless = Workload(cpu_seconds=0.0005, wait_seconds=600, memory_private_mb=1, stated=STATED)
    assert plan(host(memory_mb=500_000), endless).bound == (
        "Farrier's own ceiling: neither a CPU nor memory more would carry more; a slot gets at most 1,024 workers of 64 "
        "threads"
    )


def asked(peak: float | None = None, p95: float | None = None) -> Workload:
    return Workload(peak_rps=peak, latency_p95_seconds=p95, stated=STATED)


@pytest.mark.parametrize(
    ("facts", "workload", "overrides", "said"),
    [
        (
            host(),
            asked(peak=150),
            {},
            "the peak of 150 requests a second is more than this host carries (98.5): 4 CPUs would, or 2 hosts of this "
            "size",
        ),
        (
            host(),
            asked(peak=90, p95=0.1),
            {},
            "the latency objective is missed at the peak: p95 385.8 ms predicted, 100 ms asked for: 3 CPUs would, or 2 "
            "hosts of this size",
        ),
        (
            host(),
            asked(peak=90, p95=0.04),
            {},
            "no number of CPUs meets the latency objective of 40 ms: a request alone takes 50.3 ms, 20.3 ms of CPU and 30 "
            "ms of waiting",
        ),
        (
            host(cpus=2, memory_mb=400),
            asked(peak=90),
            {},
            "the peak of 90 requests a second is more than this host carries (48.3): 494 MB of memory instead of 400 MB "
            "would, or 2 hosts of this size",
        ),
        (
            host(),
            asked(peak=90),
            {"gunicorn.workers": 1},
            "the peak of 90 requests a second is more than this host carries (48.3): no number of CPUs would with the "
            "operator's gunicorn.workers 1; without, 2 CPUs would, or 2 hosts of this size",
        ),
        (
            host(),
            asked(peak=5000),
            {},
            "the peak of 5,000 requests a second is more than this host carries (98.5): no number of CPUs up to 64 would, "
            "or 51 hosts of this size",
        ),
    ],
)
def test_a_wish_that_is_not_met_is_said_with_what_would_meet_it(
    facts: HostFacts, workload: Workload, overrides: dict[str, Value], said: str
) -> None:
    assert said in plan(facts, workload, overrides).warnings


@given(st.floats(0.5, 8), st.integers(200, 1_500), st.floats(0.001, 0.1), st.floats(0, 0.5))
def test_the_memory_that_is_named_is_the_least_that_brings_what_is_named(
    cpus: float, memory_mb: int, cpu: float, wait: float
) -> None:
    work = Workload(cpu_seconds=cpu, wait_seconds=wait, stated=STATED)
    try:
        found = plan(host(cpus, memory_mb), work)
    except DoesNotFitError:
        return
    named = re.search(r"^memory: .* with ([\d,]+) MB more, and carry ([\d,.]+) more", found.bound)
    if named is None:
        assert found.bound.startswith(("CPU", "Farrier's own ceiling"))
        return
    more, gain = (float(text.replace(",", "")) for text in named.groups())
    reached = plan(host(cpus, memory_mb + int(more)), work).capacity_rps
    assert reached - found.capacity_rps == pytest.approx(gain, abs=0.051)
    assert plan(host(cpus, memory_mb + int(more) - 1), work).capacity_rps < reached


@given(st.integers(1, 4), st.floats(0.002, 0.1), st.floats(0, 0.3), st.floats(1.1, 8), st.floats(1.2, 5))
def test_the_cpus_that_are_named_are_the_fewest_that_do(
    cpus: int, cpu: float, wait: float, times: float, patience: float
) -> None:
    """With memory enough: what is said to meet the wish does, and one CPU less does not."""
    facts = host(float(cpus), 900_000)
    work = Workload(cpu_seconds=cpu, wait_seconds=wait, stated=STATED)
    peak = times * plan(facts, work).capacity_rps
    work = replace(work, peak_rps=peak, latency_p95_seconds=patience * work.service_seconds)
    (warning,) = (text for text in plan(facts, work).warnings if text.startswith("the peak"))
    named = re.search(r": (\d+) CPUs would", warning)
    assert named, warning

    def met(number: int) -> bool:
        return not any("would" in text for text in plan(host(float(number), 900_000), work).warnings)

    assert met(int(named[1]))
    assert not met(int(named[1]) - 1)


def test_a_wish_that_is_met_is_not_mentioned() -> None:
    found = plan(workload=asked(peak=50, p95=0.1))
    assert found.warnings == ()
    # 2 CPUs at rho = 50 x 20.3 ms / 2 = 0.5075, Erlang C 0.3417: 50.3 ms + ln(0.3417 / 0.05) / (98.52 - 50).
    assert found.p95_seconds == pytest.approx(0.0899, abs=0.0001)
