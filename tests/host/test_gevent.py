"""Gunicorn's gevent worker where the project asks for it: many waits at once in one worker, and a deploy without gevent."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployed import Deployed, deployed
from farrier import policy
from testbed import ENVIRONMENT, PLAY, attempt

pytestmark = pytest.mark.host

AT_ONCE = 60
WAIT_SECONDS = 3.0
WORKLOAD = {"cpu_seconds": 0.003, "wait_seconds": 0.1, "memory_private_mb": 30, "memory_shared_mb": 30}
OVERRIDES = {"gunicorn.worker_class": "gevent", "gunicorn.workers": 1, "gunicorn.worker_connections": AT_ONCE}


def require_gevent(stack: Deployed) -> None:
    """As an application does that is to run under gevent; the version is the one that the tests are pinned to."""
    pinned = re.search(r"^gevent==\S+", (Path(__file__).parents[2] / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    with (stack.project / "app/requirements.txt").open("a") as file:
        file.write(f"\n{pinned[0]}\n")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed(
        "gevent-trial", tmp_path_factory.mktemp("gevent"), WORKLOAD, OVERRIDES, prepare=require_gevent
    ) as running:
        yield running


def private_mb(stack: Deployed) -> float:
    """Memory of the only worker that is its own."""
    found = stack.shell("cat /proc/$(ls /run/notes-*/workers | grep -E '^[0-9]+$')/smaps_rollup")
    return sum(int(kb) for kb in re.findall(r"^Private_\w+:\s+(\d+) kB", found, re.MULTILINE)) / 1024


def test_one_worker_waits_for_many_at_once(stack: Deployed) -> None:
    """Each greenlet takes less memory than the plan counts with."""
    assert stack.settings["gunicorn.worker_connections"] == AT_ONCE
    for _ in range(20):
        assert stack.get("/work/?wait_ms=1").status == 200
    with ThreadPoolExecutor(AT_ONCE) as clients:
        before = private_mb(stack)
        waiting = [clients.submit(stack.get, f"/work/?wait_ms={round(1000 * WAIT_SECONDS)}") for _ in range(AT_ONCE)]
        time.sleep(WAIT_SECONDS / 3)
        each = (private_mb(stack) - before) / AT_ONCE
        answers = [future.result() for future in waiting]
    assert {answer.status for answer in answers} == {200}
    took = max(answer.answered for answer in answers) - min(answer.asked for answer in answers)
    assert took < 2 * WAIT_SECONDS, f"{AT_ONCE} waits of {WAIT_SECONDS} s took {took:.1f} s: they did not wait at once"
    print(f"\n{1024 * each:.0f} KB for each greenlet")  # noqa: T201 - pytest -s shows what was seen
    assert each < policy.GREENLET_MB
    mark = stack.shell("cat /run/notes-*/workers/[0-9]*")
    assert '"worker_class": "gevent"' in mark
    assert stack.shell("ls /run/notes-*/workers | grep -Ec '^[0-9]+$'").strip() == "1"


def test_a_deploy_goes_on_under_requests(stack: Deployed) -> None:
    """Requests that are under way when a slot stops are answered by it."""
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(stack.get, "/work/?wait_ms=9000") for _ in range(4)]
        with (stack.project / "app/notes/wsgi.py").open("a") as file:
            file.write("\n# another release\n")
        stack.play()
        assert {future.result().status for future in waiting} == {200}
    assert stack.get("/health/").status == 200


def test_a_release_without_gevent_is_refused_before_anything_is_switched(stack: Deployed) -> None:
    before = stack.shell("readlink /srv/notes/active")
    path = stack.project / "app/requirements.txt"
    text = path.read_text()
    path.write_text(re.sub(r"^gevent==.*\n", "", text, flags=re.MULTILINE))
    try:
        result = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], stack.project)
    finally:
        path.write_text(text)
    assert result.returncode != 0
    assert "requirements.txt brings no gevent, which gunicorn.worker_class gevent needs" in result.stdout
    assert stack.shell("readlink /srv/notes/active") == before
    assert stack.get("/health/").status == 200
