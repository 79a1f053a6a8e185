"""When a measured Gunicorn counts as ready, and what is said of one that is not; the place that it runs in."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import measured_place, measured_unit
from ansible.module_utils.measured_place import MARK, MeasurementFailure, Place
from ansible.module_utils.measured_unit import LAST_LINES, LOG_BYTES, Unit

PARAMS = {"application": "notes", "memory_mb": 500, "boot_seconds": 2, "seconds": 30.0}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be run on the host; systemd answers nothing, and nobody waits."""
    found: list[tuple[str, ...]] = []

    def keep(*command: str) -> str:
        found.append(command)
        return ""

    for module in (measured_place, measured_unit):
        monkeypatch.setattr(module, "output", keep)
        monkeypatch.setattr(module, "run", keep)
    monkeypatch.setattr(measured_unit.time, "sleep", lambda _seconds: None)
    return found


class Seen(Unit):  # type: ignore[misc] # found by Ansible only
    """A unit of which the test says what is seen."""

    master = 4711
    ready_marks: dict[int, float] = {}  # noqa: RUF012 - replaced, never changed
    left: dict[str, Any] = {}  # noqa: RUF012 - as above

    def marks(self) -> dict[int, float]:
        return self.ready_marks

    def of_master(self) -> dict[str, Any]:
        return self.left


@pytest.fixture
def unit(tmp_path: Path, commands: list[tuple[str, ...]]) -> Seen:
    place = Place({**PARAMS, "home": str(tmp_path / "notes")})
    place.home.mkdir()
    place.log.touch()
    return Seen(place, 2, 4, preload=False)


def test_it_is_ready_with_all_workers_and_the_masters_note(unit: Seen) -> None:
    unit.ready_marks, unit.left = {5: 0.5, 6: 0.7}, {"python": "3.11.2"}
    assert unit.ready() == {5: 0.5, 6: 0.7}
    assert unit.pids() == [5, 6]


def test_one_that_does_not_start_says_its_last_words_without_gunicorns_own(unit: Seen) -> None:
    unit.master = 0
    own = "[2026-01-01 12:00:00 +0000] [7] [INFO] Starting gunicorn 23.0.0\n"
    frame = '  File "/srv/notes/venvs/1/lib/python3.11/site-packages/gunicorn/arbiter.py", line 609 in spawn_worker\n'
    words = [f"line {number}" for number in range(LAST_LINES + 5)]
    unit.place.log.write_text(own + frame + "\n\n".join([*words, "ModuleNotFoundError: No module named 'notes'"]))
    with pytest.raises(MeasurementFailure, match=r"^the application does not start$") as caught:
        unit.ready()
    said = caught.value.output.splitlines()
    assert len(said) == LAST_LINES
    assert said[-1] == "ModuleNotFoundError: No module named 'notes'"
    assert not [line for line in said if "gunicorn" in line]
    assert caught.value.kind == "input"


def test_one_that_hangs_is_told_how_long_a_worker_had(unit: Seen) -> None:
    unit.place.log.write_text("[7] [CRITICAL] WORKER TIMEOUT (pid:8)\n")
    with pytest.raises(
        MeasurementFailure, match=r"^the application hangs while it starts: no worker is ready within 2 s$"
    ):
        unit.ready()


@pytest.mark.parametrize(("workers", "many"), [(1, "it does"), (2, "2 of them do")])
def test_a_worker_that_was_killed_for_memory_is_no_fault_of_the_input(unit: Seen, workers: int, many: str) -> None:
    unit.workers = workers
    unit.place.log.write_text("[7] [ERROR] Worker (pid:8) was sent SIGKILL! Perhaps out of memory?\n")
    with pytest.raises(MeasurementFailure) as caught:
        unit.settle()
    assert str(caught.value) == (
        f"a worker was killed for memory: {many} not fit into the 500 MB that are free on this host beside what is live; "
        "measure on a larger host with --host"
    )
    assert caught.value.kind == "fit"


def test_a_missing_worker_is_a_death_without_a_known_cause(unit: Seen) -> None:
    unit.ready_marks = {5: 0.5}
    with pytest.raises(MeasurementFailure, match=r"^a worker died while it was measured$"):
        unit.pids()


def test_only_the_end_of_a_log_is_read_and_a_missing_one_is_empty(unit: Seen) -> None:
    unit.place.log.write_bytes(b"first\n" + b"x" * LOG_BYTES + b"\xff\nlast\n")
    assert len(unit.log()) == LOG_BYTES
    assert unit.log().endswith("\N{REPLACEMENT CHARACTER}\nlast\n")
    unit.place.log.unlink()
    assert unit.log() == ""


@pytest.fixture
def place(tmp_path: Path, commands: list[tuple[str, ...]]) -> Place:
    """A place of an application that this user owns, with one whole and one half-made virtual environment."""
    live = tmp_path / "notes"
    for path in ("venvs/whole", "venvs/half", "releases/7"):
        (live / path).mkdir(parents=True)
    (live / "venvs/whole/.complete").touch()
    params = {**PARAMS, "application": pwd.getpwuid(os.getuid()).pw_name, "home": str(live), "release": "7"}
    found = Place({**params, "environment": "SECRET=1\n", "config": "workers = 1\n"})
    found.lock = tmp_path / "lock"
    return found


def test_a_place_borrows_what_is_whole_and_is_removed_by_a_timer(
    place: Place, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.home.parent / "notes/releases/7/RELEASE.json").write_text('{"venv": "/srv/notes/venvs/whole"}')
    place.prepare()
    assert [each.name for each in (place.home / "venvs").iterdir()] == ["whole"]
    assert (place.home / "releases/7").is_symlink()
    environment = place.home / "environment"
    assert (environment.read_text(), environment.stat().st_mode & 0o777) == ("SECRET=1\n", 0o600)
    timer = commands[-1]
    assert timer[0] == "systemd-run"
    assert "--on-active=930" in timer
    assert timer[-1] == f"systemctl stop {place.unit}; rm -rf {place.home} {place.lock}"
    place.prepare()  # what one left behind is no obstacle
    place.clean()
    assert not place.home.exists()
    assert not place.lock.exists()
    assert (place.home.parent / "notes/venvs/whole/.complete").exists(), "what is live stays"


def test_a_release_whose_environment_is_half_made_is_not_borrowed(place: Place) -> None:
    (place.home.parent / "notes/releases/7/RELEASE.json").write_text('{"venv": "/srv/notes/venvs/half"}')
    place.prepare()
    assert list((place.home / "releases").iterdir()) == []
    assert (place.home / MARK).exists()


def test_an_application_that_was_never_deployed_is_told_from_a_broken_one(place: Place) -> None:
    place.application = "nobody-of-this-name"
    with pytest.raises(
        MeasurementFailure, match="has never been deployed here: its user nobody-of-this-name"
    ) as caught:
        place.prepare()
    assert caught.value.kind == "host"
    assert not place.home.exists()


def test_only_one_measures_at_a_time(place: Place) -> None:
    with (
        place.held(0),
        pytest.raises(MeasurementFailure, match="is being measured on this host by somebody else") as caught,
        place.held(0),
    ):
        pass
    assert caught.value.kind == "host"
    with place.held(0):
        pass
