"""Requests that hang in threads, where Gunicorn's `timeout` does not act: their workers are replaced, without the other requests."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from deployed import Answer, Deployed
from impatient import REQUEST_LIMIT_SECONDS
from operated import eventually

pytestmark = pytest.mark.host

HANGING = "/work/?wait_ms=60000"
# Within the limit, but so long that it is still under way when its worker takes no more.
HEALTHY = f"/work/?wait_ms={(REQUEST_LIMIT_SECONDS - 1) * 1000}"
# The watchdog and Gunicorn's master look once a second, and a worker boots.
REPLACED_SECONDS = 5


def workers(stack: Deployed) -> set[int]:
    """The processes that are ready."""
    return {int(pid) for pid in stack.shell("ls /run/notes-$(basename $(readlink /srv/notes/active))/workers").split()}


def master(stack: Deployed) -> str:
    return stack.shell("systemctl show --value -p MainPID notes@$(basename $(readlink /srv/notes/active))")


def journal(stack: Deployed, since: float) -> str:
    return stack.shell(f"journalctl --no-pager --output cat --since=@{since:.0f} -u 'notes@*'")


def ask_at_once(stack: Deployed, paths: Sequence[str]) -> list[Future[Answer]]:
    pool = ThreadPoolExecutor(len(paths))
    futures = [pool.submit(stack.get, path) for path in paths]
    pool.shutdown(wait=False)
    return futures


def replaced(stack: Deployed, before: set[int], count: int) -> set[int]:
    """The workers that are gone, once as many as planned are ready and none of these hangs."""
    give_up = time.monotonic() + REPLACED_SECONDS
    while True:
        now = workers(stack)
        if len(now) == len(before) and len(before - now) == count:
            return before - now
        assert time.monotonic() < give_up, f"{count} workers should have been replaced: {before} -> {now}"
        time.sleep(0.2)


@pytest.fixture(scope="module", autouse=True)
def as_planned(operated: Deployed) -> None:
    operated.play()


@pytest.fixture(autouse=True)
def rested(operated: Deployed) -> Iterator[None]:
    """Each test leaves free threads to the next one."""
    yield
    operated.shell("systemctl restart notes@$(basename $(readlink /srv/notes/active))")
    eventually(lambda: len(workers(operated)) == operated.settings["gunicorn.workers"], "all workers are ready")


@pytest.mark.row(8, "one thread hangs: healthy requests beside it are answered")
def test_one_hanging_request_does_not_take_the_healthy_ones_with_it(operated: Deployed) -> None:
    before, parent, begun = workers(operated), master(operated), time.time()
    (hanging,) = ask_at_once(operated, [HANGING])
    found: list[Answer] = []
    with ThreadPoolExecutor(3) as pool:  # as many as there are other threads, so that one of them shares its worker
        while not hanging.done():
            found += pool.map(operated.get, [HEALTHY] * 3)
    (gone,) = replaced(operated, before, 1)
    assert hanging.result().status == 504
    assert {answer.status for answer in found} == {200}
    shared = [answer for answer in found if json.loads(answer.body)["pid"] == gone]
    assert any(answer.answered > hanging.result().asked + REQUEST_LIMIT_SECONDS + 1 for answer in shared), (
        "no healthy request was under way in the worker that was told to accept no more"
    )
    assert master(operated) == parent
    said = journal(operated, begun)
    assert f"WATCHDOG: GET {HANGING} hangs, after " in said
    assert "time.sleep(wait_ms / 1000)" in said, "where it stands"
    assert f"WATCHDOG: worker {gone} accepts no more" in said
    assert HEALTHY not in said
    assert "WORKER TIMEOUT" not in said


def check_all_hang(stack: Deployed) -> None:
    before, parent = workers(stack), master(stack)
    slots = int(stack.settings["gunicorn.workers"]) * int(stack.settings["gunicorn.threads"])
    hanging = ask_at_once(stack, [HANGING] * slots)
    time.sleep(0.5)
    late = ask_at_once(stack, ["/health/"])
    answers = [future.result() for future in hanging]
    limit = int(stack.settings["nginx.proxy_read_timeout"])
    assert {answer.status for answer in answers} == {504}
    assert max(answer.seconds for answer in answers) < limit + 1
    replaced(stack, before, len(before))
    assert master(stack) == parent
    # It came when nobody could take it, so it was the replaced workers' that it was answered or given up in the queue.
    assert late[0].result().status in {200, 504}
    assert stack.get("/health/").status == 200


@pytest.mark.row(8, "every thread hangs: 504, and all workers are replaced")
def test_workers_all_of_whose_threads_hang_are_replaced(operated: Deployed) -> None:
    check_all_hang(operated)


@pytest.mark.row(8, "every thread hangs", without="the watchdog")
def test_without_the_watchdog_they_hang_for_good(operated: Deployed) -> None:
    operated.play("-e", "notes_trial_watchdog_timeout=0")
    config = operated.shell("cat /srv/notes/active/gunicorn.conf.py")
    assert "threading" not in config, "what is off is not there"
    with pytest.raises(AssertionError, match="workers should have been replaced"):
        check_all_hang(operated)
