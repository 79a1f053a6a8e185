"""The example application is measured beside its live slot on a host with one CPU; its cost is known beforehand."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import yaml

from deployed import Deployed
from farrier.policy import PROXY_CPU_SECONDS
from known_cost import URL, change
from measuring import LEFTOVERS, SECONDS, appended, live, measure, start
from testbed import ENVIRONMENT, ROOT, farrier

pytestmark = pytest.mark.host

LOAD_SECONDS = 6
CLIENTS = 8
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


@pytest.fixture(scope="module")
def stack(known_cost: Deployed) -> Deployed:
    """Nothing is stated of its cost, so that a figure is either measured or missing."""
    change(known_cost.project, workload={"peak_rps": 3})
    return known_cost


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
    # A later measurement is scaled to the machine's speed at the first one, and no clock of today's shows that.
    (stack.project / f"workloads/{ENVIRONMENT}.yml").unlink(missing_ok=True)
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
        assert found["other_cpu_seconds"] == pytest.approx(base_seconds / base_answers, rel=0.15), said
        assert found["cpu_seconds"] == pytest.approx(own_seconds / answers, rel=0.15), said
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
