"""farrier_switch compares, and goes through its steps in an order that loses nothing. systemd is played by a small fake."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils import farrier_host, farrier_journal, farrier_slot, farrier_target
from ansible.module_utils.farrier_host import Failure, parent
from ansible.module_utils.farrier_memory import Memory
from ansible.module_utils.farrier_slot import Slot, UnixConnection, cut_workers, ready_workers

from farrier.ansible.modules import farrier_switch
from farrier.ansible.modules.farrier_switch import Switch, act

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
            "configuration": None,
            "host": "www.example.org",
            "health_path": "/health/",
            "health_seconds": 1,
            "scheme": "http",
            "strategy": "overlap",
            "boot_seconds": 0,
            "memory_available_mb": None,
            "memory_assumed": False,
            "measure": "farrier measure trial",
            "hidden": ["KEY"],
            "by": "me",
            "coming": [],
        }
        for release in (OLD, NEW):
            self.write(f"srv/releases/{release}/RELEASE.json", '{"venv": "dddddddddddd"}')
        self.params["configuration"] = self.configure()
        self.write("units/notes@.service", "[Service]\n")
        self.said = "[INFO] noise\nTraceback: broken at import\n"
        monkeypatch.setattr(farrier_target, "UNITS", str(root / "units"))
        for module in (farrier_host, farrier_slot, farrier_switch):
            monkeypatch.setattr(module, "run", self.systemd.run)
        monkeypatch.setattr(farrier_journal, "sync", lambda: None)
        monkeypatch.setattr(farrier_journal, "latest", lambda *_: self.said.split("\n"))
        monkeypatch.setattr(Memory, "killed", lambda *_: False)
        monkeypatch.setattr(farrier_slot, "SETTLE_SECONDS", 0)
        monkeypatch.setattr(Slot, "ask", lambda _slot, _path: None)
        monkeypatch.setattr(Slot, "workers", lambda slot: self.ready if slot.unit in self.systemd.active else [])

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def configure(self, environment: str = 'KEY="secret"\n', workers: int = 2) -> str:
        """Lays a configuration out, as farrier_configuration does before a switch."""
        files = {"environment": environment, "gunicorn.conf.py": f"workers = {workers}\nbacklog = 64\n"}
        name: str = configurations.lay_out(self.home, {file: text.encode() for file, text in files.items()})
        return name

    def switch(self, **params: Any) -> dict[str, Any]:
        self.systemd.log.clear()
        result: dict[str, Any] = act({**self.params, **params}, False)[1]
        return result

    def roll_back(self, release: str = "previous") -> dict[str, Any]:
        return self.switch(release=release, configuration=None)

    @property
    def home(self) -> str:
        return str(self.root / "srv")

    @property
    def facts(self) -> dict[str, Any]:
        """What the slot that counts was filled with."""
        facts: dict[str, Any] = configurations.slot_facts(self.home, self.slot)
        return facts

    @property
    def environment(self) -> str:
        """What the slot that counts is started with."""
        return (self.link / "environment").read_text()

    def holding(self, text: str) -> list[str]:
        """The files below the application's home that hold a text."""
        files = [path for path in (self.root / "srv").rglob("*") if path.is_file()]
        return [str(path.relative_to(self.root)) for path in files if text in path.read_text()]

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
    facts = host.facts
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
    assert serving.facts["previous"] == OLD


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
        serving.switch(release=NEW, configuration=serving.configure(workers=3))
    assert serving.slot == "a"


@pytest.mark.parametrize(
    ("environment", "workers", "reason"),
    [('KEY="another secret"\n', 2, "environment changed"), ('KEY="secret"\n', 1, "gunicorn.conf.py changed")],
)
def test_another_configuration_is_a_reason_to_switch_and_shows_no_value(
    serving: Host, environment: str, workers: int, reason: str
) -> None:
    serving.ready = serving.ready[:workers]
    result = serving.switch(configuration=serving.configure(environment, workers))
    assert result["reasons"] == [reason]
    assert serving.slot == "b"
    assert (serving.facts["previous"], serving.facts["previous_configuration"]) == (
        OLD,
        serving.params["configuration"],
    )


def test_another_unit_is_a_reason_to_switch_and_replaces_no_release(serving: Host) -> None:
    serving.write("units/notes@.service", "[Service]\nNice=1\n")
    assert serving.switch()["reasons"] == ["the unit file changed"]
    assert serving.slot == "b"
    assert serving.facts["previous"] is None


def test_a_slot_whose_file_was_changed_by_hand_is_put_right(serving: Host) -> None:
    (serving.link / "environment").write_text("KEY=by hand")
    assert serving.switch()["reasons"] == ["environment changed"]
    assert serving.environment == 'KEY="secret"\n'


