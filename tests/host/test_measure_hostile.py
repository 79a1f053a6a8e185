"""Applications that are measured badly or not at all: broken, too large, at random speed, or in the way of the measurement."""

import json
import re
import signal
from collections.abc import Iterator

import pytest
import yaml

from deployed import Deployed
from farrier.policy import RESERVE_MINIMUM_MB
from known_cost import change
from measuring import appended, measure, start
from testbed import ENVIRONMENT, farrier

pytestmark = pytest.mark.host

RANDOM_SPEED = """
import itertools, time
answer, pauses = application, itertools.cycle((0, 0, 0, 0, 0, 1.5))

def application(environ, start_response):
    time.sleep(next(pauses))
    return answer(environ, start_response)
"""
FULL_WITH_FOUR = """
import threading
answer, places = application, threading.Semaphore(4)

def application(environ, start_response):
    if not places.acquire(blocking=False):
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]
    try:
        return answer(environ, start_response)
    finally:
        places.release()
"""
GROWING = """
answer, held = application, []

def application(environ, start_response):
    if not held:
        held.append(b"x" * {bytes})
    return answer(environ, start_response)
"""
PLANTED = """
import os, threading, time
runtime = os.environ["RUNTIME_DIRECTORY"]
for name in ("worker--1", "worker-1", "worker-²", "worker-{canary}", "worker-0"):
    with open(os.path.join(runtime, name), "w") as file:
        file.write('{"boot_seconds": 0.5}')
for name, target in (("references-wanted", "{kept}"), ("worker-2", "/dev/zero")):
    if not os.path.lexists(os.path.join(runtime, name)):
        os.symlink(target, os.path.join(runtime, name))
if not os.path.lexists(os.path.join(runtime, "worker-3")):
    os.mkfifo(os.path.join(runtime, "worker-3"))
threading.Thread(target=time.sleep, args=(600,), name="a\\ncpu_seconds: 7", daemon=True).start()
"""
IN_THE_WAY = """
import os
mark = os.path.join(os.environ["RUNTIME_DIRECTORY"], "master")
if not os.path.lexists(mark) or not os.path.islink(mark):
    os.symlink("/dev/zero", mark + "-aside")
    os.replace(mark + "-aside", mark)
"""


@pytest.fixture(scope="module")
def stack(known_cost: Deployed) -> Deployed:
    """Nothing is stated of its cost, so that a figure is either measured or missing."""
    change(known_cost.project, workload={"peak_rps": 3})
    return known_cost


@pytest.mark.clock
def test_an_application_that_answers_at_random_speed_is_refused(stack: Deployed) -> None:
    path = stack.project / f"workloads/{ENVIRONMENT}.yml"
    written = path.read_bytes() if path.exists() else None
    with appended(stack, RANDOM_SPEED):
        code, _, progress = measure(stack)
    assert code == 2, progress
    assert "requests vary too much: the mean CPU and wait is " in progress
    assert "measure with --seconds " in progress
    assert (path.read_bytes() if path.exists() else None) == written


@pytest.mark.parametrize(("connections", "refused"), [(90, True), (8, False)])
def test_no_more_requests_are_under_way_than_the_database_can_serve(
    stack: Deployed, connections: int, refused: bool
) -> None:
    """Two slots share the connections, of which one is not there: with 8 that leaves 4, as many as it answers at once."""
    path = stack.project / "farrier.yml"
    text = path.read_text()
    description = yaml.safe_load(text)
    description["environments"][ENVIRONMENT]["workload"] = {"peak_rps": 3, "database_connections": connections}
    path.write_text(yaml.safe_dump(description))
    try:
        with appended(stack, FULL_WITH_FOUR):
            code, said, progress = measure(stack)
    finally:
        path.write_text(text)
    assert code == 0, progress
    assert ("responses under concurrent requests" in said) == refused, said


def test_a_broken_application_gives_its_traceback(stack: Deployed) -> None:
    with appended(stack, "\nimport horseshoes\n"):
        code, _, progress = measure(stack)
    assert code == 2
    assert "ModuleNotFoundError: No module named 'horseshoes'" in progress
    assert f"farrier: host {stack.name}: the application does not start" in progress


