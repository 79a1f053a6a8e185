"""Each layer ends what it should end, when it should: proved at a running stack, for both kinds of worker.

The environment states two limits, a request's and a queue's; the others are the plan's chain.
"""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from deployed import Answer, Deployed
from impatient import QUEUE_BUDGET_SECONDS, REQUEST_LIMIT_SECONDS, REQUEST_MS

pytestmark = pytest.mark.host

SHORT_MS = 200
# Longer than anybody waits; not much, because a thread of gthread is held to the end.
HOPELESS_MS = 12_000
# NGINX, Gunicorn, Django and the way to the host.
OVERHEAD_SECONDS = 0.5
# Gunicorn's master looks once a second, and what it has killed needs a moment to go.
GUNICORN_LOOKS_SECONDS = 2
# Workers take requests one after the other; what they have not taken yet is in the queue.
ACCEPTED_SECONDS = 0.2
SURPLUS = 6


@pytest.fixture(autouse=True)
def rested(stack: Deployed) -> None:
    """Each test begins with all threads free: a request that NGINX gave up still holds one of gthread's."""
    for _ in range(40):
        found = answers(at_once(stack, connections(stack, slots(stack)), SHORT_MS))
        if waiting(stack) == 0 and max(answer.seconds for answer in found) < 2 * SHORT_MS / 1000:
            return
    pytest.fail("the stack does not come to rest")


def is_sync(stack: Deployed) -> bool:
    return bool(stack.settings["gunicorn.worker_class"] == "sync")


def slots(stack: Deployed) -> int:
    """How many requests can be served at once."""
    return int(stack.settings["gunicorn.workers"]) * int(stack.settings["gunicorn.threads"])


def waiting(stack: Deployed) -> int:
    """Requests in the accept queue: Recv-Q of Gunicorn's socket."""
    return int(stack.shell("ss -lxnH src /run/notes.sock").split()[2])


def connections(stack: Deployed, count: int) -> list[HTTPConnection]:
    """Clients that NGINX has let in already: what is measured afterwards is Gunicorn's queue alone."""
    return [stack.connect() for _ in range(count)]


def at_once(stack: Deployed, clients: list[HTTPConnection], wait_ms: int) -> list[Future[Answer]]:
    """Each client asks for a page of `wait_ms`, all of them at one moment."""
    ready = threading.Barrier(len(clients))

    def ask(client: HTTPConnection) -> Answer:
        ready.wait(10)
        return stack.get(f"/work/?wait_ms={wait_ms}", client)

    pool = ThreadPoolExecutor(len(clients))
    futures = [pool.submit(ask, client) for client in clients]
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
    answer = stack.get(f"/work/?wait_ms={HOPELESS_MS}")
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
    (hopeless,) = at_once(stack, connections(stack, 1), HOPELESS_MS)
    statuses = []
    while not hopeless.done():
        statuses.append(stack.get(f"/work/?wait_ms={SHORT_MS}").status)
    assert hopeless.result().status in {502, 504}
    assert len(statuses) > REQUEST_LIMIT_SECONDS
    assert set(statuses) == {200}


def test_requests_in_the_queue_wait_and_are_answered_within_its_budget(stack: Deployed) -> None:
    backlog = int(stack.settings["systemd.Backlog"])
    first, then = connections(stack, slots(stack)), connections(stack, backlog)
    served = at_once(stack, first, REQUEST_MS)
    time.sleep(ACCEPTED_SECONDS)
    found = [*answers(at_once(stack, then, REQUEST_MS)), *answers(served)]
    assert [answer.status for answer in found] == [200] * len(found)
    longest = max(answer.seconds for answer in found)
    served_in = REQUEST_MS / 1000
    # It did wait, and not longer than the budget.
    assert longest > 1.5 * served_in
    assert longest <= QUEUE_BUDGET_SECONDS + served_in + OVERHEAD_SECONDS


def test_beyond_the_backlog_the_refusal_comes_at_once_and_says_when_to_return(stack: Deployed) -> None:
    # The kernel lets one more wait than the backlog says.
    room = int(stack.settings["systemd.Backlog"]) + 1
    first, then = connections(stack, slots(stack)), connections(stack, room + SURPLUS)
    served = at_once(stack, first, REQUEST_MS)
    time.sleep(ACCEPTED_SECONDS)
    found = answers(at_once(stack, then, REQUEST_MS))
    refused = [answer for answer in found if answer.status == 503]
    assert len(refused) == SURPLUS
    for answer in refused:
        assert answer.seconds < 0.5
        assert int(answer.headers["retry-after"]) == stack.settings["farrier.retry_after"] == QUEUE_BUDGET_SECONDS
    others = [*answers(served), *(answer for answer in found if answer.status != 503)]
    assert {answer.status for answer in others} == {200}
    assert stack.get("/health/").status == 200
