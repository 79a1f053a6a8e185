"""Plans: literal values and whole sentences for hosts worked out by hand; what operators set is kept and checked."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farrier.errors import DoesNotFitError
from farrier.facts.model import HostFacts
from farrier.plan.model import plans_document
from farrier.plan.planner import plan_all
from farrier.project.workload import Workload
from farrier.settings import SPECS, Value
from farrier.wording import MB
from planned import ORDINARY, STATED, host, pair, plan, refused, values


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
        "gunicorn.limit_request_line": 8_190,  # NGINX's buffer without the line's end
        "gunicorn.limit_request_field_size": 8_193,  # ... and with the space that NGINX adds
        "gunicorn.limit_request_fields": 128,
        "systemd.Backlog": 985,
        "systemd.TimeoutStopSec": 37,
        "systemd.MemoryHigh": 505 * MB,  # 90 % of MemoryMax
        "systemd.MemoryMax": 562 * MB,  # 2 x (35 + 3 x 82)
        "systemd.LimitNOFILE": 1024,
        "systemd.TasksMax": 112,  # 2 x (1 + 3 x 5) + 2 x (1 + 3) x 2 + 64
        "kernel.net.core.somaxconn": 4096,
        "nginx.worker_processes": 2,
        "nginx.worker_connections": 6_400,
        "nginx.worker_rlimit_nofile": 12_800,
        "nginx.proxy_connect_timeout": 2,
        "nginx.proxy_send_timeout": 42,
        "nginx.proxy_read_timeout": 42,
        "nginx.client_max_body_size": 10 * MB,
        "nginx.large_client_header_buffers": 8_192,
        "nginx.proxy_buffer_size": 16_384,
        "nginx.client_header_timeout": 20,
        "nginx.client_body_timeout": 20,
        "nginx.keepalive_timeout": 65,
        "nginx.listen_backlog": 985,
        "farrier.retry_after": 10,
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


def test_every_reason_begins_and_ends_as_sentences_do_on_one_line() -> None:
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
    assert setting.reason.startswith(
        "Set by the operator, where Farrier alone would choose 3: 5 processes of 2 threads keep 2 CPUs busy"
    )
    assert found.value("gunicorn.threads") == 2


def test_farrier_agrees_only_with_what_it_would_choose_alone() -> None:
    reasons = {name: setting.reason for name, setting in plan(overrides={"gunicorn.workers": 3}).settings.items()}
    assert reasons["gunicorn.workers"].startswith("Set by the operator, and Farrier agrees: 3 processes of 4 threads")
    threads = plan(overrides={"gunicorn.workers": 3, "gunicorn.threads": 9}).settings["gunicorn.threads"]
    assert threads.reason.startswith(
        "Set by the operator, where Farrier alone would choose 4: With 3 workers this makes"
    )
    kind = plan(overrides={"gunicorn.worker_class": "sync"}).settings["gunicorn.worker_class"]
    assert kind.reason.startswith(
        "Set by the operator, where Farrier alone would choose gthread: One thread per worker"
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
            "web1: no plan fits: one slot of 200 workers with 1 thread each needs 16,135 MB (35 MB master + 200 x (80 "
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
        "web1: no plan fits: one slot of 1 worker with 1 thread each needs 116 MB (35 MB master + 1 x (80 MB worker + "
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


def test_an_assumed_workload_is_said() -> None:
    assert plan(workload=Workload()).warnings == (
        "the cost of a request is assumed, not measured: 20 ms CPU and 30 ms wait; state cpu_seconds and wait_seconds "
        "in the workload",
        "the memory of a worker is assumed, not measured: 80 MB; a slot may take up to 1,728 MB, what the host can spare; "
        "measure it: farrier measure",
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
    st.sampled_from([STATED, frozenset({"cpu_seconds", "wait_seconds"})]),
)
def test_whatever_the_host_a_plan_keeps_its_own_laws(
    cpus: float, memory_mb: int, cpu: float, wait: float, limit: int, preload: bool, stated: frozenset[str]
) -> None:
    work = Workload(
        cpu_seconds=cpu, wait_seconds=wait, request_limit_seconds=limit, preload_safe=preload, stated=stated
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


WITH_DATABASE = replace(
    ORDINARY,
    cpu_seconds=0.016,
    wait_seconds=0.0066,
    other_cpu_seconds=0.0153,
    other_services=("postgresql@15-main.service",),
)


def test_a_database_on_the_same_host_counts_and_is_named() -> None:
    found = plan(host(cpus=1), WITH_DATABASE)
    assert found.capacity_rps == pytest.approx(31.65, abs=0.01)
    assert pair(found) == (2, 1)
    assert found.settings["gunicorn.workers"].reason == (
        "2 processes of 1 thread keep 1 CPU busy: each reaches 71 % of a CPU under its GIL, together 31.6 of 31.6 requests a "
        "second at 31.6 ms of CPU each, 0.3 ms of it NGINX's and 15.3 ms of it in postgresql@15-main.service on the same host."
    )
    assert "a request waits 6.6 ms and takes 16.3 ms of CPU" in found.settings["gunicorn.worker_class"].reason
    several = replace(WITH_DATABASE, other_services=("a.service", "b.service"), proxy_cpu_seconds=0)
    assert "15.3 ms of it in a.service and b.service on the same host." in (
        plan(host(cpus=1), several).settings["gunicorn.workers"].reason
    )
    unnamed = plan(host(cpus=1), replace(WITH_DATABASE, other_services=()))
    assert "15.3 ms of it in other services on the same host." in unnamed.settings["gunicorn.workers"].reason
    gevent = plan(host(cpus=1), WITH_DATABASE, {"gunicorn.worker_class": "gevent"})
    assert gevent.capacity_rps == pytest.approx(31.65, abs=0.01)
    assert "as 15.3 ms of a request are computed in postgresql@15-main.service on the same host" in (
        gevent.settings["gunicorn.workers"].reason
    )
