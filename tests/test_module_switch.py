"""farrier_switch compares, and goes through its steps in an order that loses nothing. systemd is played by a small fake."""

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.farrier_play import Failure

from farrier.modules import farrier_switch
from farrier.modules.farrier_switch import (
    Slot,
    Switch,
    UnixConnection,
    cut_workers,
    parent,
    read_json,
    ready_workers,
    swing,
)

OLD, NEW, OLDER = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


class Systemd:
    """Units that start and stop at once, and a log of who was started, stopped or pointed to."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.active: set[str] = {"notes.socket", "nginx.service"}
        self.broken: set[str] = set()
        self.stale = False
        self.log: list[str] = []

    def run(self, *command: str) -> str:
        if command[0] == "journalctl":
            return "" if "--sync" in command else "[INFO] noise\nTraceback: broken at import\n"
        verb, *words = command[1:]
        units = [word for word in words if not word.startswith("-")]
        if verb == "show":
            return self.shown(units[-1])
        pointed = self.link.readlink().name if self.link.is_symlink() else "none"
        self.log += [f"{verb} {unit.removesuffix('.service')} ({pointed})" for unit in units]
        self.log += ["daemon-reload"] if verb == "daemon-reload" else []
        if verb == "start":
            for unit in units:
                if unit in self.broken:
                    raise Failure(f"Job for {unit} failed")
                self.active.add(unit)
        if verb == "stop":
            self.active -= set(units)
        return ""

    def shown(self, unit: str) -> str:
        state = "active" if unit in self.active else "failed" if unit in self.broken else "inactive"
        pid = "100" if unit in self.active else "0"
        reload = "yes" if self.stale and "@" in unit else "no"
        return (
            f"ActiveState={state}\nMainPID={pid}\nNRestarts=0\nUnitFileState=enabled\n"
            f"NeedDaemonReload={reload}\nResult={'exit-code' if unit in self.broken else 'success'}\n"
        )


class Host:
    """A host with two releases, a wanted configuration, and slot a serving the old release."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.link = root, root / "srv/active"
        self.ready = [101, 102]
        self.systemd = Systemd(self.link)
        self.params: dict[str, Any] = {
            "application": "notes",
            "release": OLD,
            "home": str(root / "srv"),
            "config": str(root / "etc"),
            "workers": 2,
            "host": "www.example.org",
            "health_path": "/health/",
            "health_seconds": 1,
            "scheme": "http",
            "strategy": "overlap",
            "boot_seconds": 0,
            "memory_available_mb": None,
            "by": "me",
            "coming": [],
        }
        for release in (OLD, NEW):
            self.write(f"srv/releases/{release}/RELEASE.json", '{"venv": "dddddddddddd"}')
        self.write("etc/gunicorn.conf.py", "workers = 2\n")
        self.write("etc/environment", 'KEY="secret"\n')
        self.write("units/notes@.service", "[Service]\n")
        monkeypatch.setattr(farrier_switch, "UNITS", root / "units")
        monkeypatch.setattr(farrier_switch, "run", self.systemd.run)
        monkeypatch.setattr(farrier_switch, "SETTLE_SECONDS", 0)
        monkeypatch.setattr(Switch, "ask", lambda _switch, _slot: None)
        monkeypatch.setattr(Slot, "workers", lambda slot: self.ready if slot.unit in self.systemd.active else [])

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def switch(self, **params: Any) -> dict[str, Any]:
        self.systemd.log.clear()
        return Switch({**self.params, **params}).converge()

    @property
    def slot(self) -> str:
        return self.link.readlink().name


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def serving(host: Host) -> Host:
    host.switch()
    return host


def test_the_first_release_starts_in_slot_a(host: Host) -> None:
    result = host.switch()
    assert result["changed"] is True
    assert result["reasons"] == ["nothing is served yet"]
    assert result["workers"] == [101, 102]
    assert host.systemd.log == [
        "reset-failed notes-preflight (none)",
        "start notes-preflight (none)",
        "stop notes-preflight (none)",
        "reset-failed notes@a (none)",
        "start notes@a (none)",
    ]
    facts = read_json(host.link / "slot.json")
    assert (facts["release"], facts["previous"], facts["slot"], facts["by"]) == (OLD, None, "a", "me")
    assert (host.link / "release").resolve().name == OLD


def test_an_unchanged_slot_is_left_alone(serving: Host) -> None:
    result = serving.switch()
    assert result["changed"] is False
    assert result["reasons"] == []
    assert serving.systemd.log == []


def test_a_new_release_starts_beside_the_old_one_which_stops_last(serving: Host) -> None:
    result = serving.switch(release=NEW)
    assert result["reasons"] == [f"release {OLD} -> {NEW}"]
    assert serving.systemd.log[2:] == [
        "stop notes-preflight (a)",
        "reset-failed notes@b (a)",
        "start notes@b (a)",
        "stop notes@a (b)",
    ]
    assert read_json(serving.link / "slot.json")["previous"] == OLD


