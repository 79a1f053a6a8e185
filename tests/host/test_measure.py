"""The example application is measured beside its live slot on a host with one CPU; its cost is known beforehand."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from deployed import Deployed
from farrier.policy import PROXY_CPU_SECONDS, RESERVE_MINIMUM_MB
from known_cost import URL, change
from testbed import ENVIRONMENT, ROOT, farrier

pytestmark = pytest.mark.host

SECONDS = 10
LOAD_SECONDS = 6
CLIENTS = 8
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
# It says what it has computed by its own clock: the seconds of CPU of so many answers, since it began to answer.
BASE = """
import os, socket, time
server = socket.socket(socket.AF_UNIX)
server.bind("/run/base/socket")
os.chmod("/run/base/socket", 0o666)
server.listen(64)
begun, answered = time.process_time(), 0
while True:
    with server.accept()[0] as connection:
        end = time.process_time() + 0.010
        while time.process_time() < end:
            pass
        connection.sendall(b"x")
        answered += 1
        with open("/run/base/spent", "w") as file:
            print(time.process_time() - begun, answered, file=file)
"""
ASKS_BASE = """
import socket
answer = application

def application(environ, start_response):
    with socket.socket(socket.AF_UNIX) as base:
        base.connect("/run/base/socket")
        base.recv(1)
    return answer(environ, start_response)
"""
USERS = """
from locust import HttpUser, constant, task

class Visitor(HttpUser):
    wait_time = constant(0.4)

    @task(9)
    def compute(self):
        self.client.get("/work/?cpu_ms=8&wait_ms=2")

    @task
    def write(self):
        self.client.get("/health/", name="well")
        self.client.post("/work/?wait_ms=10", data=b"x" * 2000)
        self.client.post("/notes/new/", data={"title": "{{ x }}"})
