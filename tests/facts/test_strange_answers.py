"""Answers of hosts, and files of facts, that are none: thousands of mutated ones end in bounded printable lines, never otherwise."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from farrier.ansible.events import LONGEST_LINE, MARK, Event, Result, Start, Unreadable, read
from farrier.ansible.module_utils.farrier_probe import probe
from farrier.errors import FarrierError, HostError
from farrier.facts.files import import_facts, read_facts
from farrier.facts.gather import CollectResult, Gathering, HostEvent, collect
from mutations import LONGEST_MESSAGE, checked, event, mutated, seeded


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """What this machine answers, with all that may be there."""
    document: dict[str, Any] = json.loads(json.dumps(probe("/", "notes")))
    document["cpus"] |= {
        "usable": 1.5,
        "quota": 2.0,
        "quota_source": "/sys/fs/cgroup/cpu.max",
        "online": 4,
        "affinity": 4,
    }
    document["memory_mb"] |= {"usable": 900, "limit": 1024, "limit_source": "/sys/fs/cgroup/memory.max", "total": 4096}
    document["system"] |= {"distribution": "Debian", "version": "12", "systemd": 252, "python": "3.11.2"}
    document["others"] = [{"name": "postgresql@15-main.service", "memory_mb": 96, "cpus": 0.2}]
    return document


def gathered(host: str, facts: object) -> Event:
    """A host has answered."""
    return event("ok", host=host, answer={"facts": facts})


def test_mutated_answers_are_that_hosts_alone_and_never_a_traceback(recorded: dict[str, Any], tmp_path: Path) -> None:
    chance = seeded()
    kept = failed = 0
    for number in range(3000):
        events: list[HostEvent] = []
        run = Gathering(tmp_path, events.append)
        run.take(event("start", hosts=["web1", "web2"], inventory=["web1", "web2"]))
        run.take(gathered("web1", mutated(recorded, chance)))
        run.take(gathered("web2", recorded))
        assert "web2" in run.gathered, number
        assert set(run.gathered) | set(run.failed) == {"web1", "web2"}
        for each in events:
            assert each.reason.isprintable()
            assert len(each.reason) <= LONGEST_MESSAGE
        if run.failed:
            failed += 1
            error = CollectResult(tuple(run.gathered), run.failed, ()).raise_for_failed
            with pytest.raises(HostError) as caught:
                error()
            checked(caught.value)
        else:
            kept += 1
        # What was kept can be planned with, and so can what was kept before.
        assert set(read_facts(tmp_path)) >= {"web2"}
        assert max(path.stat().st_size for path in tmp_path.iterdir()) < 20_000
    assert kept > 200
    assert failed > 1500


def test_mutated_lines_of_ansible_are_no_events(recorded: dict[str, Any], tmp_path: Path) -> None:
    chance = seeded()
    start = {"kind": "start", "hosts": ["web1"], "inventory": ["web1"]}
    answer = {"kind": "ok", "host": "web1", "answer": {"facts": recorded}}
    said = {"msg": "Failed", "module_stderr": "sh: no python", "module_stdout": ""}
    failure = {"kind": "failed", "host": "web1", "answer": said}
    for number in range(3000):
        run = Gathering(tmp_path, lambda event: None)
        line = MARK + json.dumps(mutated(chance.choice([start, answer, failure]), chance))
        cut = line[: chance.randrange(len(line))] if number % 5 == 0 else line
        if event := read(cut):
            run.take(event)
        for name, reason in run.failed.items():
            assert name.isprintable()
            assert reason.isprintable()
            assert len(reason) <= LONGEST_MESSAGE


@pytest.mark.parametrize(
    "rest",
    [
        "", "{", "[]", "null", '{"kind": "start"}', '{"kind": "start", "hosts": "web1", "inventory": []}',
        '{"kind": "start", "hosts": [1], "inventory": []}', '{"kind": "start", "hosts": [], "inventory": [{}]}',
        '{"kind": "ok"}', '{"kind": "ok", "host": "web1"}', '{"kind": "ok", "host": "web1", "answer": []}',
        '{"kind": "ok", "host": ["web1"], "answer": {}}', '{"kind": "task"}', '{"kind": "task", "name": 1}',
        '{"kind": ["start"]}', '{"kind": ["ok"], "host": "web1", "answer": {}}', "[" * 100_000, "1" * 5000,
        '{"host": "web1"}', '{"kind": "gathered", "host": "web1", "answer": {}}',
        '{"kind": "ok", "host": "web1", "answer": {"facts": "' + "x" * LONGEST_LINE + '"}}',
    ],
    ids=range(21),  # not the lines themselves
)  # fmt: skip
def test_what_is_no_event_tells_nothing(rest: str, tmp_path: Path) -> None:
    found = read(MARK + rest)
    assert isinstance(found, Unreadable)
    assert found.why.isprintable()
    assert 0 < len(found.why) <= 100
    run = Gathering(tmp_path, lambda event: None)
    run.take(found)
    assert (run.start, run.gathered, run.failed) == (None, [], {})


def test_a_line_without_the_mark_is_none_of_the_callbacks() -> None:
    line = json.dumps({"kind": "start", "hosts": ["web1"], "inventory": ["web1", "web2"]})
    assert read(MARK + line) == Start(["web1"], ["web1", "web2"])
    for forged in (line, f"farrier-event {line}", f" {MARK}{line}", f"farrier-event-{'0' * 16} {line}"):
        assert read(forged) is None


def test_mutated_files_of_facts_are_named_and_never_a_traceback(recorded: dict[str, Any], tmp_path: Path) -> None:
    chance = seeded()
    setup = {"ansible_facts": {
        "ansible_processor_nproc": 2, "ansible_processor_vcpus": 4, "ansible_memtotal_mb": 4096, "ansible_kernel": "6.1",
        "ansible_distribution": "Debian", "ansible_distribution_version": "12", "ansible_distribution_release": "bookworm",
        "ansible_service_mgr": "systemd", "ansible_python_version": "3.11.2", "ansible_systemd": {"version": 252},
        "ansible_mounts": [{"mount": "/", "size_available": 10**10, "size_total": 2 * 10**10}],
    }, "changed": False}  # fmt: skip
    wrapped = {"__payload__": json.dumps(setup["ansible_facts"])}
    failure = {"msg": "no python", "failed": True}
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.mkdir()
    for number in range(3000):
        kind = chance.choice([recorded | {"host": "web1"}, setup, wrapped, failure])
        text = json.dumps(mutated(kind, chance))
        (given / "web1").write_text(text[: chance.randrange(len(text))] if number % 7 == 0 else text)
        try:
            assert import_facts(given, taken) == ("web1",)
        except FarrierError as error:
            checked(error)
        else:
            assert (taken / "web1.json").stat().st_size < 20_000
            assert list(read_facts(taken)) == ["web1"]


def test_a_fact_of_20_mb_does_not_take_the_place_of_an_earlier_file(recorded: dict[str, Any], tmp_path: Path) -> None:
    run = Gathering(tmp_path, lambda event: None)
    run.take(gathered("web1", recorded))
    before = (tmp_path / "web1.json").read_bytes()
    for place in ("kernel", "system"):
        strange = {**recorded, place: {**recorded[place], "release": "x" * 20_000_000, "codename": "x" * 20_000_000}}
        run.take(Result("ok", "web1", {"facts": strange}))
        assert run.failed["web1"].endswith("it must be text of at most 256 printable characters")
    # What no plan reads is not kept, however large.
    run.take(Result("ok", "web2", {"facts": {**recorded, "more": "x" * 20_000_000}}))
    assert (tmp_path / "web1.json").read_bytes() == before
    assert (tmp_path / "web2.json").stat().st_size < 20_000


@pytest.mark.programs
def test_each_strange_host_is_named_and_the_others_are_gathered(
    recorded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real Ansible: interpreters of the hosts that answer what they like."""
    monkeypatch.setattr("farrier.facts.gather.require_supported", lambda facts: None)
    forged = MARK + json.dumps({"kind": "ok", "host": "good", "answer": {"facts": recorded}})
    without_disk = json.dumps({"facts": {key: value for key, value in recorded.items() if key != "disk_mb"}})
    wrong = (
        '{"schema": 1, "cpus": {"usable": NaN}, "memory_mb": {"usable": -1}, "kernel": {}, "system": {}, "disk_mb": {}}'
    )
    answers = {
        "nodisk": repr(without_disk),
        "null": repr('{"facts": null}'),
        "list": repr('{"facts": []}'),
        "deep": """'{"facts": ' + "[" * 2000 + "]" * 2000 + "}" """,
        "large": """'{"facts": "' + "x" * 20_000_000 + '"}' """,
        "nan": repr(f'{{"facts": {wrong}}}'),
        "number": """'{"facts": ' + "1" * 6000 + "}" """,
        "forger": repr(f"\n{forged}\n"),
        "nothing": "''",
    }
    lines = [f"good ansible_connection=local ansible_python_interpreter={sys.executable}"]
    for name, answer in answers.items():
        program = tmp_path / f"python-{name}"
        (tmp_path / f"{name}.py").write_text(f"import sys\nsys.stdout.write({answer})\n")
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/{name}.py\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        lines.append(f"{name} ansible_connection=local ansible_python_interpreter={program}")
    (tmp_path / "inventory").write_text("\n".join(lines) + "\n")
    output = tmp_path / "facts"
    result = collect(Path("inventory"), "notes", output, cwd=tmp_path)
    assert result.gathered == ("good",)
    assert set(result.failed) == set(answers)
    assert [path.name for path in output.iterdir()] == ["good.json"]
    with pytest.raises(HostError) as caught:
        result.raise_for_failed()
    checked(caught.value)
    assert result.failed["nodisk"] == "disk_mb is missing from the answer; gather the facts again"
    assert result.failed["null"] == "the answer is None; it must be an object with facts"
    assert result.failed["list"] == "the answer is a list of 0; it must be an object with facts"
    assert result.failed["large"] == "the answer is of 20,000,013 characters; at most 1,000,000 are taken"
    assert result.failed["nan"] == (
        "cpus.usable is nan; it must be a number above 0 to 4096; memory_mb.usable is -1; it must be a whole number from 1 to "
        "67108864"
    )