def test_stop_start_points_to_the_new_slot_before_the_old_one_stops(serving: Host) -> None:
    serving.switch(release=NEW, strategy="stop-start")
    assert serving.systemd.log[2:] == [
        "stop notes-preflight (a)",
        "stop notes@a (b)",
        "reset-failed notes@b (b)",
        "start notes@b (b)",
    ]


def test_a_release_that_fails_on_the_private_socket_never_reaches_a_slot(serving: Host) -> None:
    serving.systemd.broken.add("notes-preflight.service")
    with pytest.raises(
        Failure, match=r"^notes-preflight.service did not start \(exit-code\).\nTraceback: broken at import$"
    ):
        serving.switch(release=NEW)
    assert serving.slot == "a"
    assert not any("notes@" in line for line in serving.systemd.log)


def test_a_slot_that_does_not_start_leaves_the_old_one_serving(serving: Host) -> None:
    serving.systemd.broken.add("notes@b.service")
    with pytest.raises(Failure, match=r"notes@b.service did not start"):
        serving.switch(release=NEW)
    assert serving.slot == "a"
    assert "notes@a.service" in serving.systemd.active
    assert not any(line.startswith("stop notes@a") for line in serving.systemd.log)


def test_after_a_failed_stop_start_the_old_slot_comes_back(serving: Host) -> None:
    serving.systemd.broken.add("notes@b.service")
    with pytest.raises(Failure):
        serving.switch(release=NEW, strategy="stop-start")
    assert serving.slot == "a"
    # While the link pointed to b, a waiting request had the activator start it again.
    assert serving.systemd.log[-3:] == ["stop notes-activate (a)", "stop notes@b (a)", "start notes@a (a)"]


def test_too_few_workers_are_a_failure_that_says_how_many(serving: Host) -> None:
    with pytest.raises(Failure, match=r"\nTraceback"):
        serving.switch(release=NEW, workers=3)
    assert serving.slot == "a"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("etc/gunicorn.conf.py", "gunicorn.conf.py changed"),
        ("etc/environment", "environment changed"),
        ("units/notes@.service", "the unit file changed"),
    ],
)
def test_a_changed_file_is_a_reason_to_switch_and_shows_no_value(serving: Host, path: str, reason: str) -> None:
    serving.write(path, "KEY=another secret\n")
    result = serving.switch()
    assert result["reasons"] == [reason]
    assert serving.slot == "b"
    assert read_json(serving.link / "slot.json")["previous"] is None, "no release was replaced"


def test_a_slot_keeps_what_it_was_started_with(serving: Host) -> None:
    (serving.root / "etc/environment").chmod(0o600)
    serving.write("etc/environment", "later")
    assert (serving.link / "environment").read_text() == 'KEY="secret"\n'


def test_a_first_release_that_fails_leaves_no_slot_to_activate(host: Host) -> None:
    host.systemd.broken.add("notes@a.service")
    with pytest.raises(Failure):
        host.switch()
    assert not host.link.is_symlink()


def test_a_first_switch_that_was_killed_before_the_link_starts_over(host: Host) -> None:
    host.systemd.active.add("notes@a.service")
    host.switch()
    assert host.systemd.log[0] == "stop notes@a (none)"
    assert host.slot == "a"


def test_a_dead_slot_is_started_again(serving: Host) -> None:
    serving.systemd.active.discard("notes@a.service")
    result = serving.switch()
    assert result["reasons"] == ["notes@a.service was not running"]
    assert serving.systemd.log == ["reset-failed notes@a (a)", "start notes@a (a)"]


def test_a_wrong_number_of_workers_is_put_right_by_a_switch(serving: Host) -> None:
    serving.ready = [101, 102, 103]
    with pytest.raises(Failure):
        serving.switch(workers=4)
    result = serving.switch(workers=3)
    assert result["changed"] is False


def test_what_an_interrupted_switch_left_running_is_stopped_first(serving: Host) -> None:
    serving.systemd.active |= {"notes@b.service", "notes-preflight.service"}
    result = serving.switch()
    assert result["changed"] is True
    assert serving.systemd.log == ["stop notes-preflight (a)", "stop notes@b (a)"]
    assert serving.slot == "a"


def test_changed_units_are_read_again_and_a_stopped_nginx_is_started(serving: Host) -> None:
    serving.systemd.stale = True
    serving.systemd.active.discard("nginx.service")
    assert serving.switch()["changed"] is True
    assert serving.systemd.log == ["daemon-reload", "start nginx (a)"]


