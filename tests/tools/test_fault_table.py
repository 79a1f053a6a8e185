"""The table of faults: its order, what it says of rows that nobody ran, and when a taken-away protection was noticed."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fault_table import FAULTS, HEAD, Seen, main, table

pytest_plugins = ["pytester"]

KILLED = Seen("6: 1 of 3 workers are killed", held=True, requests=300, lost=4, p99_ms=61.4, rest_p99_ms=30)


def cells(line: str) -> list[str]:
    return [line[:84].rstrip(), *line[84:].split()]


def test_rows_come_in_the_order_of_the_faults_with_what_was_taken_away_below() -> None:
    seen = [
        Seen("stop-start: a deploy", held=True),
        Seen("7: the master is killed", held=False, without="KillMode=control-group"),
        Seen("7: the master is killed", held=True, requests=10, p99_ms=5, rest_p99_ms=4),
        KILLED,
        Seen("7: the master is killed and cannot start for 5 s", held=False),
    ]
    assert [cells(line) for line in table(seen, cgroup_v2=True)] == [
        cells(HEAD),
        *[[f"{number}: {FAULTS[number]}", "not", "run"] for number in (1, 2, 3, 4, 5)],
        ["6: 1 of 3 workers are killed", "held", "300", "4", "61", "30"],
        ["7: the master is killed", "held", "10", "0", "5", "4"],
        ["7: the master is killed and cannot start for 5 s", "FAILED"],
        ["    without: KillMode=control-group", "noticed"],
        *[[f"{number}: {FAULTS[number]}", "not", "run"] for number in FAULTS if number > 7],
        ["stop-start: a deploy", "held"],
    ]


def test_a_row_of_two_faults_stands_for_both() -> None:
    lines = table([Seen("2, 3: an idle slot that fails again and again", held=True)], cgroup_v2=True)
    assert not any(line.startswith("3:") for line in lines)
    assert sum("not run" in line for line in lines) == len(FAULTS) - 2


def test_what_nobody_noticed_and_what_was_seen_instead_are_told() -> None:
    unnoticed = Seen("15: a reboot", held=True, without="the link")
    lines = table([unnoticed, Seen("9: a worker", held=True, note="12 MB")], cgroup_v2=False)
    assert [line.split()[-1] for line in lines if "without: the link" in line] == ["unnoticed"]
    said = "\n".join(lines)
    assert "held\n    12 MB\n    seen here: cgroup v1: MemoryMax= ends the worker" in said
    assert "seen here: systemd and all that it runs start anew" in said
    assert "cgroup v1" not in "\n".join(table([KILLED], cgroup_v2=True))


def test_rows_of_several_runs_make_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, row in (("one", KILLED), ("two", Seen("1: deploys", held=True))):
        (tmp_path / name).write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
    main([str(tmp_path / "one"), str(tmp_path / "two")])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "not run" not in line] == [
        HEAD,
        Seen("1: deploys", held=True).line(),
        KILLED.line(),
    ]


def test_tests_bring_their_rows_and_a_failed_one_has_neither_held_nor_noticed_anything(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"))
    monkeypatch.delenv("FARRIER_FAULT_ROWS", raising=False)
    pytester.makeconftest('pytest_plugins = ["fault_table"]')
    pytester.makepyfile(
        """
        import pytest
        from fault_table import Seen

        class Stage:
            def take_rows(self):
                return [Seen("5: a slow boot", held=True), Seen("5: a slow boot", held=False, without="the switch")]

        @pytest.fixture
        def stage():
            return Stage()

        @pytest.fixture
        def broken():
            raise AssertionError

        def test_of_the_stage(stage):
            pass

        @pytest.mark.row(6, "a worker is killed")
        def test_that_fails(stage):
            raise AssertionError

        @pytest.mark.row(8, "every thread hangs")
        @pytest.mark.row(8, "every thread hangs", without="the watchdog")
        def test_marked():
            pass

        @pytest.mark.row(18, "two at once")
        def test_without_a_host(broken):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    outcomes = [cells(line) for line in result.outlines[result.outlines.index(HEAD) + 1 :]]
    assert [each for each in outcomes if each[-1] in {"held", "FAILED", "noticed", "unnoticed"}] == [
        ["5: a slow boot", "held"],
        ["5: a slow boot", "FAILED"],
        ["    without: the switch", "noticed"],
        ["    without: the switch", "unnoticed"],
        ["6: a worker is killed", "FAILED"],
        ["8: every thread hangs", "held"],
        ["    without: the watchdog", "noticed"],
        ["18: two at once", "FAILED"],
    ]
    monkeypatch.setenv("FARRIER_FAULT_ROWS", str(tmp_path / "rows"))
    assert HEAD not in pytester.runpytest_subprocess("-p", "no:cacheprovider").outlines
    capsys.readouterr()
    main([str(tmp_path / "rows")])
    table_of_file = capsys.readouterr().out.splitlines()
    assert table_of_file == result.outlines[result.outlines.index(HEAD) :][: len(table_of_file)]
