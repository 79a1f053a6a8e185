"""farrier_switch compares, and goes through its steps in an order that loses nothing. systemd is played by a small fake."""

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.farrier_host import Failure

from farrier.ansible.modules import farrier_switch
from farrier.ansible.modules.farrier_switch import Switch
from switching import NEW, OLD, OLDER, Host


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