def test_previous_goes_back_and_forth(serving: Host) -> None:
    serving.switch(release=NEW)
    serving.switch(release="previous")
    assert read_json(serving.link / "slot.json")["release"] == OLD
    serving.switch(release="previous")
    assert read_json(serving.link / "slot.json")["release"] == NEW


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("previous", "There is no previous release to go back to."),
        ("../../etc", "../../etc: not the name of a release, which has 12 hex digits"),
        (OLDER, f"Release {OLDER} is not on this host; there: {OLD}, {NEW}."),
    ],
)
def test_a_release_that_is_not_there_is_refused(serving: Host, release: str, message: str) -> None:
    with pytest.raises(Failure) as caught:
        serving.switch(release=release)
    assert str(caught.value) == message


def test_without_memory_for_a_second_slot_nothing_is_started(serving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farrier_switch, "memory_mb", lambda _pids: 210)
    with pytest.raises(Failure, match="takes about 210 MB, and 209 MB are available"):
        serving.switch(release=NEW, memory_available_mb=209)
    assert serving.systemd.log == []
    assert serving.switch(release=NEW, memory_available_mb=209, strategy="stop-start")["changed"] is True


def test_check_mode_foresees_what_earlier_tasks_would_have_changed(serving: Host) -> None:
    def foreseen(**params: Any) -> list[str]:
        return Switch({**serving.params, **params}).foresee()

    assert foreseen() == []
    assert foreseen(release=NEW) == [f"release {OLD} -> {NEW}"]
    assert foreseen(release=OLDER) == [f"release {OLD} -> {OLDER}"], "it is not built yet"
    assert foreseen(coming=["/etc/notes/environment"]) == ["environment changed"]
    assert foreseen(coming=["/etc/systemd/system/notes.socket"]) == [], "a slot does not run from it"


def test_check_mode_on_a_fresh_host_needs_nothing(tmp_path: Path) -> None:
    params = {"application": "notes", "release": NEW, "home": str(tmp_path), "config": "/nowhere", "coming": []}
    switch = Switch(params)
    assert switch.foresee() == [f"release None -> {NEW}"]
    assert (switch.active, switch.idle.name) == (None, "a")


def process(proc: Path, pid: int, parent_pid: int, name: str = "python") -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent_pid} {pid} {pid} 0 -1\n")


def test_only_living_children_of_the_master_count_as_ready(tmp_path: Path) -> None:
    markers, proc = tmp_path / "workers", tmp_path / "proc"
    markers.mkdir()
    for pid in (11, 12, 13, 14):
        (markers / str(pid)).touch()
    (markers / "README").touch()
    process(proc, 11, 10)
    process(proc, 12, 10, name="a) S 99 (b")
    process(proc, 13, 99)
    assert ready_workers(markers, 10, proc) == [11, 12], "13 has another parent, 14 is dead"
    assert ready_workers(markers, 0, proc) == []
    assert ready_workers(tmp_path / "nowhere", 10, proc) == []
    assert parent(14, proc) == 0


def test_a_link_swings_without_a_moment_in_between(tmp_path: Path) -> None:
    link = tmp_path / "active"
    (tmp_path / ".active.new").symlink_to("left over by a kill")
    swing(link, "slots/a")
    swing(link, "slots/b")
    assert link.readlink() == Path("slots/b")
    assert [each.name for each in tmp_path.iterdir()] == ["active"]


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "gunicorn.sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        with pytest.raises(BlockingIOError):
            UnixConnection(path, 1).connect()

        def take() -> None:
            listening.accept()[0].close()

        taker = threading.Timer(0.3, take)
        taker.start()
        second = UnixConnection(path, 5)
        second.connect()
        second.close()
        taker.join()


@pytest.mark.parametrize(
    ("said", "cut"),
    [
        pytest.param(["Worker exiting (pid: 11)", "Worker exiting (pid: 12)"], set(), id="all ended"),
        pytest.param(["Worker exiting (pid: 12)"], {11}, id="killed, of which nobody tells"),
        pytest.param(
            ["Worker exiting (pid: 12)", "Worker (pid:11) was sent SIGKILL! Perhaps out of memory?"], {11}, id="killed"
        ),
        pytest.param(
            [
                "Worker exiting (pid: 11)",
                "worker 11 leaves 2 requests that are not answered",
                "Worker exiting (pid: 12)",
            ],
            {11},
            id="left without them",
        ),
        pytest.param(
            ["Worker exiting (pid: 12)", "WATCHDOG: worker 11 leaves 1 requests that hang"],
            {11},
            id="left by the watchdog",
        ),
    ],
)
def test_workers_that_had_not_ended_their_requests_are_counted(said: list[str], cut: set[int]) -> None:
    assert cut_workers([11, 12], "\n".join(f"[1] [INFO] {line}" for line in said)) == cut