def test_who_may_read_what_whatever_the_umask_is(serving: Host) -> None:
    modes = {
        "srv/configurations": 0o700,
        f"srv/configurations/{serving.params['configuration']}": 0o700,
        f"srv/configurations/{serving.params['configuration']}/environment": 0o600,
        "srv/slots": 0o755,
        "srv/slots/a": 0o755,
        "srv/slots/a/environment": 0o600,
        "srv/slots/a/gunicorn.conf.py": 0o644,
        "srv/slots/a/slot.json": 0o644,
    }
    assert {path: (serving.root / path).stat().st_mode & 0o777 for path in modes} == modes


# ---- Back to what served before: a release with its configuration ----


def test_a_rollback_takes_the_older_environment_with_the_same_release(serving: Host) -> None:
    serving.switch(configuration=serving.configure('KEY="bad value"\n'))
    assert serving.environment == 'KEY="bad value"\n'
    assert serving.roll_back()["reasons"] == ["environment changed"]
    assert (serving.facts["release"], serving.environment) == (OLD, 'KEY="secret"\n')
    serving.roll_back()
    assert (serving.facts["release"], serving.environment) == (OLD, 'KEY="bad value"\n')


def test_a_rollback_takes_the_older_environment_with_the_older_release(serving: Host) -> None:
    serving.switch(release=NEW, configuration=serving.configure('KEY="bad value"\n'))
    serving.roll_back()
    assert (serving.facts["release"], serving.environment) == (OLD, 'KEY="secret"\n')


def test_a_rollback_expects_the_workers_that_served_then(serving: Host) -> None:
    serving.ready = [101, 102, 103]
    assert serving.switch(configuration=serving.configure(workers=3))["expected"] == {"workers": 3, "backlog": 64}
    serving.ready = [101, 102]
    result = serving.roll_back()
    assert (result["workers"], result["expected"]) == ([101, 102], {"workers": 2, "backlog": 64})


def test_a_release_by_its_name_comes_with_what_it_served_with_last(serving: Host) -> None:
    serving.switch(configuration=serving.configure('KEY="second"\n'))
    serving.switch(release=NEW, configuration=serving.configure('KEY="third"\n'))
    serving.switch(release=NEW, configuration=serving.configure('KEY="fourth"\n'))
    serving.roll_back(OLD)
    assert (serving.facts["release"], serving.environment) == (OLD, 'KEY="second"\n')
    serving.roll_back(NEW)
    assert (serving.facts["release"], serving.environment) == (NEW, 'KEY="fourth"\n')
    assert serving.holding("third") == [], "nobody goes back to it"


def test_a_release_that_never_served_comes_with_the_configuration_that_serves(serving: Host) -> None:
    serving.roll_back(NEW)
    assert (serving.facts["release"], serving.environment) == (NEW, 'KEY="secret"\n')


@pytest.mark.parametrize("broken", ["notes-preflight", "notes@a"])
@pytest.mark.parametrize("strategy", ["overlap", "stop-start"])
def test_a_refused_switch_leaves_nothing_in_the_slots_and_a_rollback_works(
    serving: Host, broken: str, strategy: str
) -> None:
    serving.switch(release=NEW, configuration=serving.configure('KEY="good"\n'))
    bad = serving.configure('KEY="bad value"\n')
    serving.systemd.broken.add(f"{broken}.service")
    with pytest.raises(Failure):
        serving.switch(configuration=bad, strategy=strategy)
    configurations.remove(serving.home, bad)
    assert serving.holding("bad value") == []
    assert (serving.root / "srv/slots/a/environment").read_text() == 'KEY="secret"\n', "what a rollback goes back to"
    serving.systemd.broken.clear()
    serving.systemd.active.add("notes@b.service")
    serving.roll_back()
    assert (serving.facts["release"], serving.environment) == (OLD, 'KEY="secret"\n')


def test_after_a_killed_switch_the_next_one_leaves_nothing_of_it(serving: Host) -> None:
    bad = serving.configure('KEY="bad value"\n')
    killed = {"release": NEW, "venv": "dddddddddddd", "configuration": bad, "previous": OLD}
    for name in ("b", "preflight"):
        Slot(name, serving.params).fill(killed)
    serving.systemd.active |= {"notes@b.service", "notes-preflight.service"}
    assert serving.switch()["changed"] is True
    assert serving.holding("bad value") == []
    assert serving.switch()["changed"] is False


def test_what_nobody_can_go_back_to_any_more_is_removed(serving: Host) -> None:
    for value in ("first", "bad value", "third", "fourth"):
        serving.switch(configuration=serving.configure(f'KEY="{value}"\n'))
    assert serving.holding("bad value") == []
    assert serving.holding("third") != []


def test_a_missing_configuration_is_refused(serving: Host) -> None:
    with pytest.raises(Failure, match=f"^Configuration {OLDER} of release {OLD} is not on this host; deploy it.$"):
        serving.switch(configuration=OLDER)


