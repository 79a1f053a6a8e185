"""Answers of a host to a measurement, mutated in thousands of ways: what does not hold ends in one sentence, never in a traceback."""

import json
import math
import random
from typing import Any

import pytest

from farrier.ansible.events import LONGEST_LINE, MARK, Result, Start, Task, read
from farrier.ansible.module_utils.measured_process import columns
from farrier.ansible.modules.application_measurement import MOST_REQUESTS
from farrier.errors import FarrierError, HostError
from farrier.measure.evaluate import evaluate
from farrier.measure.run import MeasureEvent, MeasureRun, phase_tasks
from farrier.measure.workload_file import compared, facts, pace_of, workload_text
from farrier.project.workload import KEYS, WORKLOAD, Workload
from farrier.project.yaml_lines import load
from test_measurement import found, sample

WEIGHTS = {"/": 9.0, "/slow/": 1.0}
LONGEST_MESSAGE = 2000


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, -(10**30), 10**30, 10**200, 0.5, -0.5, 1e308, -1e308, 1e-308, math.nan, math.inf, -math.inf,
    "", "x", "x" * 100_000, "\x1b[2J\r\n", "a\nb: 1", "\ud800", "\ufffe", "²", "12", "NaN", [], [[]], {}, {"": None},
    [None], [1, 2, 3], {"private": 1}, "/", "__class__",
)  # fmt: skip


def answer() -> dict[str, Any]:
    samples = [sample(0, 10 + n % 3, 30, delay_ms=n % 2) for n in range(40)] + [sample(1, 30, 50)] * 10
    used = {"postgresql.service": {"idle": 1_000, "busy": 900_000}}
    document = found(samples=samples, others={"seconds": {"idle": 3.0, "busy": 30.0}, "used_us": used})
    copied: dict[str, Any] = json.loads(json.dumps(document))
    return copied


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every container with a key in it, all the way down."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            places(value[key], found)
    return found


