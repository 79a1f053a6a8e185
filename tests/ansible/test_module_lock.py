"""farrier_lock lets one play at a time through, and lets nobody wait for one that has died."""

import fcntl
import inspect
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from farrier.ansible.modules import farrier_command, farrier_release, farrier_switch
from module_runner import run_module

pytestmark = pytest.mark.programs

HINT = "-e notes_take_lock=true"
# A machine: its name, its boot and user, the play's process.
FORGE = "forge\nboot-1 pid:[1] 1000\n{play}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.lock"


def ask(path: Path, by: str = "bob", controller: str = "anvil", **more: Any) -> dict[str, Any]:
    return run_module("farrier_lock", {"path": str(path), "by": by, "controller": controller, "hint": HINT, **more})


def forge(play: int, *living: int) -> dict[str, str]:
    """What a play tells of the machine that it runs on, and who lives there."""
    return {"controller": FORGE.format(play=play), "living": " ".join(map(str, (1, 40, 50, *living)))}


def age(path: Path, seconds: float) -> None:
    """Lets the last sign of life be that long ago."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_second_is_refused_and_told_who_has_it_and_how_to_take_it(path: Path) -> None:
    first = ask(path, "alice", "forge", doing="rollback")
    assert first["changed"] is False
    age(path, 60)
    refused = ask(path)
    assert refused["failed"]
    told = refused["msg"]
    assert told.startswith("alice on forge has the lock for a rollback since 20")
    # A second may pass while the module starts.
    assert re.search(r"\(last sign of life 6[0-9] s ago\)\. Wait until it has finished\.", told)
    assert told.endswith(f"its lock expires in 14 min; to take it now: {HINT}")


def test_given_back_it_is_free_and_only_its_owner_gives_it_back(path: Path) -> None:
    token = ask(path, "alice")["token"]
    ask(path, state="free", token=token[::-1])
    assert ask(path)["failed"]
    ask(path, state="free", token=token)
    assert path.read_text() == ""
    assert ask(path)["token"]


def test_check_mode_takes_none(path: Path) -> None:
    result = run_module("farrier_lock", {"path": str(path)}, check=True)
    assert (result["changed"], path.exists()) == (False, False)


def test_nobody_but_root_can_hold_the_file(path: Path) -> None:
    ask(path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("idle_seconds", "taken"), [(880, False), (920, True)])
def test_without_a_sign_of_life_it_is_stale_after_a_quarter_of_an_hour(
    path: Path, idle_seconds: float, taken: bool
) -> None:
    ask(path, "alice", "forge")
    age(path, idle_seconds)
    assert ("token" in ask(path)) is taken


def test_a_play_that_was_killed_is_known_where_it_ran(path: Path) -> None:
    ask(path, "alice", **forge(77, 77))
    assert ask(path, "alice", **forge(99, 77, 99))["failed"], "it lives"
    result = ask(path, "alice", **forge(99, 99))
    assert result["token"]
    assert "alice on forge has the lock" in str(result["warnings"])


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param("forge\nboot-2 pid:[1] 1000\n99\n", id="another boot"),
        pytest.param("forge\nboot-1 pid:[2] 1000\n99\n", id="another container"),
        pytest.param("forge\nboot-1 pid:[1] 1001\n99\n", id="a user who may not see it"),
        pytest.param("forge\n", id="a machine that tells only its name"),
    ],
)
def test_elsewhere_nobody_knows_whether_it_lives(path: Path, elsewhere: str) -> None:
    ask(path, "alice", **forge(77, 77))
    assert ask(path, "alice", elsewhere, living="1 99")["failed"]


def test_the_processes_of_the_machine_are_never_shown(path: Path) -> None:
    result = ask(path, "alice", **forge(77, 77, 123_456))
    assert result["token"]
    assert "123456" not in json.dumps(result)
    assert "123456" not in path.read_text()


def test_it_can_be_taken(path: Path) -> None:
    ask(path, "alice", "forge")
    result = ask(path, take=True)
    assert result["token"]
    assert "taken over: alice on forge has the lock for a deploy" in str(result["warnings"])


def test_while_a_step_runs_on_the_host_nobody_can_take_it(path: Path) -> None:
    ask(path, "alice", **forge(77, 77))
    age(path, 10_000)
    with path.open() as step:
        fcntl.flock(step, fcntl.LOCK_EX)
        refused = ask(path, "alice", **forge(99, 99), take=True)
    assert "one of its steps is running on this host right now" in refused["msg"]


def test_what_cannot_be_read_is_somebodys(path: Path) -> None:
    path.write_text("{half")
    assert ask(path)["msg"].startswith("somebody unknown has the lock for a change since an unknown time")


STEPS = [farrier_command, farrier_release, farrier_switch]


@pytest.mark.parametrize("module", STEPS)
def test_a_step_renews_the_lock_and_keeps_others_out_while_it_runs(path: Path, module: Any) -> None:
    token = ask(path, "alice")["token"]
    age(path, 600)
    with module.holding(str(path), token):
        assert time.time() - path.stat().st_mtime < 60
        assert "one of its steps is running" in ask(path, take=True)["msg"]
        with pytest.raises(module.Failure, match="still runs on this host"), module.holding(str(path), token):
            pass
    assert "one of its steps is running" not in ask(path)["msg"]


@pytest.mark.parametrize("module", STEPS)
def test_a_step_whose_lock_was_taken_does_not_begin(path: Path, module: Any) -> None:
    token = ask(path, "alice")["token"]
    ask(path, take=True)
    with pytest.raises(module.Failure, match="another play has taken the lock"), module.holding(str(path), token):
        pytest.fail("it began")


def test_all_steps_hold_it_in_the_same_way() -> None:
    assert len({inspect.getsource(module.holding) for module in STEPS}) == 1
