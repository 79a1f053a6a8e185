"""Each layer ends what it should end, when it should: proved at a running stack, for both kinds of worker.

The environment states two limits, a request's and a queue's; the others are the plan's chain.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from deployed import Answer, Deployed, deployed

pytestmark = pytest.mark.host

REQUEST_LIMIT_SECONDS = 4
QUEUE_BUDGET_SECONDS = 3
# One request of the declared work: long, so that few fill the queue and a full one is seen at leisure.
REQUEST_MS = 1000
WORKLOAD = {
    "cpu_seconds": 0.01,
    "wait_seconds": REQUEST_MS / 1000,
    "peak_rps": 1,
    "request_limit_seconds": REQUEST_LIMIT_SECONDS,
    "queue_budget_seconds": QUEUE_BUDGET_SECONDS,
    "client_timeout_seconds": 30,
    "boot_seconds": 1,
}
OVERRIDES = {
    "sync": {"gunicorn.worker_class": "sync", "gunicorn.workers": 2},
    "gthread": {"gunicorn.worker_class": "gthread", "gunicorn.workers": 2, "gunicorn.threads": 2},
}
# NGINX, Gunicorn, Django and the way to the host.
OVERHEAD_SECONDS = 0.5
# Gunicorn's master looks once a second, and what it has killed needs a moment to go.
GUNICORN_LOOKS_SECONDS = 2
# Workers take requests one after the other; what they have not taken yet is in the queue.
ACCEPTED_SECONDS = 0.2
SURPLUS = 6


@pytest.fixture(scope="module", params=["sync", "gthread"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    worker_class: str = request.param
    project: Path = tmp_path_factory.mktemp(worker_class)
    with deployed(f"timeouts-{worker_class}", project, WORKLOAD, OVERRIDES[worker_class]) as running:
        yield running


@pytest.fixture(autouse=True)
def rested(stack: Deployed) -> None:
    """A request that NGINX gave up may still hold a thread; each test begins with all of them free."""
    for _ in range(300):
        if waiting(stack) == 0 and stack.get("/health/").seconds < OVERHEAD_SECONDS:
            return
        time.sleep(0.1)
    pytest.fail("the stack does not come to rest")


def is_sync(stack: Deployed) -> bool:
    return bool(stack.settings["gunicorn.worker_class"] == "sync")


def slots(stack: Deployed) -> int:
    """How many requests can be served at once."""
    return int(stack.settings["gunicorn.workers"]) * int(stack.settings["gunicorn.threads"])


def waiting(stack: Deployed) -> int:
    """Requests in the accept queue: Recv-Q of Gunicorn's socket."""
    return int(stack.shell("ss -lxnH src /run/notes.sock").split()[2])


def at_once(stack: Deployed, count: int, wait_ms: int) -> list[Future[Answer]]:
    """Sends `count` requests side by side; each begins its life in a thread of its own."""
    ready = threading.Barrier(count)

    def ask() -> Answer:
        ready.wait(10)
        return stack.get(f"/work/?wait_ms={wait_ms}")

    pool = ThreadPoolExecutor(count)
    futures = [pool.submit(ask) for _ in range(count)]
    pool.shutdown(wait=False)
    return futures


def answers(futures: list[Future[Answer]]) -> list[Answer]:
    return [future.result(timeout=60) for future in futures]


def test_a_request_just_under_the_limit_is_answered(stack: Deployed) -> None:
    seconds = REQUEST_LIMIT_SECONDS - OVERHEAD_SECONDS
    answer = stack.get(f"/work/?wait_ms={seconds * 1000:.0f}")
    assert answer.status == 200
    assert seconds <= answer.seconds < REQUEST_LIMIT_SECONDS


def test_a_request_above_the_limit_is_ended_by_the_layer_that_the_chain_names(stack: Deployed) -> None:
    answer = stack.get("/work/?wait_ms=20000")
    journal = stack.shell("journalctl --no-pager --output cat --since=-30s -u 'notes@*'")
    if is_sync(stack):
        limit = stack.settings["gunicorn.timeout"]
        assert limit == REQUEST_LIMIT_SECONDS
        assert answer.status == 502
        assert limit <= answer.seconds <= limit + GUNICORN_LOOKS_SECONDS
        assert answer.seconds < stack.settings["nginx.proxy_read_timeout"]
        assert "WORKER TIMEOUT" in journal
    else:
        limit = stack.settings["nginx.proxy_read_timeout"]
        assert limit >= QUEUE_BUDGET_SECONDS + REQUEST_LIMIT_SECONDS
        assert answer.status == 504
        assert limit <= answer.seconds <= limit + OVERHEAD_SECONDS
        assert "WORKER TIMEOUT" not in journal


def test_the_other_requests_are_answered_while_one_is_ended(stack: Deployed) -> None:
    (hopeless,) = at_once(stack, 1, wait_ms=20_000)
    statuses = []
    while not hopeless.done():
        statuses.append(stack.get("/work/?wait_ms=100").status)
    assert hopeless.result().status in {502, 504}
    assert len(statuses) > REQUEST_LIMIT_SECONDS
    assert set(statuses) == {200}


def test_requests_in_the_queue_wait_and_are_answered_within_its_budget(stack: Deployed) -> None:
    served = at_once(stack, slots(stack), REQUEST_MS)
    time.sleep(ACCEPTED_SECONDS)
    queued = at_once(stack, int(stack.settings["systemd.Backlog"]), REQUEST_MS)
    found = answers([*served, *queued])
    assert [answer.status for answer in found] == [200] * len(found)
    longest = max(answer.seconds for answer in found)
    served_in = REQUEST_MS / 1000
    # It did wait, and not longer than the budget.
    assert longest > 1.5 * served_in
    assert longest <= QUEUE_BUDGET_SECONDS + served_in + OVERHEAD_SECONDS


def test_beyond_the_backlog_the_refusal_comes_at_once_and_says_when_to_return(stack: Deployed) -> None:
    backlog = int(stack.settings["systemd.Backlog"])
    served = at_once(stack, slots(stack), REQUEST_MS)
    time.sleep(ACCEPTED_SECONDS)
    # The kernel lets one more wait than the backlog says.
    surplus = answers(at_once(stack, backlog + 1 + SURPLUS, REQUEST_MS))
    refused = [answer for answer in surplus if answer.status == 503]
    assert len(refused) == SURPLUS
    for answer in refused:
        assert answer.seconds < 0.5
        assert int(answer.headers["retry-after"]) >= 1
    others = [*answers(served), *(answer for answer in surplus if answer.status != 503)]
    assert {answer.status for answer in others} == {200}
    assert stack.get("/health/").status == 200
