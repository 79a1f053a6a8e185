"""Numbers on which two layers must agree: NGINX and Gunicorn, the queue and Retry-After, the CPUs and TasksMax."""

from dataclasses import replace

import pytest

from farrier.facts.model import HostFacts
from planned import ORDINARY, host, plan


def test_retry_after_is_the_wait_that_the_plan_allows_not_the_one_asked_for() -> None:
    # Of the 40 s that clients wait 30 s are the request's and 2 s margin.
    short = plan(workload=replace(ORDINARY, client_timeout_seconds=40)).settings["farrier.retry_after"]
    assert short.value == 8
    assert (
        short.reason == "By then a queue that was full has been answered: no request waits in it for longer than 8 s."
    )
    # Nothing is left for a queue, but to come back at once would be no relief.
    assert plan(workload=replace(ORDINARY, client_timeout_seconds=32)).value("farrier.retry_after") == 1


@pytest.mark.parametrize(
    ("buffer", "line", "field"),
    [(4_096, 4_094, 4_097), (8_192, 8_190, 8_193), (8_193, 0, 8_194), (32_768, 0, 32_769)],
)
def test_gunicorn_reads_what_nginx_lets_through(buffer: int, line: int, field: int) -> None:
    found = plan(overrides={"nginx.large_client_header_buffers": buffer})
    assert found.value("gunicorn.limit_request_line") == line
    assert found.value("gunicorn.limit_request_field_size") == field
    assert found.warnings == ()


def test_a_shorter_limit_behind_a_longer_one_is_said() -> None:
    found = plan(overrides={"gunicorn.limit_request_line": 4_094, "gunicorn.limit_request_field_size": 8_190})
    assert found.warnings == (
        "gunicorn.limit_request_line 4,094 bytes is less than the 8,190 that NGINX lets through "
        "(nginx.large_client_header_buffers 8,192): what lies between gets Gunicorn's own error page",
        "gunicorn.limit_request_field_size 8,190 bytes is less than the 8,193 that NGINX lets through "
        "(nginx.large_client_header_buffers 8,192): what lies between gets Gunicorn's own error page",
    )


def test_each_worker_has_room_for_a_thread_of_each_cpu_that_it_sees() -> None:
    # 2 usable CPUs of 64 that a library counts: 2 x (1 + 3 x 5) + 2 x (1 + 3) x 64 + 64.
    assert plan(replace(host(), cpus_online=64, cpus_affinity=64)).value("systemd.TasksMax") == 608
    # More may be usable than a strange fact says is online; a program sees at least those.
    assert plan(replace(host(), cpus_online=1)).value("systemd.TasksMax") == 112
    sixteen = plan(HostFacts(host="web1", cpus=16, memory_mb=32_000, cpus_online=16, cpus_affinity=16))
    assert (sixteen.value("gunicorn.workers"), sixteen.value("gunicorn.threads")) == (17, 4)
    assert sixteen.settings["systemd.TasksMax"].reason == (
        "2 x the 86 processes and threads of Gunicorn + 2 x 16 in each of 18 processes for libraries that start a thread for "
        "each CPU they see + 64 for what the application starts: a fork bomb ends here."
    )
    assert sixteen.value("systemd.TasksMax") == 816  # 2 x 86 + 576 + 64 = 812
