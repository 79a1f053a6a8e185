"""What `farrier measure` reads and is refused: paths, workload files; and what it asks Ansible for."""

import importlib.util
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import farrier
from farrier.errors import HostError, InputError
from farrier.facts.model import HostFacts
from farrier.measure.requests import of_urls
from farrier.measure.run import MeasureOptions, _require_systemd, _write, measure, most_threads
from farrier.plan.model import Provenance
from farrier.plan.planner import plan_all
from farrier.project.reading import read_project, read_workload
from farrier.project.workload import Workload

PROJECT = """\
application:
  name: notes
  wsgi: notes.wsgi:application
  urls: {urls}
environments:
  production: {{inventory: hosts.yml, domain: www.example.org, workload: w.yml}}
"""


ASKED = of_urls({"/": 3.0})


def write(directory: Path, urls: str = "{/: 3}", workload: str = "{}") -> Path:
    (directory / "w.yml").write_text(workload)
    path = directory / "farrier.yml"
    path.write_text(PROJECT.format(urls=urls))
    return path


def test_paths_may_have_a_query(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, "{'/work/?cpu_ms=20&wait_ms=30': 0.5, /: 3}"))
    assert project.application.urls == {"/work/?cpu_ms=20&wait_ms=30": 0.5, "/": 3}


@pytest.mark.parametrize(
    "urls",
    ["{notes/: 1}", "{/: 0}", "{/: -1}", "{/: much}", "{'/{{ x }}': 1}", "{'/a b': 1}", "[/]", "{'/a\\r\\nX: y': 1}"],
)
def test_impossible_paths_and_weights_are_refused(tmp_path: Path, urls: str) -> None:
    with pytest.raises(InputError, match=r"farrier\.yml:\d+: application\.urls"):
        read_project(write(tmp_path, urls))


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        ("wait_seconds: -0.1", "w.yml:1: wait_seconds: '-0.1' should be greater than or equal to 0"),
        ("memory_shared_mb: -3", "w.yml:1: memory_shared_mb: '-3' should be greater than or equal to 0"),
        (
            "{memory_shared_mb: 90, memory_total_mb: 80}",
            "memory_shared_mb 90 is not less than memory_total_mb 80, of which it is a part",
        ),
        ("memory_total_mb: 30", "memory_shared_mb 35, which is assumed, is not less than memory_total_mb 30"),
        (
            "{memory_private_mb: 45, memory_shared_mb: 35, memory_total_mb: 60}",
            "memory_private_mb 45 and memory_shared_mb 35 make 80 MB, not memory_total_mb 60; remove one of them",
        ),
        ("cpu_scv: -1", "w.yml:1: cpu_scv: '-1' should be greater than or equal to 0"),
        ("memory_thread_mb: 0", "w.yml:1: memory_thread_mb: '0' should be greater than or equal to 0.05"),
        ("proxy_cpu_seconds: 2", "w.yml:1: proxy_cpu_seconds: '2' should be less than or equal to 1"),
        ("longest_cpu_segment_seconds: 0", "w.yml:1: longest_cpu_segment_seconds: '0' should be greater than 0"),
        (
            "{longest_cpu_segment_seconds: 31, request_limit_seconds: 30}",
            "longest_cpu_segment_seconds 31 is more than a whole request may take, which is request_limit_seconds 30",
        ),
        ("measured: [cpu_seconds]", "measured names cpu_seconds, which has no value here"),
        ("measured: [peak_rps]", "measured.0: 'peak_rps'"),
        ("cpu_seconds: 40", "a request takes 40.03 s of CPU and wait, which is more than request_limit_seconds 30"),
    ],
)
def test_impossible_figures_are_refused(tmp_path: Path, workload: str, message: str) -> None:
    project = read_project(write(tmp_path, workload=workload))
    with pytest.raises(InputError) as error:
        read_workload(project.environments["production"], tmp_path)
    assert message in str(error.value)


