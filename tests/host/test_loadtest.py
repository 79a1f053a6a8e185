"""The example application on a host with one CPU, loaded beyond what its plan says; its cost is known beforehand."""

import csv
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from deployed import Deployed, ended, started
from known_cost import COST, URL, change
from testbed import ENVIRONMENT

pytestmark = [pytest.mark.host, pytest.mark.clock]

WATCHES = "ls -d /run/farrier-loadtest 2>&1 | grep -v 'No such'; true"


@pytest.fixture
def stack(known_cost: Deployed) -> Deployed:
    return known_cost


def start(stack: Deployed, *arguments: str) -> subprocess.Popen[str]:
    return started(stack, "loadtest", ENVIRONMENT, "--url", f"http://127.0.0.1:{stack.http_port}", *arguments)


def loadtest(stack: Deployed, *arguments: str) -> tuple[int, str, str]:
    """Exit code, result and progress."""
    return ended(start(stack, *arguments))


def figures(stack: Deployed, name: str = "loadtests/trial") -> list[dict[str, str]]:
    with (stack.project / name / f"{stack.name}.csv").open() as file:
        return list(csv.DictReader(file))


def generator_of(parent: int) -> list[int]:
    """The generator that this process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
            if int(words[1]) == parent and b"loadtest.load_generator" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended before it said {words!r}")


def test_the_host_is_loaded_beyond_its_capacity_and_the_report_says_what_it_cost(stack: Deployed) -> None:
    code, said, progress = loadtest(stack, "--seconds", "4", "--steps", "3", "--up-to", "1.4")
    assert code == 0, progress
    assert f"Sending GET {URL} to http://127.0.0.1:{stack.http_port} as trial.example.org: 3 steps of 5 s" in " ".join(
        progress.split()
    )
    rows = figures(stack)
    assert len(rows) == 3
    lowest, highest = rows[0], rows[-1]
    # One CPU carries less than 50 requests of 20 ms a second, and the last rate is 1.4 times the prediction.
    assert (lowest["carried"], highest["carried"]) == ("yes", "no")
    assert 35 < float(highest["good_rps"]) < 50
    assert 0.9 < float(highest["host_cpu"]) <= 1.05
    assert 0.018 < float(lowest["application_cpu"]) / float(lowest["good_rps"]) < 0.026
    assert 0 < float(lowest["nginx_cpu"]) < 0.05
    assert 0 <= float(lowest["other_services_cpu"]) < 0.2
    assert float(lowest["elsewhere_cpu"]) > 0, "the load generator runs on the same machine, outside this host"
    assert float(lowest["stolen_cpu"]) >= 0
    assert "does not run this plan" not in said
    assert lowest["ready_workers"] == str(stack.settings["gunicorn.workers"])
    assert 0.05 < float(lowest["p50_seconds"]) < 0.075
    assert float(highest["p95_seconds"]) > 0.5
    assert all(row["generator_limited"] == "no" for row in rows)
    assert re.search(
        r"highest rate carried: [\d.]+ requests a second; at most [\d.]+ good responses a second; predicted", said
    )
    assert "p95 objective of 500 ms: missed at" in said
    report = (stack.project / f"loadtests/trial/{stack.name}.html").read_text()
    assert report.count("<svg") == 1
    assert "highest rate carried" in report
    assert stack.shell(WATCHES) == ""


def test_a_plan_made_with_wrong_figures_has_its_term_named(stack: Deployed) -> None:
    change(stack.project, workload={**COST, "cpu_seconds": 0.01})
    try:
        code, said, progress = loadtest(stack, "--seconds", "4", "--steps", "2", "--up-to", "0.4", "--output", "wrong")
    finally:
        change(stack.project, workload=COST)
    assert code == 0, progress
    assert "measurement and prediction differ:" in said
    words = " ".join(said.split())
    assert re.search(
        r"the host does not run this plan: 2 x 3 \(backlog \d+\) running, \d+ x \d+ \(backlog \d+\) planned; "
        r"deploy, or restore the deployed plan, and test again (highest rate carried|no rate was carried)",
        words,
    )
    assert not re.search(r"^P: ", said, re.M), "all workers of what runs were ready"
    assert re.search(
        r"^C: a request used 2[\d.]+ ms of CPU at [\d.]+ requests a second; planned with 10 ms \(\+1\d\d %\)$",
        said,
        re.M,
    )
    assert len(figures(stack, "wrong")) == 2


def test_workers_on_hosts_of_a_group_find_the_generator_through_ssh_and_are_removed(stack: Deployed) -> None:
    options = ("--seconds", "4", "--steps", "1", "--up-to", "0.3", "--workers", "1", "--workers-from", "all")
    code, _, progress = loadtest(stack, *options, "--output", "elsewhere")
    assert code == 0, progress
    assert "Locust is put onto 1 host of all" in progress
    (row,) = figures(stack, "elsewhere")
    # The port is one of this machine: the worker on the host itself finds nobody there, which tells its requests apart.
    assert int(row["good"]) + int(row["other_errors"]) == int(row["offered"])
    assert int(row["good"]) == pytest.approx(int(row["offered"]) / 2, rel=0.5)
    left = (
        "ls -d /home/*/.cache/farrier-loadtest-* 2>&1 | grep -v 'No such'; pgrep -f '[l]oadtest.load_generator'; true"
    )
    assert stack.shell(left) == ""


def test_a_generator_that_is_the_limit_gives_no_result(stack: Deployed) -> None:
    with start(stack, "--seconds", "4", "--steps", "2", "--up-to", "0.5", "--output", "limited") as process:
        until(process, "Step 1 of 2")
        time.sleep(2.5)
        (generator,) = generator_of(process.pid)
        os.kill(generator, signal.SIGSTOP)
        time.sleep(1)
        os.kill(generator, signal.SIGCONT)
        said, progress = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "farrier: inconclusive: the load generator was the limit: at" in progress
    assert "highest rate carried" not in said
    assert [row["generator_limited"] for row in figures(stack, "limited")] == ["yes"]
    assert (
        "inconclusive: the load generator was the limit" in (stack.project / f"limited/{stack.name}.html").read_text()
    )


def test_an_interrupted_run_sends_nothing_more_and_leaves_nothing_behind(stack: Deployed) -> None:
    with start(stack, "--seconds", "30", "--output", "interrupted") as process:
        until(process, "Step 1 of 8")
        time.sleep(1)
        assert stack.shell(WATCHES) != ""
        (generator,) = generator_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert not Path(f"/proc/{generator}").exists()
    assert stack.shell(WATCHES) == ""
    assert not (stack.project / "interrupted").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ("--url", "http://www.example.net"),
            2,
            "'www.example.net' is neither in the inventory of trial nor one of its domains",
        ),
        (
            ("--url", "http://127.0.0.1:9"),
            4,
            "http://127.0.0.1:9 cannot be reached: connection refused; nothing was sent",
        ),
        (("--host", "web9"), 2, "--host 'web9' is not planned in trial; known are known-cost"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_line(
    stack: Deployed, arguments: Sequence[str], code: int, reason: str
) -> None:
    status, said, progress = loadtest(stack, "--seconds", "3", "--steps", "2", *arguments)
    assert status == code
    assert said == ""
    assert f"farrier: {reason}" in progress or f"{reason}" in progress.splitlines()[-1]
    assert stack.shell(WATCHES) == ""
