"""Plans: literal values and whole sentences for hosts worked out by hand; what operators set is kept and checked."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farrier.errors import DoesNotFitError
from farrier.facts import HostFacts
from farrier.plan import Plan, plans_document
from farrier.planner import plan_all
from farrier.settings import SPECS, Value
from farrier.units import MB
from farrier.workload import Workload

STATED = frozenset({"cpu_seconds", "wait_seconds"})
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


def test_two_cpus_and_four_gigabytes() -> None:
    """20.3 ms of CPU + 30 ms of wait: 3 processes of 4 threads carry 98.51 of 98.52 requests a second.

    The cheapest that reach 99.5 %: 3 x 3 in 279.5 MB carry 98.029, a hair below 98.030.
    """
    found = plan()
    assert values(found) == {
        "gunicorn.worker_class": "gthread",
        "gunicorn.workers": 3,
        "gunicorn.threads": 4,
        "gunicorn.worker_connections": 4,
        "gunicorn.backlog": 985,  # 98.51 requests a second for 10 s
        "gunicorn.preload_app": False,
        "gunicorn.timeout": 30,
        "gunicorn.graceful_timeout": 32,
        "gunicorn.keepalive": 0,
        "gunicorn.max_requests": 10_000,  # 32.84 a second x 3 s / 1 % = 9,851, rounded up to 500
        "gunicorn.max_requests_jitter": 2_000,
        "systemd.Backlog": 985,
        "systemd.TimeoutStopSec": 37,
        "systemd.MemoryHigh": 505 * MB,  # 90 % of MemoryMax
        "systemd.MemoryMax": 562 * MB,  # 2 x (35 + 3 x 82)
        "systemd.LimitNOFILE": 1024,
        "systemd.TasksMax": 96,  # 2 x (1 + 3 x 5) + 64
        "kernel.net.core.somaxconn": 4096,
        "nginx.worker_processes": 2,
        "nginx.worker_connections": 6_400,
        "nginx.worker_rlimit_nofile": 12_800,
        "nginx.proxy_connect_timeout": 2,
        "nginx.proxy_send_timeout": 42,
        "nginx.proxy_read_timeout": 42,
        "nginx.client_max_body_size": 10 * MB,
        "nginx.client_header_timeout": 20,
        "nginx.client_body_timeout": 20,
        "nginx.keepalive_timeout": 65,
        "nginx.listen_backlog": 985,
        "farrier.switch": "overlap",
        "farrier.watchdog_timeout": 30,
    }
    assert found.capacity_rps == pytest.approx(98.51, abs=0.01)
    assert found.predicted_memory_mb == 281
    assert found.warnings == ()


def test_a_sync_worker_needs_no_watchdog() -> None:
    found = plan(overrides={"gunicorn.worker_class": "sync"})
    assert found.value("farrier.watchdog_timeout") == 0
    useless = plan(overrides={"gunicorn.worker_class": "sync", "farrier.watchdog_timeout": 40})
    assert useless.warnings[-1] == (
        "farrier.watchdog_timeout 40 s watches nothing: a sync worker's requests end by gunicorn.timeout"
    )


def test_a_watchdog_that_bites_legitimate_requests_is_refused() -> None:
    assert refused({"farrier.watchdog_timeout": 29}) == (
        "web1: farrier.watchdog_timeout 29 s replaces workers for requests that may take 30 s (request_limit_seconds): "
        "need 30, or 0 for none"
    )
    assert plan(overrides={"farrier.watchdog_timeout": 0}).warnings == ()


def test_one_usable_cpu_of_a_64_cpu_machine_gives_a_plan_for_one() -> None:
    facts = HostFacts(host="web1", cpus=1.0, memory_mb=2000, cpus_online=64, cpus_affinity=64, cpu_quota=1.0)
    found = plan(facts)
    assert found.cpus == 1.0
    assert (found.value("gunicorn.workers"), found.value("nginx.worker_processes")) == (2, 1)


def test_every_reason_is_one_sentence_with_its_end() -> None:
    for setting in plan().settings.values():
        assert re.fullmatch(r"[A-Z0-9][^\n]{20,}\.", setting.reason), setting


def test_a_reason_carries_its_numbers() -> None:
    assert plan().settings["gunicorn.workers"].reason == (
        "3 processes of 4 threads keep 2 CPUs busy: each reaches 95 % of a CPU under its GIL, together 98.5 of 98.5 "
        "requests a second at 20.3 ms of CPU each, 0.3 ms of it NGINX's."
    )


def test_the_cpu_of_a_request_is_written_with_its_parts() -> None:
    busy = {"cpu_seconds", "busy_cpu_seconds", "wait_seconds"}
    work = Workload(busy_cpu_seconds=0.0157, stated=frozenset(busy), measured=frozenset(busy))
    reason = plan(workload=work).settings["gunicorn.workers"].reason
    assert reason.endswith(" at 16 ms of CPU each (measured), 0.3 ms of it NGINX's.")
    reason = plan(workload=replace(ORDINARY, proxy_cpu_seconds=0)).settings["gunicorn.workers"].reason
    assert reason.endswith("together 100 of 100 requests a second at 20 ms of CPU each.")


def test_an_objective_below_what_varying_requests_take_alone_is_hopeless() -> None:
    # Cs^2 = 1: 95 % take up to 2.78123 x 50.3 ms, worked out in test_sizing.
    work = replace(ORDINARY, service_scv=1.0, peak_rps=10, latency_p95_seconds=0.1)
    assert plan(workload=work).warnings == (
        "no number of CPUs meets the latency objective of 100 ms: a request alone takes 50.3 ms, 20.3 ms of CPU and 30 ms of "
        "waiting; as they vary, 95 % take up to 139.9 ms",
    )


def test_the_json_contract() -> None:
    document = plans_document("production", {"web1": plan()})
    web1 = document["hosts"]["web1"]  # type: ignore[index]
    assert document["environment"] == "production"
    assert web1["sized_for"] == {"cpus": 2.0, "memory_mb": 3936}
    assert set(web1) == {"sized_for", "settings", "predicted", "warnings"}
    assert web1["predicted"] == {
        "capacity_rps": 98.5,
        "memory_mb": 281,
        "bound": "CPU: 1 more CPU would carry 49.3 more requests a second",
    }
    assert set(web1["settings"]["gunicorn.workers"]) == {"value", "provenance", "reason"}


def test_an_operators_value_is_kept_and_the_rest_follows() -> None:
    found = plan(overrides={"gunicorn.workers": 5})
    setting = found.settings["gunicorn.workers"]
    assert (setting.value, setting.provenance) == (5, "override")
    assert setting.reason.startswith("Set by the operator; Farrier agrees: 5 processes of 2 threads")
    assert found.value("gunicorn.threads") == 2


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
    assert warning.startswith("gevent brings nothing here: a request waits 10 ms for 20.3 ms of CPU")


GEVENT_CHANGES: dict[str, Value] = {
    "gunicorn.worker_class": "gevent",
    "gunicorn.workers": 2,
    "gunicorn.threads": 1,
    "gunicorn.worker_connections": 46,
    "gunicorn.preload_app": False,
    "gunicorn.timeout": 30,
    "farrier.watchdog_timeout": 0,
    "systemd.LimitNOFILE": 1024,  # 256 + 8 x 46
    "systemd.TasksMax": 112,  # 2 x (1 + 2 x (1 + 10)) + 64 = 110
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


def test_a_backlog_set_once_holds_for_the_whole_queue() -> None:
    found = plan(overrides={"systemd.Backlog": 300})
    assert [found.value(name) for name in ("gunicorn.backlog", "systemd.Backlog")] == [300] * 2
    assert found.value("nginx.listen_backlog") == 511, "a short queue before NGINX would drop new clients"
    assert found.settings["gunicorn.backlog"].reason == "Equal to what the operator set for the same queue."


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        (  # 98.51 x 10 s = 985 waiting at most; 98.51 x 12 s = 1,183 arrive
            {"boot_seconds": 12.0},
            {},
            "the backlog of 985 is shorter than a restart: 98.5 requests a second for 12 s of boot make 1,183 requests, and "
            "the rest gets 503; queue_budget_seconds binds, as no more than 985 could be answered within 10 s; a "
            "queue_budget_seconds of 13 instead of 10, for which NGINX waits 45 s, or a boot within 9.99 s, or at most 82 "
            "requests a second would do",
        ),
        (  # of the 40 s that clients wait 30 s are the request's and 2 s margin
            {"boot_seconds": 12.0, "client_timeout_seconds": 40},
            {},
            "the backlog of 788 is shorter than a restart: 98.5 requests a second for 12 s of boot make 1,183 requests, and "
            "the rest gets 503; client_timeout_seconds 40 binds, which leaves 8 s for the queue; a client_timeout_seconds of "
            "45 with a queue_budget_seconds of 13 instead of 8, for which NGINX waits 45 s, or a boot within 7.99 s, or at "
            "most 65.6 requests a second would do",
        ),
        (
            {"boot_seconds": 6.0, "peak_rps": 50.0},
            {"gunicorn.backlog": 200},
            "the backlog of 200 is shorter than a restart: 50 requests a second for 6 s of boot make 300 requests, and the "
            "rest gets 503; the operator's value binds: up to 985 could be answered in time",
        ),
    ],
)
def test_a_queue_that_is_shorter_than_a_restart_says_what_would_do(
    changes: dict[str, Any], overrides: dict[str, Value], message: str
) -> None:
    assert message in plan(workload=replace(ORDINARY, **changes), overrides=overrides).warnings


def test_unwise_values_are_kept_with_a_warning() -> None:
    found = plan(overrides={"gunicorn.worker_connections": 1000})
    assert found.warnings == (
        "worker_connections 1000 lets a worker hold 996 requests more than its 4 threads; they wait there while other "
        "workers are idle",
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"gunicorn.workers": 200},
            "web1: no plan fits: one slot of 200 workers with 1 thread each need 16,135 MB (35 MB master + 200 x (80 "
            "MB worker + "
            "1 x 0.5 MB threads) = 16,135 MB a slot), but the limit is 3,510 MB (3,936 MB usable - 394 MB reserve - "
            "32 MB for "
            "NGINX = 3,510 MB)",
        ),
        (
            {"nginx.proxy_read_timeout": 20},
            "web1: nginx.proxy_read_timeout 20 s breaks the timeout chain: need 42 s (10 s in the queue + 30 s for "
            "the request + 2 s "
            "margin)",
        ),
        (
            {"gunicorn.graceful_timeout": 100, "systemd.TimeoutStopSec": 60},
            "web1: systemd.TimeoutStopSec 60 s kills a slot within its gunicorn.graceful_timeout of 100 s: need 101",
        ),
        (
            {"kernel.net.core.somaxconn": 128},
            "web1: kernel.net.core.somaxconn 128 cuts gunicorn.backlog 985: need 985\n"
            "web1: kernel.net.core.somaxconn 128 cuts nginx.listen_backlog 985: need 985",
        ),
        (
            {"gunicorn.backlog": 100, "systemd.Backlog": 200},
            "web1: systemd.Backlog 200 contradicts gunicorn.backlog 100: they are one queue, set one of them",
        ),
        (
            {"systemd.MemoryMax": 100 * MB},
            "web1: systemd.MemoryMax 104857600 (100 MB) is below the 281 MB that a slot needs: 35 MB master + 3 x (80 "
            "MB worker + "
            "4 x 0.5 MB threads) = 281 MB",
        ),
        (
            {"gunicorn.worker_class": "sync", "gunicorn.timeout": 10},
            "web1: gunicorn.timeout 10 s ends requests that may take 30 s (request_limit_seconds): need 30",
        ),
    ],
)
def test_what_breaks_a_budget_is_refused_with_need_limit_and_breakdown(
    overrides: dict[str, Value], message: str
) -> None:
    assert refused(overrides) == message


def test_a_host_on_which_nothing_fits() -> None:
    assert refused({}, host(cpus=1, memory_mb=190)) == (
        "web1: no plan fits: one slot of 1 worker with 1 thread each need 116 MB (35 MB master + 1 x (80 MB worker + "
        "1 x 0.5 MB "
        "threads) = 116 MB a slot), but the limit is 110 MB (190 MB usable - 64 MB reserve - 16 MB for NGINX = 110 MB)"
    )


def test_memory_for_one_slot_only_means_stop_then_start() -> None:
    found = plan(host(cpus=1, memory_mb=200))
    assert found.value("farrier.switch") == "stop-start"
    assert any(w.startswith("memory holds one slot only: during a deploy requests wait") for w in found.warnings)


def test_clients_that_wait_less_than_a_request_takes() -> None:
    message = refused({}, workload=Workload(request_limit_seconds=59, stated=STATED))
    assert message.startswith(
        "web1: no timeout chain fits: a request may take 59 s and the margin 2 s, which need 61 s, but clients wait "
        "60 s"
    )


def test_a_sync_worker_ends_requests_itself() -> None:
    found = plan(overrides={"gunicorn.worker_class": "sync"})
    assert values(found)["gunicorn.threads"] == 1
    assert values(found)["gunicorn.timeout"] == 30
    # 9 requests in service keep 1.98999 of 2 CPUs busy, less than 99.5 %; 10 keep 1.997.
    assert found.value("gunicorn.workers") == 10


def test_file_limits_stay_below_what_the_host_grants() -> None:
    found = plan(host(nofile=4096))
    assert found.value("nginx.worker_connections") == 2048
    assert found.value("nginx.worker_rlimit_nofile") == 4096
    assert any("open files" in warning for warning in found.warnings)


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


def test_an_assumed_workload_is_said() -> None:
    assert plan(workload=Workload()).warnings == (
        "the cost of a request is assumed, not measured: 20 ms CPU and 30 ms wait; state cpu_seconds and wait_seconds "
        "in the workload",
    )


def test_all_hosts_that_do_not_fit_are_named_at_once() -> None:
    small = [HostFacts(host=name, cpus=1, memory_mb=100) for name in ("web1", "web2")]
    with pytest.raises(DoesNotFitError) as caught:
        plan_all([*small, HostFacts(host="web3", cpus=1, memory_mb=4000)], ORDINARY, {})
    assert [message.partition(":")[0] for message in caught.value.messages] == ["web1", "web2"]


@settings(max_examples=200)
@given(
    st.floats(0.1, 128),
    st.integers(64, 500_000),
    st.floats(0.001, 5),
    st.floats(0, 2),
    st.integers(1, 50),
    st.booleans(),
)
def test_whatever_the_host_a_plan_keeps_its_own_laws(
    cpus: float, memory_mb: int, cpu: float, wait: float, limit: int, preload: bool
) -> None:
    work = Workload(
        cpu_seconds=cpu, wait_seconds=wait, request_limit_seconds=limit, preload_safe=preload, stated=STATED
    )
    try:
        found = plan(host(cpus, memory_mb), work)
    except DoesNotFitError as error:
        refusal = error.messages[0]
    else:
        refusal = ""
    if refusal:
        assert "no plan fits" in refusal, "a plan of Farrier's own never contradicts itself"
        return
    value = values(found)
    number = {name: int(v) for name, v in value.items() if not isinstance(v, str)}
    assert all(spec.accepts(value[spec.name]) for spec in SPECS if spec.name != "gunicorn.preload_app"), value
    copies = 2 if value["farrier.switch"] == "overlap" else 1
    assert copies * number["systemd.MemoryMax"] <= memory_mb * MB
    assert found.predicted_memory_mb * MB <= number["systemd.MemoryMax"] + MB
    assert number["systemd.MemoryHigh"] <= number["systemd.MemoryMax"]
    assert number["gunicorn.worker_connections"] == number["gunicorn.threads"]
    assert number["gunicorn.backlog"] == number["systemd.Backlog"] <= number["nginx.listen_backlog"]
    assert number["nginx.listen_backlog"] <= number["kernel.net.core.somaxconn"]
    assert limit < number["gunicorn.graceful_timeout"] < number["systemd.TimeoutStopSec"]
    assert limit < number["nginx.proxy_read_timeout"] <= 60


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


def pair(found: Plan) -> tuple[Value, Value]:
    return found.value("gunicorn.workers"), found.value("gunicorn.threads")


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
            "web1: no plan fits: one slot of 1 worker with 1 thread each need 2 database connections (2 hosts x 1 slot x 1 "
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


COMPUTING = replace(ORDINARY, longest_cpu_segment_seconds=0.1)


def test_processes_are_preferred_to_threads_that_hold_each_other_up() -> None:
    """4 x 3 carry as much as 3 x 4 and take 361 MB, less than 1.5 x 281; 5 x 2 would take 440."""
    found = plan(workload=COMPUTING)
    assert pair(found) == (4, 3)
    assert found.capacity_rps == plan().capacity_rps
    assert found.settings["gunicorn.threads"].reason == (
        "With 4 workers this makes 12 requests in service at once; a request waits 30 ms for 20.3 ms of CPU, and by Erlang B "
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
