"""One play at a time changes a host; one that has died keeps nobody out."""

import os
import re
import signal
from collections.abc import Iterator

import pytest

from deployed import Deployed
from operated import altered, eventually, login, playing, second_host, write_release
from testbed import ENVIRONMENT, PLAY, attempt

pytestmark = pytest.mark.host

LOCK = "/run/notes.lock"
SLOW = "import time; time.sleep(1.5)"
ROLLBACK = [*PLAY, f"playbooks/{ENVIRONMENT}-rollback.yml"]
# As if somebody else asked from another machine, of which nothing is known but its name.
ELSEWHERE = ("-e", "__notes_trial_controller=anvil")
TAKE = ("-e", "notes_trial_take_lock=true")
SOMEBODY_ELSES = """echo '{"by": "alice", "from": "forge", "token": "t"}' >""" + LOCK


@pytest.fixture(autouse=True)
def unlocked(operated: Deployed) -> Iterator[None]:
    """Nobody has the lock before a test or after it."""
    assert holder(operated) == ""
    yield
    assert holder(operated) == ""


def holder(stack: Deployed) -> str:
    return stack.shell(f"cat {LOCK}").strip()


def refused(stack: Deployed, *command: str) -> str:
    """What a play says that is not allowed to run."""
    done = attempt(command or [*PLAY, f"playbooks/{ENVIRONMENT}.yml"], stack.project)
    assert done.returncode != 0, f"two plays at once:\n{done.stdout}"
    return re.sub(r"\s+", " ", done.stdout)


def check_two_at_once(stack: Deployed) -> None:
    with playing(stack) as first:
        eventually(lambda: "deploy" in holder(stack) or first.poll() is not None, "the first one has the lock")
        for command in ([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *ELSEWHERE], [*ROLLBACK, *ELSEWHERE]):
            told = refused(stack, *command)
            assert f"{login()} on {os.uname().nodename}" in told
            assert "has the lock for a deploy since 20" in told
            assert "notes_trial_take_lock=true" in told or "is running on this host right now" in told
        output = first.communicate()[0]
        assert first.returncode == 0, output


@pytest.mark.row(18, "two deploys at once: the second is refused and told who has the lock")
def test_of_two_deploys_the_second_is_refused_and_told_who_has_the_lock(operated: Deployed) -> None:
    write_release(operated, SLOW)
    check_two_at_once(operated)


@pytest.mark.row(18, "two deploys at once", without="the lock")
def test_without_the_lock_two_deploys_run_at_once(operated: Deployed) -> None:
    lock = operated.project / f"roles/notes_{ENVIRONMENT}/tasks/lock.yml"
    write_release(operated, f"{SLOW}  # without")
    with (
        altered(lock, "when: not ansible_check_mode", "when: false"),
        pytest.raises(AssertionError, match="two plays at once"),
    ):
        check_two_at_once(operated)


def test_a_play_that_fails_gives_the_lock_back(operated: Deployed) -> None:
    write_release(operated, 'raise RuntimeError("the shoe does not fit")')
    assert "the shoe does not fit" in refused(operated)


def test_check_mode_takes_no_lock_and_an_unchanged_deploy_does(operated: Deployed) -> None:
    write_release(operated, "# unchanged")
    before = operated.shell(f"stat -c %y {LOCK}")
    operated.play("--check")
    assert operated.shell(f"stat -c %y {LOCK}") == before
    operated.play()
    assert re.search(r"changed=0 .*failed=0", operated.play())
    assert operated.shell(f"stat -c %y {LOCK}") != before


def kill_a_deploy(stack: Deployed, text: str) -> None:
    """A deploy whose control node is gone from one moment to the next; what it runs on the host goes on."""
    write_release(stack, text)
    with playing(stack) as play:
        eventually(lambda: stack.shell("systemctl is-active notes-preflight || true").startswith("activ"), "a switch")
        os.killpg(play.pid, signal.SIGKILL)


@pytest.mark.row(18, "the lock of a killed deploy is taken over when its last step has ended")
def test_a_killed_deploy_is_taken_over_when_its_last_step_has_ended(operated: Deployed) -> None:
    kill_a_deploy(operated, f"{SLOW}; time.sleep(1.5)  # killed")
    assert "is running on this host right now" in refused(operated, *PLAY, f"playbooks/{ENVIRONMENT}.yml", *TAKE)
    eventually(
        lambda: operated.shell(f"flock --nonblock {LOCK} true && echo free || true") == "free\n", "the step ends"
    )
    assert "notes_trial_take_lock=true" in refused(operated, *PLAY, f"playbooks/{ENVIRONMENT}.yml", *ELSEWHERE)
    # Here it is known that the play is gone.
    again = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], operated.project)
    assert again.returncode == 0, again.stdout
    assert "was taken over" in again.stderr


@pytest.mark.row(18, "the lock of another machine can be taken, and is free when it is old")
def test_somebody_elses_lock_can_be_taken_and_is_free_when_it_is_old(operated: Deployed) -> None:
    for recover, arguments in (("true", TAKE), (f"touch -d '16 minutes ago' {LOCK}", ())):
        operated.shell(SOMEBODY_ELSES)
        assert "alice on forge has the lock" in refused(operated)
        operated.shell(recover)
        operated.play(*arguments)


@pytest.mark.row(18, "a play whose lock was taken does not switch")
def test_a_play_whose_lock_was_taken_does_not_switch(operated: Deployed) -> None:
    write_release(operated, "# taken")
    before = operated.shell("readlink /srv/notes/active")
    with playing(operated) as play:
        eventually(lambda: "deploy" in holder(operated), "it has the lock")
        operated.shell(SOMEBODY_ELSES)
        said = play.communicate()[0]
    assert play.returncode != 0
    assert "another play has taken the lock of this one" in said
    assert operated.shell("readlink /srv/notes/active") == before
    assert "alice" in holder(operated), "it has not given back what is not its own"
    operated.shell(f": >{LOCK}")


@pytest.fixture(scope="module")
def another(operated: Deployed) -> Iterator[str]:
    """A second host of the environment, on which nothing has been deployed and where somebody else has the lock."""
    with second_host(operated, "operated-second") as host:
        host.shell(SOMEBODY_ELSES)
        yield host.name


def check_one_of_two_is_locked(stack: Deployed, locked: str, text: str) -> None:
    write_release(stack, text)
    before = stack.shell("readlink -f /srv/notes/active/release")
    told = refused(stack)
    assert re.search(rf"{locked}\]: FAILED! .*alice on forge has the lock", told), told
    assert stack.shell("readlink -f /srv/notes/active/release") == before, "one of two hosts was deployed to"


@pytest.mark.row(18, "of two hosts one is locked: neither is deployed to, and the other is free again")
def test_of_two_hosts_of_which_one_is_locked_neither_is_deployed_to(
    operated: Deployed, another: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With it each host would go through the play by itself; the playbook says that they wait for each other.
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    check_one_of_two_is_locked(operated, another, "# of two hosts")


@pytest.mark.row(18, "of two hosts one is locked", without="any_errors_fatal")
def test_without_one_end_for_all_hosts_one_of_two_is_deployed_to(operated: Deployed, another: str) -> None:
    lock = operated.project / f"roles/notes_{ENVIRONMENT}/tasks/lock.yml"
    with (
        altered(lock, "any_errors_fatal: true", "any_errors_fatal: false"),
        pytest.raises(AssertionError, match="one of two hosts was deployed to"),
    ):
        check_one_of_two_is_locked(operated, another, "# of two hosts, apart")