def test_slots_from_before_there_were_configurations_are_taken_over(host: Host) -> None:
    configurations.remove(host.home, host.params["configuration"])
    for slot, release, previous, key in (("a", OLD, None, "older"), ("b", NEW, OLD, "newer")):
        host.write(f"srv/slots/{slot}/slot.json", json.dumps({"release": release, "previous": previous}))
        host.write(f"srv/slots/{slot}/environment", f'KEY="{key}"\n')
        host.write(f"srv/slots/{slot}/gunicorn.conf.py", "workers = 2\n")
    host.link.symlink_to("slots/b")
    host.systemd.active.add("notes@b.service")
    assert configurations.take_over(host.home) is True
    assert host.systemd.log == [], "none is restarted"
    assert configurations.take_over(host.home) is False
    host.roll_back()
    assert (host.facts["release"], host.environment) == (OLD, 'KEY="older"\n')


# ---- What is told of a failure ----


def test_a_failure_shows_no_secret_and_no_control_character(serving: Host) -> None:
    serving.said = "KeyError: 'secret'\n\x1b[31mred\x07 \u2028 größer"
    serving.systemd.broken.add("notes-preflight.service")
    with pytest.raises(Failure) as caught:
        serving.switch(release=NEW)
    assert str(caught.value) == (
        "notes-preflight.service did not start (exit-code).\nKeyError: '********'\n\\x1b[31mred\\x07 \\u2028 größer"
    )


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
    result = serving.switch()
    assert result["reasons"] == ["3 workers instead of 2"]
    assert serving.slot == "b"
    assert serving.facts["previous"] is None, "nothing was replaced"


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
    serving.roll_back()
    assert serving.facts["release"] == OLD
    serving.roll_back()
    assert serving.facts["release"] == NEW


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("previous", "There is no previous release to go back to."),
        ("../../etc", "../../etc: not the name of a release, which has 12 hex digits"),
        (OLDER, f"Release {OLDER} is not on this host; available: {OLD}, {NEW}."),
    ],
)
def test_a_release_that_is_not_there_is_refused(serving: Host, release: str, message: str) -> None:
    with pytest.raises(Failure) as caught:
        serving.roll_back(release)
    assert str(caught.value) == message


def test_without_memory_for_a_second_slot_nothing_is_started(serving: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farrier_switch, "memory_kb", lambda _pids: 210 * 1024)
    with pytest.raises(Failure, match="needs about 210 MB, but 209 MB are available"):
        serving.switch(release=NEW, memory_available_mb=209)
    assert serving.systemd.log == []
    assert serving.switch(release=NEW, memory_available_mb=209, strategy="stop-start")["changed"] is True


def test_check_mode_foresees_what_earlier_tasks_would_have_changed(serving: Host) -> None:
    def foreseen(**params: Any) -> list[str]:
        switch = Switch({**serving.params, **params})
        return list(switch.target.foresee(switch.active))

    assert foreseen() == []
    assert foreseen(release=NEW) == [f"release {OLD} -> {NEW}"]
    assert foreseen(release=OLDER) == [f"release {OLD} -> {OLDER}"], "it is not built yet"
    assert foreseen(coming=["environment"]) == ["environment changed"]
    assert foreseen(coming=["/etc/systemd/system/notes.socket"]) == [], "a slot does not run from it"


def test_check_mode_on_a_fresh_host_needs_nothing(tmp_path: Path) -> None:
    params: dict[str, Any] = {
        "application": "notes",
        "release": NEW,
        "configuration": None,
        "home": str(tmp_path),
        "coming": [],
    }
    switch = Switch(params)
    assert switch.target.foresee(switch.active) == [f"release None -> {NEW}"]
    assert (switch.active, switch.idle.name) == (None, "a")


def process(proc: Path, pid: int, parent_pid: int, name: str = "python") -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent_pid} {pid} {pid} 0 -1\n")


def test_only_living_children_of_the_master_count_as_ready(tmp_path: Path) -> None:
    markers, proc = tmp_path / "notes-a/workers", tmp_path / "proc"
    markers.mkdir(parents=True)
    for name in ("11", "12", "13", "14", "README", "²", "-1", "0", "99999999999999999999"):
        (markers / name).touch()
    process(proc, 11, 10)
    process(proc, 12, 10, name="a) S 99 (b")
    process(proc, 13, 99)

    def ready(path: str, master: int) -> list[int]:
        found: list[int] = ready_workers(path, master, str(tmp_path), str(proc))
        return found

    assert ready("notes-a/workers", 10) == [11, 12], "13 has another parent, 14 is dead"
    assert ready("notes-a/workers", 0) == []
    assert ready("nowhere/workers", 10) == []
    (tmp_path / "notes-b").mkdir()
    (tmp_path / "notes-b/workers").symlink_to(markers)
    assert ready("notes-b/workers", 10) == [], "it is no directory of this slot's"
    for number in range(20_000, 30_001):
        (markers / str(number)).touch()
    assert ready("notes-a/workers", 10) == [], "more than there can be"
    assert parent(14, str(proc)) == 0


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
