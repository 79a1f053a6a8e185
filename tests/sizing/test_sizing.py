"""The formulas, against numbers worked out by hand and laws that always hold."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farrier.sizing import timeouts
from farrier.sizing.capacity import (
    busy_cpus,
    capacity_rps,
    concurrency_for,
    erlang_b,
    erlang_c,
    process_utilisation,
)
from farrier.sizing.concurrency import Choice, Demand, choose
from farrier.sizing.connections import Connections
from farrier.sizing.latency import Service, wait_p95_seconds
from farrier.sizing.memory import Cost, budget, largest_threads, largest_workers

# An application that computes 20 ms and waits 30 ms in each request: a = W/C = 1.5.
ORDINARY = Cost(private_mb=45, shared_mb=35, preload=False)


def test_erlang_b_of_textbook_values() -> None:
    # a = 1: B1 = 1/2, B2 = (1/2)/(2 + 1/2) = 1/5, B3 = (1/5)/(3 + 1/5) = 1/16
    assert erlang_b(1, 1.0) == pytest.approx(1 / 2)
    assert erlang_b(2, 1.0) == pytest.approx(1 / 5)
    assert erlang_b(3, 1.0) == pytest.approx(1 / 16)


def test_erlang_c_of_one_server_is_its_utilisation() -> None:
    assert erlang_c(1, 0.8) == pytest.approx(0.8)
    assert erlang_c(1, 1.2) == 1.0


def test_erlang_c_of_two_servers() -> None:
    # a = 1, c = 2: B = 1/5, C = B / (1 - rho (1 - B)) = 0.2 / (1 - 0.5 x 0.8) = 1/3
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


def test_utilisation_of_a_process_with_threads() -> None:
    assert process_utilisation(1, 1.5) == pytest.approx(1 / 2.5)
    # B2(1.5) = 0.9 / 2.9 = 0.31034; of 2 threads 0.68966 x 2.5 = 1.7241 compute or wait, so 0.2759 stand in line.
    assert process_utilisation(2, 1.5) == pytest.approx(0.68966 / (1 + 0.0015 * 0.2759), abs=1e-5)
    # Erlang B alone is beyond the ceiling of 0.985 here: 0.985 x 2.5 = 2.4625 threads have the GIL or wait, 5.5375 are in line.
    assert process_utilisation(8, 1.5) == pytest.approx(0.985 / 1.00830625)


def test_more_threads_than_are_of_use_carry_less() -> None:
    # C 8 ms, W 8 ms: 32 threads, 0.985 x 2 = 1.97 of them at work: 0.985 / (1 + 0.0015 x 30.03)
    assert process_utilisation(32, 1.0) == pytest.approx(0.94254, abs=1e-5)
    assert process_utilisation(8, 1.0) > process_utilisation(16, 1.0) > process_utilisation(32, 1.0)


def test_busy_cpus_of_two_slots_on_one_cpu() -> None:
    # W/C = 1, N = 2, c = 1: weights 1, 2, 2 -> busy = 4/5
    assert busy_cpus(2, 1.0, 1.0) == pytest.approx(0.8)


def test_two_n_plus_one_on_four_cpus_reaches_22_percent_at_10_to_90_ms() -> None:
    share = busy_cpus(9, 9.0, 4.0) / 4
    assert share == pytest.approx(0.22, abs=0.01)


def test_requests_that_never_wait_need_a_process_per_cpu() -> None:
    assert busy_cpus(3, 0.0, 2.0) == 2.0
    assert choose(Demand(0.02, 0.0, 2.0), ORDINARY, 4000, 2) == Choice(2, 1, "cpu")


def test_the_choice_on_one_cpu_is_the_one_that_won_in_the_laboratory() -> None:
    # C 2 ms, W 50 ms on one CPU: 2 workers x 20 threads carried 312-356 requests a second, 26 sync workers 251-270 and
    # 3 sync workers 50. The chain of busy_cpus reaches 99.20 % with 2 x 18 and 99.65 % with 2 x 19.
    assert choose(Demand(0.002, 25, 1.0), ORDINARY, 4000, 2) == Choice(2, 19, "cpu")
    # C 8 ms, W 25 ms: 2 x 4 carried 99-109, as many as any other; it reaches 99.00 %, 2 x 5 99.89 %.
    assert choose(Demand(0.008, 25 / 8, 1.0), ORDINARY, 4000, 2) == Choice(2, 5, "cpu")


def test_what_other_services_compute_on_the_same_cpu_halves_what_it_carries() -> None:
    # C 16.3 ms and W 6.6 ms, all of it and more PostgreSQL's 15.3 ms on the one CPU: 1 / 31.6 ms, where 29 were carried.
    demand = Demand(0.0163, 6.6 / 16.3, 1.0, other_cpu_seconds=0.0153)
    assert choose(demand, ORDINARY, 4000, 2) == Choice(2, 1, "cpu")
    assert demand.capacity(2, 1) == pytest.approx(31.65, abs=0.01)
    service = Service(2, 1, 0.0163, 0.0066, 1.0, other_cpu_seconds=0.0153)
    assert service.capacity_rps == pytest.approx(31.65, abs=0.01)
    assert service.service_seconds == pytest.approx(0.0229)
    # Erlang C for one server at rho = 0.8: ln(0.8 / 0.05) / (31.65 - 25.32).
    assert service.cpu_wait_seconds(0.8 / 0.0316) == pytest.approx(0.4381, abs=1e-4)


def test_threads_hide_only_the_part_of_a_wait_in_which_nothing_computes_here() -> None:
    # C 10 ms, W 40 ms of which 10 are computed on the same CPU: a = 30 / 20 = 1.5, and 1 - B(6, 1.5) = 0.99647 of 1 / 20 ms.
    demand = Demand(0.01, 4.0, 1.0, other_cpu_seconds=0.01)
    assert demand.host_wait_ratio == pytest.approx(1.5)
    assert choose(demand, ORDINARY, 4000, 2) == Choice(2, 3, "cpu")
    assert demand.capacity(2, 3) == pytest.approx(49.82, abs=0.01)
    # One worker of one thread: 1 / (10 + 40 ms), wherever the 40 are spent.
    assert demand.capacity(1, 1) == pytest.approx(20)
    # On 4 CPUs one worker is the limit by its GIL: 1 - B(8, 4) = 0.96958 of 1 / 10 ms.
    wide = Demand(0.01, 4.0, 4.0, workers=1, per_worker=8, other_cpu_seconds=0.01)
    assert wide.capacity(1, 8) == pytest.approx(96.958, abs=0.5)


def test_fewer_threads_for_half_as_much_memory_again() -> None:
    # 2 x 19 take 35 + 2 x 89.5 = 214 MB and 3 x 13 take 294.5, below 1.5 x 214 = 321; 4 workers alone would take 355.
    demand, cheapest = Demand(0.002, 25, 1.0, few_threads=True), Choice(2, 19, "cpu")
    assert choose(demand, ORDINARY, 4000, 2) == Choice(3, 13, "cpu", instead_of=cheapest)
    # Two slots of twice 294.5 MB need 1,178 MB.
    assert choose(demand, ORDINARY, 1178, 2) == Choice(3, 13, "cpu", instead_of=cheapest)
    assert choose(demand, ORDINARY, 1177, 2) == cheapest


def test_connections_bound_the_choice() -> None:
    # The same as for a host of 2 CPUs in test_plan: 6 requests in service as 3 x 2, 1 as 1 x 1, none not at all.
    demand = Demand(0.02, 1.5, 2.0)
    assert choose(demand, ORDINARY, 4000, 2, connections=6) == Choice(3, 2, "database")
    assert choose(demand, ORDINARY, 4000, 2, connections=1) == Choice(1, 1, "database")
    assert choose(demand, ORDINARY, 4000, 2, connections=0) is None
    assert Connections(granted=24, hosts=2).each(copies=2) == 6
    assert Connections(granted=23, hosts=2).each(copies=2) == 5
    assert Connections(granted=24, hosts=2).need(copies=2, concurrency=6) == 24


def test_memory_bounds_the_choice() -> None:
    # One worker takes 35 + 45 + 4 x 0.5 = 82 MB and the master 35: 117 MB a slot.
    assert choose(Demand(0.02, 1.5, 2.0), ORDINARY, 234, 2) == Choice(1, 4, "memory")
    # 116 MB hold 2 threads: 35 + 80 + 2 x 0.5; 115 MB hold none, as one takes 115.5 MB.
    assert choose(Demand(0.02, 1.5, 2.0), ORDINARY, 233, 2) == Choice(1, 2, "memory")
    assert choose(Demand(0.02, 1.5, 2.0), ORDINARY, 231, 2) is None


def test_an_operators_workers_are_kept_and_threads_follow() -> None:
    chosen = choose(Demand(0.02, 1.5, 2.0, workers=1), ORDINARY, 4000, 2)
    assert chosen is not None
    assert (chosen.workers, chosen.bound) == (1, "override")


def test_slot_memory_with_and_without_preload() -> None:
    assert Cost(45, 35, preload=True).slot_mb(3, 4) == 35 + 3 * (45 + 2)
    assert Cost(45, 35, preload=False).slot_mb(3, 4) == 35 + 3 * (35 + 45 + 2)
    assert (
        Cost(45, 35, preload=False).breakdown(3, 4) == "35 MB master + 3 x (80 MB worker + 4 x 0.5 MB threads) = 281 MB"
    )


def test_budget_leaves_a_tenth_or_64_mb() -> None:
    assert budget(512, 1).gunicorn_mb == 512 - 64 - 16
    assert budget(4096, 2).gunicorn_mb == 4096 - 410 - 32


def test_what_fits_into_memory() -> None:
    assert largest_workers(200, ORDINARY, 1) == 2  # (200 - 35) / 80.5
    assert largest_threads(200, ORDINARY, 2) == 5  # (200 - 195) / (2 x 0.5)
    assert largest_workers(30, ORDINARY, 1) == 0


def test_the_timeout_chain() -> None:
    links = timeouts.chain(request_limit=30, queue_budget=10, client_timeout=60)
    assert links is not None
    assert (links.proxy_read, links.graceful) == (42, 32)
    shorter = timeouts.chain(request_limit=55, queue_budget=10, client_timeout=60)
    assert shorter is not None
    assert (shorter.queue_budget, shorter.proxy_read) == (3, 60)
    assert timeouts.chain(request_limit=59, queue_budget=10, client_timeout=60) is None


def test_gunicorns_timeout_outlasts_a_boot() -> None:
    assert timeouts.timeout(30, 3) == 30
    assert timeouts.timeout(30, 20) == 60
    assert timeouts.timeout(None, 3) == 30


def test_the_wait_for_one_of_two_servers() -> None:
    # s = 2, rho = 1/2: a = 1, Erlang C = 1/3; 95 % wait at most ln((1/3) / 0.05) / (100 - 50) = 1.897 / 50 s.
    assert wait_p95_seconds(2, 50, 100) == pytest.approx(0.03794, abs=1e-5)
    assert wait_p95_seconds(1, 4, 100) == 0, "4 % wait at all"
    assert wait_p95_seconds(1, 100, 100) == math.inf


def test_p95_is_the_service_time_while_hardly_anyone_waits() -> None:
    service = Service(3, 3, 0.02, 0.03, 2.0)
    assert service.p95_seconds(0.1) == pytest.approx(0.05)
    assert service.p95_seconds(100) == math.inf


def test_p95_of_many_slots_is_the_wait_for_a_cpu() -> None:
    # 100 slots, 50 requests a second at 20 ms on 2 CPUs: rho = 1/2 as above, 50 ms + 37.9 ms.
    assert Service(10, 10, 0.02, 0.03, 2.0).p95_seconds(50) == pytest.approx(0.08794, abs=1e-4)


def test_p95_alone_is_that_of_the_lognormal_distribution() -> None:
    # Cs^2 = 1: s^2 = ln 2, exp(1.6449 x 0.83255 - 0.34657) = exp(1.02289) = 2.78123; the wait for a CPU does not depend on it.
    service = Service(10, 10, 0.02, 0.03, 2.0, service_scv=1.0)
    assert service.service_p95_seconds == pytest.approx(0.05 * 2.78123, abs=1e-5)
    assert service.p95_seconds(50) == pytest.approx(0.05 * 2.78123 + 0.03794, abs=1e-4)
    assert service.rate_within(0.13) == 0
    # Allen and Cunneen: (1 + 4) / 2 times Erlang's wait for a thread.
    even, uneven = Service(3, 1, 0.002, 0.05, 1.0), Service(3, 1, 0.002, 0.05, 1.0, service_scv=4.0)
    assert uneven.thread_wait_seconds(50) == pytest.approx(2.5 * even.thread_wait_seconds(50))


def test_p95_of_few_slots_is_the_wait_for_a_free_worker() -> None:
    """2 ms CPU and 50 ms wait on one CPU: 3 sync workers carry 57.5 requests a second, though the CPU could do 500."""
    few = Service(3, 1, 0.002, 0.05, 1.0)
    # W/C = 25: weights 1, 0.12, 0.0096, 0.000384 keep 0.129984 / 1.129984 of the CPU busy
    assert few.capacity_rps == pytest.approx(57.516, abs=0.001)
    # rho = 50 / 57.516 = 0.869, a = 2.608: Erlang B 0.297, Erlang C 0.7635; ln(0.7635 / 0.05) / 7.516 = 0.363 s
    assert few.thread_wait_seconds(50) == pytest.approx(0.363, abs=0.001)
    # rho = 0.1: ln(0.1 / 0.05) / 450
    assert few.cpu_wait_seconds(50) == pytest.approx(0.00154, abs=0.00001)
    assert few.p95_seconds(50) == pytest.approx(0.415, abs=0.001)


def test_one_process_waits_for_one_cpu_however_many_there_are() -> None:
    assert Service(1, 8, 0.02, 0.03, 4.0).cpu_wait_seconds(25) == wait_p95_seconds(1, 25, 50)


def test_the_rate_that_an_objective_allows() -> None:
    service = Service(10, 10, 0.02, 0.03, 2.0)
    assert service.rate_within(0.08794) == pytest.approx(50, abs=0.05)
    assert service.rate_within(0.049) == 0
    assert 0 < service.knee_rps < service.capacity_rps


RATIOS = st.floats(0, 500)
CPUS = st.floats(0.1, 128)


@given(st.integers(1, 200), RATIOS)
def test_a_process_never_exceeds_its_gil(threads: int, ratio: float) -> None:
    assert 0 < process_utilisation(threads, ratio) <= 1


@given(st.integers(1, 300), RATIOS, CPUS)
def test_more_requests_in_service_never_keep_fewer_cpus_busy(concurrency: int, ratio: float, cpus: float) -> None:
    less, more = busy_cpus(concurrency, ratio, cpus), busy_cpus(concurrency + 1, ratio, cpus)
    assert 0 < less <= more + 1e-9 <= cpus + 1e-6


@given(st.floats(0.5, 0.99), st.floats(0, 100), CPUS)
def test_slots_for_is_enough_and_not_one_too_many(share: float, ratio: float, cpus: float) -> None:
    concurrency = concurrency_for(share, ratio, cpus)
    assert busy_cpus(concurrency, ratio, cpus) >= share * cpus * (1 - 1e-9)
    if concurrency > 1:
        assert busy_cpus(concurrency - 1, ratio, cpus) < share * cpus


@given(st.floats(0.0005, 5), RATIOS, st.floats(0.1, 64), st.floats(20, 20_000), st.booleans(), st.integers(1, 2))
def test_a_choice_fits_and_uses_what_it_is_given(
    cpu_seconds: float, ratio: float, cpus: float, available: float, preload: bool, copies: int
) -> None:
    cost = Cost(45, 35, preload)
    chosen = choose(Demand(cpu_seconds, ratio, cpus), cost, available, copies)
    if chosen is None:
        assert cost.slot_mb(1, 1) > available // copies
        return
    assert copies * cost.slot_mb(chosen.workers, chosen.per_worker) <= available * (1 + 1e-9)
    carried = capacity_rps(chosen.workers, chosen.per_worker, cpu_seconds, ratio, cpus)
    assert 0 < carried <= cpus / cpu_seconds * (1 + 1e-6)


SERVICES = st.builds(
    Service, st.integers(1, 64), st.integers(1, 32), st.floats(0.0005, 2), st.floats(0, 5), st.floats(0.1, 64)
)
SHARES = st.floats(0, 0.999)


@given(SERVICES, SHARES, SHARES)
def test_p95_is_never_below_the_service_time_and_never_falls_with_the_rate(
    service: Service, one: float, other: float
) -> None:
    less, more = sorted((one * service.capacity_rps, other * service.capacity_rps))
    assert service.service_seconds <= service.p95_seconds(less) <= service.p95_seconds(more) * (1 + 1e-9) < math.inf
    assert service.p95_seconds(service.capacity_rps) == math.inf


@given(SERVICES, SHARES)
def test_p95_never_rises_with_a_worker_or_a_cpu_more(service: Service, share: float) -> None:
    rate = share * service.capacity_rps
    for more in (replace(service, workers=service.workers + 1), replace(service, cpus=service.cpus + 1)):
        assert more.p95_seconds(rate) <= service.p95_seconds(rate) * (1 + 1e-6)


@given(st.integers(1, 200), SHARES)
def test_more_servers_of_the_same_capacity_never_wait_longer(servers: int, share: float) -> None:
    assert wait_p95_seconds(servers + 1, share * 100, 100) <= wait_p95_seconds(servers, share * 100, 100) * (1 + 1e-9)


@given(SERVICES, st.floats(1, 20))
def test_the_rate_within_an_objective_is_the_highest(service: Service, factor: float) -> None:
    objective = factor * service.service_seconds
    rate = service.rate_within(objective)
    assert service.p95_seconds(rate) <= objective
    if rate < 0.999 * service.capacity_rps:
        assert service.p95_seconds(rate * 1.001 + 1e-6) >= objective * (1 - 1e-9)