"""
LEFTOVERS = (
    "ls -d /srv/notes-measure /run/farrier-measure-* /run/systemd/transient/farrier-measure* 2>&1 | grep -v 'No such'; "
    "systemctl list-units --all --plain --no-legend 'farrier-measure*'; "
    "ps -u notes -o args= | grep measure; true"
)


@pytest.fixture(scope="module")
def stack(known_cost: Deployed) -> Deployed:
    """Nothing is stated of its cost, so that a figure is either measured or missing."""
    change(known_cost.project, workload={"peak_rps": 3})
    return known_cost


def start(stack: Deployed, *arguments: str) -> subprocess.Popen[str]:
    scripts = Path(sys.executable).parent
    return subprocess.Popen(
        [sys.executable, "-m", "farrier", "measure", ENVIRONMENT, "--seconds", str(SECONDS), *arguments],
        cwd=stack.project,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def measure(stack: Deployed, *arguments: str) -> tuple[int, str, str]:
    """Exit code, result and progress."""
    with start(stack, *arguments) as process:
        said, progress = process.communicate(timeout=180)
    return process.returncode, said, progress


def live(stack: Deployed) -> str:
    """What serves, so that nothing of it may change: the slot, its processes, and its releases."""
    return stack.shell(
        "readlink /srv/notes/active; systemctl show -p MainPID,ActiveEnterTimestampMonotonic notes@a notes@b; "
        "ls /srv/notes/releases /srv/notes/venvs"
    )


@pytest.mark.clock
def test_the_cost_that_was_asked_for_is_measured_and_the_plan_says_so(stack: Deployed) -> None:
    before = live(stack)
    code, _, progress = measure(stack)
    assert code == 0, progress
    found = yaml.safe_load((stack.project / f"workloads/{ENVIRONMENT}.yml").read_text())
    print(json.dumps(found))  # noqa: T201 - pytest -s shows what was seen
    assert 0.018 <= found["cpu_seconds"] <= 0.024, found
    assert 0.027 <= found["wait_seconds"] <= 0.033, found
    assert found["cpu_scv"] < 0.1, found
    assert 0 < found["longest_cpu_segment_seconds"] < 0.1, found
    assert found["preload_safe"] is True
    assert stack.shell(LEFTOVERS) == ""
    assert live(stack) == before

    path = stack.project / "farrier.yml"
    text = path.read_text()
    description = yaml.safe_load(text)
    description["environments"][ENVIRONMENT]["workload"] = f"workloads/{ENVIRONMENT}.yml"
    path.write_text(yaml.safe_dump(description))
    try:
        plan = json.loads(farrier(stack.project, "plan", ENVIRONMENT, "--json"))["hosts"][stack.name]
        assert plan["settings"]["gunicorn.preload_app"]["provenance"] == "measured"
        assert "(measured)" in farrier(stack.project, "plan", ENVIRONMENT)
    finally:
        path.write_text(text)


@pytest.mark.clock
def test_on_the_host_itself_what_its_log_holds_is_measured(stack: Deployed) -> None:
    """Without SSH, and with the requests of the log that the role's NGINX writes; an application that is not there is refused."""
    for _ in range(3):
        assert stack.get(URL).status == 200
    stack.get("/nowhere/")
    before = live(stack)
    sources = ["-C", str(ROOT), "constraints.txt", "generator/farrier", "templates"]
    project = ["-C", str(stack.project), "app", "farrier.yml", "inventory.yml"]
    packed = subprocess.run(["tar", "cz", *sources, *project], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run([*stack.ssh, "tar xz"], input=packed, check=True, timeout=60)
    needed = "ansible-core jinja2 pydantic pyyaml rich typer"
    install = f"python3 -m venv v && v/bin/pip install -q -c constraints.txt {needed}"
    local = f"PYTHONPATH=generator v/bin/python -m farrier measure {ENVIRONMENT} --local --seconds {SECONDS}"
    try:
        stack.run(install)
        stack.run("sudo grep -E '/(work|nowhere)/' /var/log/nginx/notes.access.log > access.log")
        said = stack.run(f"{local} --access-log access.log")  # as a user who may use sudo
        found = yaml.safe_load(stack.run(f"cat workloads/{ENVIRONMENT}.yml"))
        elsewhere = stack.run(
            f"sed -i 's/name: notes/name: mares/; s/notes_trial/mares_trial/' *.yml; {local} 2>&1; echo ends with $?"
        )
    finally:
        stack.run("rm -rf v generator templates app workloads access.log")
    assert "/work/?cpu_ms&wait_ms" in said
    assert "/nowhere/" not in said
    assert 0.018 <= found["cpu_seconds"] <= 0.024, found
    assert 0.027 <= found["wait_seconds"] <= 0.033, found
    assert f"host {stack.name}: mares has never been deployed here: its user mares does not exist" in " ".join(
        elsewhere.split()
    )
    assert "ends with 4" in elsewhere
    assert stack.shell(LEFTOVERS.replace("notes", "mares")) == ""
    assert stack.shell(LEFTOVERS) == ""
    assert live(stack) == before


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_leaves_nothing_behind(stack: Deployed, sent: signal.Signals) -> None:
    before = live(stack)
    with start(stack, "--seconds", "120") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "One request after the other" in line:
                break
        time.sleep(3)
        assert stack.shell(LEFTOVERS) != ""
        process.send_signal(sent)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert stack.shell(LEFTOVERS) == ""
    assert live(stack) == before


@pytest.mark.clock
def test_a_locust_file_says_what_to_ask_for(stack: Deployed) -> None:
    (stack.project / "users.py").write_text(USERS)
    code, said, progress = measure(stack, "--locustfile", "users.py", "--methods", "GET,POST")
    assert code == 0, progress
    split = [re.split(r" {2,}", line) for line in said.splitlines()]
    rows = {name: figures for name, *figures in split if len(figures) == 7}
    # Weight, status, requests, ms of CPU and of waiting, and more.
    assert rows["/work/?cpu_ms&wait_ms"][1] == "200"
    assert 7 <= float(rows["/work/?cpu_ms&wait_ms"][3]) <= 15
    assert rows["well"][1] == rows["POST /work/?wait_ms"][1] == "200"
    assert 8 <= float(rows["POST /work/?wait_ms"][4]) <= 15
    assert "note: paths are from 'users.py'" in said
    assert "note: POST /notes/new/: answers 403; not measured" in said


def test_a_path_that_does_not_answer_well_is_reported(stack: Deployed) -> None:
    change(stack.project, urls={"/nowhere/": 1})
    try:
        code, _, progress = measure(stack)
        assert code == 2
        assert f"farrier: host {stack.name}: no URL answers 2xx or 3xx: /nowhere/ answers 404" in progress
    finally:
        change(stack.project, urls={URL: 1})


@contextmanager
def appended(stack: Deployed, text: str) -> Iterator[None]:
    """The application with this at the end of its WSGI module; nothing of what is live or left may change by it."""
    before, directory = live(stack), stack.project / "changed"
    shutil.copytree(stack.project / "app", directory)
    with (directory / "notes/wsgi.py").open("a") as file:
        file.write(text)
    change(stack.project, source="changed")
    try:
        yield
    finally:
        change(stack.project, source="app")
        shutil.rmtree(directory)
    assert stack.shell(LEFTOVERS) == ""
    assert live(stack) == before


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


@contextmanager
def database(stack: Deployed) -> Iterator[None]:
    """A service on a socket that computes 10 ms for each connection: what a database on the same host does, only smaller."""
    stack.shell(
        f"mkdir -p /opt/base && cat >/opt/base/serve.py <<'END'\n{BASE}END\n"
        "systemd-run -q --unit base -p RuntimeDirectory=base python3 /opt/base/serve.py; "
        "until [ -S /run/base/socket ]; do sleep 0.1; done"
    )
    try:
        yield
    finally:
        stack.shell("systemctl stop base; rm -r /opt/base")


def spent(stack: Deployed) -> tuple[float, int]:
    """Seconds of CPU of the service, and for how many answers."""
    seconds, answers = stack.shell("cat /run/base/spent").split()
    return float(seconds), int(answers)


def application_seconds(stack: Deployed) -> float:
    """Seconds of CPU of all processes of the application, by the kernel's clock."""
    times = "for pid in $(pgrep -u notes); do sed 's/.*) //' /proc/$pid/stat; done"
    return float(stack.shell(f"{times} | awk '{{ticks += $12 + $13}} END {{print ticks / '$(getconf CLK_TCK)'}}'"))


@contextmanager
def live_with(stack: Deployed, text: str) -> Iterator[None]:
    """The slot that serves with this at the end of its WSGI module."""
    module, slot = "/srv/notes/active/release/notes/wsgi.py", "notes@$(basename $(readlink /srv/notes/active))"
    stack.shell(f"cp -p {module} /root/kept && cat >>{module} <<'END'\n{text}END\nsystemctl restart {slot}")
    try:
        yield
    finally:
        stack.shell(f"cp -p /root/kept {module} && systemctl restart {slot}")


def carried(stack: Deployed, url: str) -> tuple[float, int]:
    """Good answers a second to as many clients as keep the host busy, each of which asks again when it is answered."""
    begin = time.monotonic()
    end = begin + LOAD_SECONDS

    def client(_number: int) -> int:
        answers = 0
        while time.monotonic() < end:
            assert stack.get(url).status == 200
            answers += 1
        return answers

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = sum(pool.map(client, range(CLIENTS)))
    return answers / (time.monotonic() - begin), answers


@pytest.mark.clock
def test_what_another_service_computes_for_a_request_is_measured_and_planned_with(stack: Deployed) -> None:
    """8 ms in the application and 10 ms in the service on the one CPU, and what both take besides, carry what was predicted."""
    path, url = stack.project / "farrier.yml", "/work/?cpu_ms=8"
    text = path.read_text()
    change(stack.project, urls={url: 1})
    try:
        with database(stack):
            with appended(stack, ASKS_BASE):
                code, said, progress = measure(stack)
            assert code == 0, progress
            base_seconds, base_answers = spent(stack)
            with live_with(stack, ASKS_BASE):
                for _ in range(CLIENTS):  # every worker has loaded all that it needs
                    assert stack.get(url).status == 200
                before = application_seconds(stack)
                rps, answers = carried(stack, url)
                own_seconds = application_seconds(stack) - before
        found = yaml.safe_load((stack.project / f"workloads/{ENVIRONMENT}.yml").read_text())
        description = yaml.safe_load(path.read_text())
        description["environments"][ENVIRONMENT]["workload"] = f"workloads/{ENVIRONMENT}.yml"
        path.write_text(yaml.safe_dump(description))
        plan = json.loads(farrier(stack.project, "plan", ENVIRONMENT, "--json"))["hosts"][stack.name]
        seen = [base_seconds / base_answers, own_seconds / answers, rps]
        print(json.dumps([found, plan["predicted"], seen]))  # noqa: T201 - pytest -s shows what was seen
        assert found["other_services"] == ["base.service"], said
        assert "other_cpu_seconds" in found["measured"]
        # By the clocks of those who computed.
        assert found["other_cpu_seconds"] == pytest.approx(base_seconds / base_answers, rel=0.2), said
        assert found["cpu_seconds"] == pytest.approx(own_seconds / answers, rel=0.2), said
        # What both are told to compute is the least that any right clock shows.
        assert min(found["cpu_seconds"], own_seconds / answers) > 0.008
        assert base_seconds / base_answers > 0.010
        capacity = plan["predicted"]["capacity_rps"]
        own = found.get("busy_cpu_seconds", found["cpu_seconds"])  # with many requests under way, as at the capacity
        of_a_request = own + found["other_cpu_seconds"] + PROXY_CPU_SECONDS
        assert capacity == pytest.approx(1 / of_a_request, rel=0.02)
        assert capacity == pytest.approx(rps, rel=0.2), "what is carried is what was predicted"
        assert "ms of it in base.service on the same host." in plan["settings"]["gunicorn.workers"]["reason"]
    finally:
        path.write_text(text)
        (stack.project / f"workloads/{ENVIRONMENT}.yml").unlink(missing_ok=True)


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