def test_what_nobody_stated_has_a_default() -> None:
    work = Workload()
    assert (work.cpu_scv, work.service_scv, work.memory_thread_mb, work.proxy_cpu_seconds) == (0.0, 0.0, 0.5, 0.0003)
    assert (work.longest_cpu_segment_seconds, work.busy_cpu_seconds) == (None, None)
    assert work.host_cpu_seconds == pytest.approx(0.0203), "with what NGINX takes"
    assert Workload(busy_cpu_seconds=0.016).host_cpu_seconds == pytest.approx(0.0163), "the busy host is what is sized"


def test_private_memory_is_what_is_left_of_the_total(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, workload="{memory_shared_mb: 30, memory_total_mb: 80}"))
    work = read_workload(project.environments["production"], tmp_path)
    assert (work.memory_private_mb, work.memory_shared_mb) == (50, 30)
    assert work.stated == {"memory_private_mb", "memory_shared_mb"}


def test_a_thread_costs_what_the_workload_says() -> None:
    known = frozenset({"memory_private_mb", "memory_shared_mb", "memory_thread_mb"})
    work, other = (Workload(wait_seconds=0.2, memory_thread_mb=each, stated=known) for each in (12, 0.5))
    small = HostFacts(host="web1", cpus=1, memory_mb=640)
    plan, ordinary = (plan_all([small], each, {})["web1"].settings for each in (work, other))
    assert (ordinary["gunicorn.workers"].value, ordinary["gunicorn.threads"].value) == (2, 10)  # 2 x 9 reach 99.37 %
    # 35 + 80 + 13 x 12 = 271 of 280 MB: a second process of 80 MB would leave its threads too little.
    assert "35 MB master + 1 x (80 MB worker + 13 x 12 MB threads) = 271 MB." in plan["gunicorn.workers"].reason


def test_reasons_say_which_figures_were_measured() -> None:
    names = frozenset({"cpu_seconds", "wait_seconds", "boot_seconds"})
    settings = plan_all([HostFacts(host="web1", cpus=2, memory_mb=4000)], Workload(stated=names, measured=names), {})[
        "web1"
    ].settings
    assert "a request waits 30 ms and takes 20.3 ms of CPU (measured)" in settings["gunicorn.threads"].reason
    assert settings["gunicorn.workers"].reason.endswith("at 20.3 ms of CPU each (measured), 0.3 ms of it NGINX's.")
    assert settings["gunicorn.timeout"].reason.endswith("the 3 s that a worker takes to start (measured).")
    assert settings["gunicorn.workers"].provenance is Provenance.CALCULATED


def test_measured_preload_is_measured_in_the_plan() -> None:
    measured = frozenset({"preload_safe"})
    for safe in (True, False):
        work = Workload(preload_safe=safe, stated=measured, measured=measured)
        plan = plan_all([HostFacts(host="web1", cpus=2, memory_mb=4000)], work, {})["web1"]
        setting = plan.settings["gunicorn.preload_app"]
        assert (setting.value, setting.provenance) == (safe, Provenance.MEASURED)
        assert setting.reason.startswith("Measured: importing starts ")


def test_the_playbook_measures_on_one_host_and_always_cleans_up(tmp_path: Path) -> None:
    project = read_project(write(tmp_path))
    _write(tmp_path, project, "production", tmp_path, ASKED, MeasureOptions(None, 60))
    (play,) = yaml.safe_load((tmp_path / "measure.yml").read_text())
    assert play["hosts"] == "all[0]"
    block = play["tasks"][-1]
    phases = [task["application_measurement"] for task in block["block"] if "application_measurement" in task]
    assert [phase.get("seconds") for phase in phases] == [60, 36.0, 9.0, 15.0]
    (request,) = json.loads((tmp_path / "requests.json").read_text())
    assert [phase.get("threads") for phase in phases] == [None, 32, 32, 32]
    assert request == {"name": "/", "method": "GET", "path": "/", "headers": {}, "body": "", "weight": 3.0}
    assert block["always"][0]["application_measurement"] == {"phase": "clean"}
    # Whatever ansible.cfg and the inventory say: steps in order, no sudo here, and no pipelining where sudo needs a terminal.
    assert play["strategy"] == "ansible.builtin.linear"
    packing = next(task for task in play["tasks"] if task["name"] == "Pack the source")
    assert (packing["become"], packing["vars"]["ansible_become"]) == (False, False)
    assert "ansible_pipelining" not in play["vars"]
    _write(tmp_path, project, "production", tmp_path, ASKED, MeasureOptions("web2", 60, local=True))
    (clean,) = yaml.safe_load((tmp_path / "clean.yml").read_text())
    assert (clean["hosts"], clean["vars"]["ansible_connection"]) == ("web2", "local")
    assert clean["vars"]["ansible_pipelining"] is True
    assert "ansible_connection" not in play["vars"]
    assert play["become"] is True