@pytest.fixture
def canary(stack: Deployed) -> Iterator[str]:
    """The number of a process of root's, which is still there afterwards; and /etc/kept, which is as it was."""
    pid = "systemctl show --value -p MainPID canary"
    made = stack.shell(
        f"echo kept >/etc/kept; systemd-run -q --unit canary sleep infinity; {pid}; stat -c %Y%z /etc/kept"
    )
    number, changed = made.split("\n", 1)
    try:
        yield number
        assert stack.shell(f"cat /etc/kept; {pid}; stat -c %Y%z /etc/kept") == f"kept\n{number}\n{changed}"
    finally:
        stack.shell("systemctl stop canary; rm /etc/kept")


def test_what_an_application_plants_signals_nobody_and_writes_nowhere(stack: Deployed, canary: str) -> None:
    """Names like process numbers, links and FIFOs in its runtime directory: it is measured in spite of them."""
    with appended(stack, PLANTED.replace("{canary}", canary).replace("{kept}", "/etc/kept")):
        code, said, progress = measure(stack)
    assert code == 0, progress
    path = stack.project / f"workloads/{ENVIRONMENT}.yml"
    found = yaml.safe_load(path.read_text())
    path.unlink()
    assert 0.01 < found["cpu_seconds"] < 0.06
    assert found["preload_safe"] is False
    assert "import starts a thread named a\\ncpu_seconds: 7" in said


def test_a_mark_of_the_masters_that_is_replaced_is_told(stack: Deployed, canary: str) -> None:
    with appended(stack, IN_THE_WAY):
        code, _, progress = measure(stack)
    assert code == 2, progress
    assert (
        f"farrier: host {stack.name}: the application writes into its runtime directory: master: not a regular file"
        in progress
    )


def test_the_directory_of_another_application_is_left_alone(stack: Deployed) -> None:
    stack.shell("mkdir -p /srv/notes-measure/releases")
    try:
        code, _, progress = measure(stack)
        assert stack.shell("ls -A /srv/notes-measure") == "releases\n"
    finally:
        stack.shell("rm -r /srv/notes-measure")
    assert code == 4
    message = "/srv/notes-measure is there and belongs to no measurement: rename it, or the application that it is of"
    assert f"farrier: host {stack.name}: {message}" in progress


def test_only_root_may_use_the_socket_that_is_measured(stack: Deployed) -> None:
    with start(stack, "--seconds", "30") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "One request after the other" in line:
                break
        seen = stack.shell(
            "until [ -S /run/farrier-measure-notes/gunicorn.sock ]; do sleep 0.1; done; "
            "stat -c '%a %U' /run/farrier-measure-notes /run/farrier-measure-notes/gunicorn.sock /srv/notes-measure/log"
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert seen == "700 notes\n600 notes\n600 root\n"


def memory_left_mb(stack: Deployed) -> int:
    """What a measurement may take: what is available now, less the reserve."""
    farrier(stack.project, "facts", ENVIRONMENT)
    facts = json.loads((stack.project / f"facts/{ENVIRONMENT}/{stack.name}.json").read_text())
    available: int = facts["memory_mb"]["available"]
    return available - RESERVE_MINIMUM_MB


@pytest.mark.parametrize(
    ("text", "figure"),
    [("\nheld = b'x' * {bytes}\n", "memory_shared_mb"), (GROWING, "memory_private_mb")],
    ids=["from its import on", "from its first request on"],
)
def test_of_a_large_application_one_worker_is_measured(stack: Deployed, text: str, figure: str) -> None:
    """Two of its workers would not fit beside what is live."""
    path = stack.project / f"workloads/{ENVIRONMENT}.yml"
    large = 2 * memory_left_mb(stack) // 3
    with appended(stack, text.replace("{bytes}", str(large * 2**20))):
        code, said, progress = measure(stack)
    assert code == 0, progress
    workload = yaml.safe_load(path.read_text())
    assert workload[figure] >= large
    assert workload["preload_safe"], said
    path.unlink()


def test_an_application_that_is_too_large_is_told_so(stack: Deployed) -> None:
    left = memory_left_mb(stack)
    with appended(stack, f"\nheld = b'x' * {2 * left * 2**20}\n"):
        code, _, progress = measure(stack)
    assert code == 3, progress
    assert re.search(
        r"a worker was killed for memory: it does not fit into the \d+ MB that are free on this host beside what is live; "
        "measure on a larger host with --host",
        progress,
    ), progress
