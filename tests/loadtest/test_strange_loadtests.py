"""What hosts, generators and workers answer to a load test, made strange: one sentence each, never a traceback."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from farrier.ansible.events import Result
from farrier.ansible.runner import Asked
from farrier.errors import FarrierError, HostError, InputError
from farrier.loadtest import process
from farrier.loadtest.inventory import inventory_host
from farrier.loadtest.job import Job
from farrier.loadtest.page import LoadtestResult, page, sentences
from farrier.loadtest.process import LoadGenerator
from farrier.loadtest.rows import StepResult
from farrier.loadtest.samples import Samples, summary, unpacked
from farrier.loadtest.step import step_from
from farrier.loadtest.tables import cells, csv_text
from farrier.loadtest.watch import Watch, host_state
from mutations import checked, event, mutated, seeded
from test_load_report import TOLD

NAMES = ("GET /", "GET /b")


def samples() -> Samples:
    """What a worker saw."""
    found = Samples(cpu_share=0.1, in_flight=1, drain_seconds=0.2)
    for number in range(60):
        found.add("200" if number % 9 else "503", number % 2, number / 10, 0.05 + number / 1000, 0.001)
    return found


WATCHED: dict[str, Any] = {
    "slot": "a", "workers": 2, "memory_mb": 120.5, "nginx": True, "time": 1000.0, "machine_cpus": 2,
    "running": {"workers": 2, "threads": 3, "worker_connections": 3, "backlog": 400, "worker_class": "gthread"},
    "samples": {
        "time": [999.0 + i / 2 for i in range(30)], "host": [i / 2 for i in range(30)], "slot": [0.4 * i for i in range(30)],
        "nginx": [0.05 * i for i in range(30)], "workers": [2] * 30, "main_pid": [77] * 30,
        "machine": [0.9 * i for i in range(30)], "stolen": [0.01 * i for i in range(30)],
        "services": [{"postgresql@15-main.service": 0.03 * i} for i in range(30)],
    },
}  # fmt: skip
STEP: dict[str, Any] = json.loads(
    json.dumps(summary([samples()], NAMES, rps=10, seconds=5, warm_seconds=1, begun=1001))
)
LOOKED: dict[str, Any] = {
    "address": "192.0.2.1",
    "names": ["web1", "192.0.2.1"],
    "groups": {"all": ["web1"], "web": ["web1"]},
}


def whole(watched: Any, step: Any) -> tuple[str, ...]:
    """Everything that a load test says of these answers, in all its forms."""
    watch = Watch(lambda phase: host_state(watched, "web1"))
    watch.end()
    taken = step_from(step)
    rows = (StepResult(taken, watch.usage(taken), TOLD.p95_seconds(taken.offered_rps)),)
    found = LoadtestResult(
        "production", TOLD, rows, "Sends", "now", (), watch.memory_mb, watch.running, watch.before.machine_cpus
    )
    csv_text(rows)
    cells(rows[0])
    return sentences(found)


def test_the_recorded_answers_are_taken() -> None:
    assert whole(WATCHED, STEP)[:1] == ("no rate was carried; at most 8.8 good responses a second; predicted 49.8",)
    assert page(LoadtestResult("production", TOLD, (), "Sends", "now"))


def test_mutated_answers_of_the_watch_and_the_generator() -> None:
    chance = seeded()
    taken = 0
    for number in range(4000):
        watched, step = (WATCHED, mutated(STEP, chance)) if number % 2 else (mutated(WATCHED, chance), STEP)
        try:
            said = whole(watched, step)
        except HostError as error:
            checked(error, ("host 'web1': what its watch", "the load generator: its answer"))
        else:
            taken += 1
            for line in said:
                assert line.isprintable(), line
                assert len(line) < 1000
    assert 50 < taken < 3000


def test_mutated_samples_of_a_worker() -> None:
    chance = seeded()
    strange: list[Any] = [
        None,
        -1,
        0.5,
        "x",
        b"",
        b"x",
        b"\xff" * 80,
        b"\xff" * 64,
        [],
        ["\x1b"],
        ["200"] * 3,
        {},
        1e400,
        2**70,
    ]
    refused = 0
    for _ in range(4000):
        packed = samples().packed()
        for key in chance.choices(list(packed), k=chance.randint(1, 2)):
            if chance.random() < 0.1:
                packed["x" + key] = packed.pop(key, 0)
            else:
                packed[key] = chance.choice(strange)
        try:
            step_from(json.loads(json.dumps(summary([unpacked(packed, 2)], NAMES, rps=10, seconds=5, warm_seconds=1))))
        except ValueError as error:
            refused += 1
            checked(HostError(str(error)), ("a worker's samples ",))
        except HostError as error:
            checked(error)
    assert refused > 3000


def test_mutated_answers_of_the_inventory() -> None:
    chance = seeded()
    for _ in range(3000):
        try:
            found = inventory_host(mutated(LOOKED, chance), "inventory.yml")
        except InputError as error:
            checked(error)
        else:
            assert found.address.isprintable()


def test_mutated_events_of_ansible() -> None:
    chance = seeded()
    answers: list[dict[str, Any]] = [
        {"measured": WATCHED},
        {"msg": "Failed", "stderr": "a\nb", "module_stderr": "sh: no python"},
    ]
    for number in range(4000):
        kind = chance.choice(["ok", "failed", "unreachable", "\x1b"])
        strange = mutated({"host": "web1", "answer": answers[number % 2]}, chance)
        found = event(kind, **(strange if isinstance(strange, dict) else {}))
        asked = Asked("web1")
        asked.take(found)
        failure = found.failure if isinstance(found, Result) else None
        for message in (*(failure or HostError()).messages, *(asked.failure or HostError()).messages):
            assert message.isprintable()
            assert len(message) < 1000
        assert isinstance(asked.answer, dict) == (asked.failure is None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("print('{')", "the load generator: its answer is not JSON: '{'"),
        ("print('[' * 100000)", "the load generator: its answer is not JSON: '" + "[" * 60 + "…'"),
        ("print('[]')", "the load generator: its answer is a list of 0; it must be an object"),
        ('print(\'{"error": "a\\\\u001b[31m\\\\nb"}\')', "the load generator: a?[31m b"),
        ("print('{\"error\": [[]]}')", "the load generator: [[]]"),
        ("sys.stderr.write('x\\n\\x1b[31mno memory\\n')", "the load generator ended by itself: ?[31mno memory"),
        (
            "sys.stdout.write('x' * 200)\nsys.stdout.flush()\ntime.sleep(60)",
            "the load generator: its answer is longer than 150 bytes",
        ),
    ],
)
def test_a_generator_that_answers_strangely_is_named(
    answer: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "longer than" in message:
        monkeypatch.setattr(process, "LONGEST_ANSWER", 150)
    program = tmp_path / "python"
    (tmp_path / "answer.py").write_text(f"import sys, time\nsys.stdin.readline()\n{answer}\n")
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/answer.py\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(FarrierError) as caught, LoadGenerator(Job("http://127.0.0.1:9", "www.example.org")):
        pass
    assert caught.value.messages == (message,)
    assert caught.value.exit_code == 4