@pytest.mark.parametrize(("granted", "threads"), [(None, 32), (90, 32), (20, 10), (1, 1)])
def test_a_measurement_takes_only_connections_that_a_deploy_would(granted: int | None, threads: int) -> None:
    assert most_threads(granted) == threads


def test_local_needs_systemd(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"--local: this machine was not started by systemd \(.*/none is missing\)"):
        _require_systemd("production", tmp_path / "none")
    _require_systemd("production", tmp_path)


@pytest.fixture(scope="module")
def living() -> ModuleType:
    path = Path(farrier.__file__).parent / "ansible/module_utils/measured_process.py"
    spec = importlib.util.spec_from_file_location("measured_process", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_paths_take_turns_by_weight(living: ModuleType) -> None:
    assert list(itertools.islice(living.in_turn([2, 1]), 6)) == [0, 1, 0, 0, 1, 0]
    assert list(itertools.islice(living.in_turn([1]), 3)) == [0, 0, 0]


def test_addresses_are_readable(living: ModuleType) -> None:
    assert living.address("0100007F:1538") == "127.0.0.1:5432"
    assert living.address("00000000000000000000000001000000:1F90") == "::1:8080"


def test_what_was_stolen_of_each_cpu(living: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(
        "cpu  500 20 300 9000 70 10 70 50 40 0\ncpu0 5 2 3 9 7 1 7 20 4 0\ncpu1 0 0 0 0 0 0 0 30 0 0\n"
    )
    ticks = os.sysconf("SC_CLK_TCK")
    assert living.machine_seconds(str(tmp_path / "stat")) == (900 / ticks, 50 / ticks)
    assert living.stolen_seconds(str(tmp_path / "stat")) == 25 / ticks
    assert living.stolen_seconds() >= 0


def error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the question
        call()
    return caught.value


def test_what_a_vanished_process_leaves_is_told_from_a_missing_file(living: ModuleType, tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "nobody-listens"))
        for call in (
            lambda: client.connect(str(tmp_path / "no-socket")),
            lambda: client.connect(str(tmp_path / "nobody-listens")),
            lambda: living.memory_kb(gone.pid),
            lambda: living.schedule_ns([gone.pid]),
            lambda: living.cpu_ns(gone.pid),
        ):
            assert living.vanished(error_of(call))
    assert not living.vanished(error_of((tmp_path / "no-file").read_text))
    assert not living.vanished(error_of(lambda: subprocess.run(["no-such-program"], check=False)))
    assert not living.vanished(None)


@pytest.mark.parametrize("host", ["web*", "web1,web2", "web1:web2", "all[0]", "!web1", "-i", ""])
def test_one_host_is_named_and_no_pattern(tmp_path: Path, host: str) -> None:
    project = read_project(write(tmp_path))
    with pytest.raises(InputError, match="must be the name of one inventory host"):
        measure(project, "production", tmp_path, ASKED, MeasureOptions(host, 60), print)


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    project = read_project(write(tmp_path))
    with pytest.raises(InputError, match=r"inventory 'hosts\.yml' does not exist"):
        measure(project, "production", tmp_path, ASKED, MeasureOptions(None, 60), print)
