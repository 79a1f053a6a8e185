"""What each slot serves with: configurations and units that change, come back, and are removed."""

import json

import pytest
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_slot import Slot

from switching import NEW, OLD, OLDER, Host


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