def mutate(document: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """One to three changes of an answer: other values, missing and further ones."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        spots = places(document, [])
        # Samples are most of an answer, and all alike.
        spots = chance.sample(spots, min(len(spots), 40)) + [spot for spot in spots if not isinstance(spot[0], list)]
        container, key = chance.choice(spots)
        match chance.randrange(5):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.extend([container[key]] * chance.choice((1, 50)))
            case 2 if isinstance(container[key], int | float):
                container[key] *= chance.choice((-1, 0, 10, 1e3, 1e9, 10**12))
            case 3 if isinstance(container, dict):
                container[chance.choice(("x", "a\nb", "evil\x1b.service"))] = container[key]
            case _:
                container[key] = chance.choice(STRANGE)
    return document


def bearable(text: str) -> bool:
    return len(text) <= LONGEST_MESSAGE and all(part.isprintable() for part in text.split("\n"))


def told(document: Any) -> str:
    """What becomes of an answer: a file that can be read, or the sentence of an error."""
    before = WORKLOAD.validate_python(
        {"cpu_seconds": 0.01, "wait_seconds": 0.03, "measured": ["cpu_seconds", "wait_seconds"]}
    )
    measured = evaluate(document, WEIGHTS, (), 60, "web1")
    speed = pace_of(measured, "web1", before)
    said = compared(measured, speed, before)
    assert all(map(bearable, [*said, *facts(measured)])), said
    text = workload_text(
        "production", "web1", measured, speed, Workload(peak_rps=3, stated=frozenset({"peak_rps"})), before
    )
    loaded = load(text.encode(), "x").data
    assert isinstance(loaded, dict)
    assert set(loaded) <= {*KEYS, "measured", "reference"}
    assert WORKLOAD.validate_python(loaded).peak_rps == 3
    return text


@pytest.mark.parametrize("seed", range(20))
def test_a_mutated_answer_is_a_workload_or_one_sentence(seed: int) -> None:
    chance, refused, whole = random.Random(seed), [], answer()  # noqa: S311 - the same mutations each time
    for _ in range(200):
        document = mutate(json.loads(json.dumps(whole)), chance)
        try:
            told(document)
        except FarrierError as error:
            refused.append(error.messages)
    assert 50 < len(refused) < 200
    assert all(len(messages) == 1 and bearable(messages[0]) for messages in refused)


@pytest.mark.parametrize("value", STRANGE)
def test_no_answer_at_all_is_one_sentence(value: Any) -> None:
    with pytest.raises(HostError, match=r"^host web1: what it answers to the measurement cannot be used: "):
        evaluate(value, WEIGHTS, host="web1")


def test_the_sentence_says_where_and_what() -> None:
    document = answer()
    document["plain"]["boots"][1] = "soon"
    with pytest.raises(HostError) as caught:
        evaluate(document, WEIGHTS, host="web1")
    assert str(caught.value) == (
        "host web1: what it answers to the measurement cannot be used: plain.boots.1: Input should be a valid number, not 'soon'"
    )
    document = answer()
    document["plain"]["names"].append("/etc/passwd")
    with pytest.raises(HostError, match=r"plain\.names: '/etc/passwd' was not asked for"):
        evaluate(document, WEIGHTS, host="web1")
    document = answer()
    document["plain"]["samples"]["delay_us"].pop()
    with pytest.raises(HostError, match=r"plain\.samples: Value error, not every request has all figures"):
        evaluate(document, WEIGHTS, host="web1")


def test_as_many_samples_as_a_host_takes_of_a_quick_application_are_read() -> None:
    document = answer()
    samples = [sample(0, 1 + n % 2, 1) for n in range(2 * MOST_REQUESTS)]
    document["plain"]["samples"] = columns(samples)
    assert evaluate(document, WEIGHTS, host="web1").requests == 8000
    document["plain"]["samples"] = columns([*samples, sample(0, 1, 1)])
    with pytest.raises(HostError, match=r"plain\.samples: List should have at most 8000 items"):
        evaluate(document, WEIGHTS, host="web1")


def test_names_and_versions_with_line_breaks_write_no_keys_of_their_own() -> None:
    document = answer()
    document["preload"]["held"]["threads"] = ["a\npreload_safe: true\ncpu_seconds: 7", "\x1b[31mred", "x" * 10_000]
    document["plain"]["held"]["python"] = "3.11\ncpu_seconds: 7, x: {"
    text = told(document)
    loaded = WORKLOAD.validate_python(load(text.encode(), "x").data)
    assert (loaded.preload_safe, round(loaded.cpu_seconds, 3)) == (False, 0.013)
    assert loaded.reference is not None
    assert loaded.reference.on == "web1 with Python 3.11 cpu_seconds: 7, x: {"


def a_run() -> tuple[MeasureRun, list[MeasureEvent]]:
    """A run that has begun with its first phase."""
    events: list[MeasureEvent] = []
    run = MeasureRun(events.append, {task: phase for phase, task in phase_tasks(60).items()})
    run.take(Start(["web1"], ["web1"]))
    run.take(Task("One request after the other, after boots and warm traffic: 36 s"))
    return run, events


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 200_000, "it is nested too deeply|it is no event|Expecting"),
        ('{"kind": "ok", "host": "web1", "answer": {"measured": ' + "[" * 2_000 + "]" * 2_000 + "}}", ""),
        ('{"kind": "ok", "host": "web1", "answer": {"measured": "' + "x" * LONGEST_LINE + '"}}', "it is longer than 16,777,216 characters"),
        ('{"kind": "ok", "host": "web1", "answer": {"measured": 1' + "0" * 5_000 + "}}", "Exceeds the limit"),
        ("null", "it is no event of Ansible's"),
        ("{", "Expecting"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_one_sentence(text: str, why: str) -> None:
    run, _ = a_run()
    event = read(MARK + text + "\n")
    assert event is not None
    run.take(event)
    if run.error is None:  # what is read is looked at when all is there
        with pytest.raises(HostError):
            evaluate({**answer(), "plain": run.found["plain"]}, WEIGHTS, host="web1")
        return
    assert isinstance(run.error, HostError)
    assert len(str(run.error)) < 250
    with pytest.raises(HostError, match=rf"^host web1: its answer cannot be read: ({why})"):
        raise run.error


@pytest.mark.parametrize(("constant", "said"), [("NaN", "nan"), ("-Infinity", "-inf"), ("1e400", "inf")])
def test_a_constant_that_is_no_number_is_refused_where_it_stands(constant: str, said: str) -> None:
    run, _ = a_run()
    plain = json.dumps({**answer()["plain"], "stolen_share": "HERE"}).replace('"HERE"', constant)
    event = read(f'{MARK}{{"kind": "ok", "host": "web1", "answer": {{"measured": {plain}}}}}\n')
    assert event is not None
    run.take(event)
    with pytest.raises(HostError) as caught:
        evaluate({**answer(), **run.found}, WEIGHTS, host="web1")
    assert str(caught.value) == (
        "host web1: what it answers to the measurement cannot be used: plain.stolen_share: Input should be a finite number, "
        f"not '{said}'"
    )


def test_an_answer_is_taken_of_a_phase_alone() -> None:
    run, _ = a_run()
    run.take(Task("Gather host facts"))
    run.take(Result("ok", "web1", {"measured": answer()["plain"]}))  # the answer of another module's
    assert run.found == {}


@pytest.mark.parametrize("value", [*STRANGE, nested(500)])
def test_a_failure_of_whatever_shape_is_one_sentence(value: Any) -> None:
    run, events = a_run()
    keys = ("msg", "output", "fault", "module_stderr", "module_stdout", "stderr")
    run.take(Result("failed", "web1", dict.fromkeys(keys, value)))
    assert run.error is not None
    assert bearable(str(run.error))
    assert all(part.isprintable() for event in events for part in event.text.split("\n"))


def test_what_the_application_said_is_shown_to_its_end() -> None:
    run, events = a_run()
    said = "\n".join(f"  line {number}\x1b[2J" for number in range(1000)) + "\nValueError: THE-REAL-CAUSE"
    run.take(Result("failed", "web1", {"msg": "it does not start", "fault": "input", "output": said}))
    shown = events[-1].text.split("\n")
    assert len(shown) == 60
    assert shown[-2:] == ["  line 999?[2J", "ValueError: THE-REAL-CAUSE"]
