"""What must survive while a release comes: many deploys and rollbacks, plays that die, and more load than the host can carry.

Rows of the same table as in test_faults.py, on the same host.
"""

import itertools
import os
import signal
import time
from collections.abc import Iterable, Iterator
from statistics import median

import pytest

from faults import DEPLOYS, WORKLOAD, Stage, write_release
from load import POST_SECONDS, Report, load
from operated import altered
from testbed import DOMAIN, ENVIRONMENT
from traces import LOOK, differences, left
from witnessed import finish, played, start

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("rested")]

ROLLBACK = f"{ENVIRONMENT}-rollback"
DEPLOY_SECONDS = 20
SWITCH_SECONDS = 5
UNCHANGED_SECONDS = 10
REST_SECONDS = 5
PAUSE_SECONDS = 1
# How many times as long as at rest 99 of 100 pages may take while a slot replaces the other.
SLOWER = 3
# What a stop-start waits for besides the boot: the last steps of the old slot, systemd, and a machine that others use, too.
STOPPING_SECONDS = 1

SATURATING_RATE = 400
FILLING_SECONDS = 5
OVERLOAD_SECONDS = 15
# A deploy works on the same CPU as the requests.
WORSE_SHARE = 0.7
WORSE_P95 = 1.5
RECOVERY_SECONDS = 10


def milliseconds(report: Report, share: float) -> int:
    return round(report.seconds(share) * 1000)


# ---- Deploys and rollbacks ----


class Watched:
    """Plays, and the times between them in which nothing happened."""

    def __init__(self, stage: Stage) -> None:
        self.project = stage.stack.project
        self.rests: list[tuple[float, float]] = []
        self.took: dict[str, list[float]] = {ENVIRONMENT: [], ROLLBACK: []}
        self.switches: dict[str, list[float]] = {ENVIRONMENT: [], ROLLBACK: []}
        self.windows: list[tuple[float, float]] = []

    def rest(self, seconds: float) -> None:
        begun = time.monotonic()
        time.sleep(seconds)
        self.rests.append((begun, time.monotonic()))

    def play(self, playbook: str) -> None:
        begun = time.monotonic()
        play = played(self.project, playbook).require_success()
        self.took[playbook].append(time.monotonic() - begun)
        self.switches[playbook].append(play.switch.seconds["whole"])
        self.windows.append((play.switch.begun, play.switch.ended))

    def __str__(self) -> str:
        return "; ".join(
            f"a {name} {median(self.took[book]):.1f} s ({min(self.took[book]):.1f} to {max(self.took[book]):.1f}), "
            f"of it the switch {median(self.switches[book]):.1f} s"
            for name, book in (("deploy", ENVIRONMENT), ("rollback", ROLLBACK))
        )


def check_deploys(stage: Stage, name: str, each: Iterable[object], limit_seconds: float) -> Report:
    """Brings releases, each by going on to the next; what became of the requests, of which none may be lost."""
    with stage.row(f"1: {name}", limit_seconds) as load:
        seen = {stage.look().release}
        seen.update(stage.look().release for _ in each)
        report = load.stop()
        report.require_none_lost()
        assert report.releases == seen
        assert len(seen) > 1
    return report


@pytest.mark.clock
def test_deploys_and_rollbacks(stage: Stage) -> None:
    watched = Watched(stage)

    def each() -> Iterator[None]:
        watched.rest(REST_SECONDS)
        for number, playbook in itertools.product(range(DEPLOYS), (ENVIRONMENT, ROLLBACK)):
            write_release(stage.stack.project, f"# deploy {number}")
            watched.play(playbook)
            yield
            watched.rest(PAUSE_SECONDS)
        watched.rest(REST_SECONDS)

    report = check_deploys(stage, f"{DEPLOYS} deploys and {DEPLOYS} rollbacks", each(), 60 + 60 * DEPLOYS)
    assert len(report.releases) == DEPLOYS + 1
    during, rest = report.due(*watched.windows), report.due(*watched.rests)
    stage.note(
        f"p99 {milliseconds(during, 0.99)} ms during the switches, {milliseconds(rest, 0.99)} ms between; {watched}"
    )
    assert during.seconds(0.99) <= SLOWER * rest.seconds(0.99), stage.rows[-1].note
    assert median(watched.took[ENVIRONMENT]) < DEPLOY_SECONDS
    for switches in watched.switches.values():
        assert median(switches) < SWITCH_SECONDS


@pytest.mark.clock
def test_stop_then_start_takes_no_longer_than_the_plan_says(stage: Stage) -> None:
    predicted = float(WORKLOAD["boot_seconds"])
    with stage.row("stop-start: the wait that the plan predicts") as load:
        write_release(stage.stack.project, "# stopped, started, and timed")
        played(stage.stack.project, ENVIRONMENT, "-e", "notes_trial_switch=stop-start").require_success()
        report = load.stop()
        report.require_none_lost()
        gap, wait = report.longest_gap, report.seconds(1)
        stage.note(f"{predicted:g} s predicted; {gap:.1f} s without an answer, and the longest wait {wait:.1f} s")
        assert gap < predicted + STOPPING_SECONDS, stage.rows[-1].note
        # Who came first waited for the last long requests of the old slot, too.
        assert wait < predicted + STOPPING_SECONDS + POST_SECONDS, stage.rows[-1].note


@pytest.mark.clock
def test_an_unchanged_deploy_is_quick_and_changes_nothing(stage: Stage) -> None:
    stage.deploy("# unchanged")
    begun = time.monotonic()
    assert "changed=0 " in stage.deploy("# unchanged")
    assert time.monotonic() - begun < UNCHANGED_SECONDS


# ---- Plays that die ----


def check_again(stage: Stage, before: str, *, held: bool) -> None:
    """The deploy again, after one that died: it takes over, ends well, and leaves nothing else."""
    again = played(stage.stack.project, ENVIRONMENT).require_success()
    assert ("was taken over" in again.said) == held, again.said
    assert stage.settled().release != before
    assert left(stage.shell(LOOK)) == []


def check_killed_plays(stage: Stage) -> None:
    """Kills a play after each of its tasks, and runs it again from each state of the host that has not been seen yet."""
    project = stage.stack.project
    # Where nothing has changed there is nothing to come back from.
    seen = {frozenset({"lock free"})}
    with stage.row("17: the play is killed after each task in turn", 1200) as load:
        for last in itertools.count(1):
            living, look = stage.look(), stage.shell(LOOK)
            write_release(project, f"# killed after task {last}")
            play = played(project, ENVIRONMENT, kill_after=last)
            if not play.killed:
                break
            assert len(play.tasks) == last
            state = differences(look, stage.shell(LOOK), living.slot)
            if state not in seen:
                check_again(stage, living.release, held="lock held" in state)
                seen.add(state)
        load.stop().require_none_lost()
        stage.note(f"killed {last - 1} times, which left {len(seen)} different states of the host; run again from each")
    play.require_success()
    assert len(play.tasks) == last - 1
    states = set().union(*seen)
    for change in ("+ /srv/notes/releases/new.tar.gz", "+ /srv/notes/releases/new", "~ /srv/notes/active", "lock held"):
        assert change in states
    assert left(stage.shell(LOOK)) == []


def test_a_play_that_is_killed_after_each_of_its_tasks(stage: Stage) -> None:
    check_killed_plays(stage)


def test_without_seeing_that_a_play_has_ended_its_lock_keeps_the_next_one_out(stage: Stage) -> None:
    stage.mutation = "what the lock knows of the play that has it"
    tasks = stage.stack.project / f"roles/notes_{ENVIRONMENT}/tasks/lock.yml"
    controller = f'told: "{{{{ __notes_{ENVIRONMENT}_controller.splitlines() }}}}"'
    try:
        with (
            altered(tasks, controller, "told: [anvil]"),
            pytest.raises(AssertionError, match="has the lock for a deploy"),
        ):
            check_killed_plays(stage)
    finally:
        stage.stack.play("-e", f"notes_{ENVIRONMENT}_take_lock=true")


def test_a_play_that_loses_its_connection(stage: Stage) -> None:
    before = stage.look()
    idle = {"a": "b", "b": "a"}[before.slot]
    project = stage.stack.project
    with stage.row("17: the play loses its connection in the middle of the switch") as load:
        write_release(project, "import time\ntime.sleep(1)  # and no connection")
        process = start(project, ENVIRONMENT)
        try:
            # The process of sshd that is the parent of it all.
            stage.shell(
                f"n=0; until systemctl is-active notes@{idle} | grep -qx 'active\\|activating' || [ $n = 600 ]; "
                "do n=$((n + 1)); sleep 0.1; done; p=$(pgrep -u root -x python3); "
                "until grep -qx sshd /proc/$p/comm; do p=$(awk '{print $4}' /proc/$p/stat); done; kill -9 $p"
            )
            play = finish(project, process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert play.status != 0
        assert (play.tasks[-1], play.tasks[-1].outcome) == (play.switch, "unreachable")
        # What had begun on the host goes on, and holds the lock until it has ended.
        stage.shell("flock /run/notes.lock true")
        assert stage.settled().slot == idle
        check_again(stage, before.release, held=True)
        load.stop().require_none_lost()


# ---- More load than the host can carry ----


def good(report: Report) -> Report:
    return Report(tuple(record for record in report.records if not record.lost))


def answered(report: Report, begin: float, end: float) -> float:
    """Good answers a second that came in this time."""
    return sum(begin <= each.due + each.seconds < end for each in good(report).records) / (end - begin)


def capacity(stage: Stage) -> float:
    """How many requests a second the host answers when there are always some in its queue."""
    with load(stage.port, DOMAIN, stage.answers, 60, SATURATING_RATE) as running:
        time.sleep(FILLING_SECONDS)
        begun = time.monotonic()
        time.sleep(FILLING_SECONDS)
        ended = time.monotonic()
        return answered(running.stop(), begun, ended)


def overloaded(stage: Stage, rate: float, text: str) -> Report:
    """What became of the requests of a time of overload, in which a release may come."""
    with stage.row(f"19: {rate:.0f} requests a second, {'a' if text else 'no'} deploy", 180, rate) as running:
        time.sleep(FILLING_SECONDS)
        begun = time.monotonic()
        if text:
            write_release(stage.stack.project, text)
            played(stage.stack.project, ENVIRONMENT).require_success()
            took = time.monotonic() - begun
        time.sleep(max(0.0, begun + OVERLOAD_SECONDS - time.monotonic()))
        found = running.stop().due((begun, time.monotonic()))
        share = len(good(found).records) / len(found.records)
        stage.note(
            f"{share:.0%} answered, p95 {good(found).seconds(0.95):.1f} s{f'; the deploy took {took:.0f} s' if text else ''}"
        )
        assert {(each.status, each.error) for each in found.lost} <= {(503, "")}
        assert all(int(each.retry_after) >= 1 for each in found.lost)
    return found


def at_rest(stage: Stage, seconds: float) -> float:
    """The p99 under the load of every other row, after so many seconds of it."""
    with load(stage.port, DOMAIN, stage.answers) as running:
        time.sleep(seconds)
        begun = time.monotonic()
        time.sleep(REST_SECONDS)
        report = running.stop()
    report.require_none_lost()
    return report.due((begun, time.monotonic())).seconds(0.99)


@pytest.mark.clock
def test_a_deploy_under_twice_the_capacity(stage: Stage) -> None:
    before = at_rest(stage, 0)
    rate = 2 * capacity(stage)
    found: dict[str, list[Report]] = {"": [], "a": []}
    for number, kind in enumerate(("", "a", "", "a")):
        stage.settled()
        found[kind].append(overloaded(stage, rate, kind and f"# overload {number}"))
    after = at_rest(stage, RECOVERY_SECONDS)
    calm, deploys = (Report(tuple(itertools.chain(*(each.records for each in found[kind])))) for kind in ("", "a"))
    shares = [len(good(each).records) / len(each.records) for each in (calm, deploys)]
    slowest = [good(each).seconds(0.95) for each in (calm, deploys)]
    figures = f"p99 at rest {before * 1000:.0f} ms before, {after * 1000:.0f} ms {RECOVERY_SECONDS} s after"
    stage.note(f"{stage.rows[-1].note}; {figures}")
    assert shares[0] < 0.8, "that was no overload"
    assert shares[1] >= WORSE_SHARE * shares[0]
    assert slowest[1] <= WORSE_P95 * slowest[0]
    assert after <= SLOWER * before


def test_without_503_a_full_queue_is_a_raw_error(stage: Stage) -> None:
    stage.mutation = "503 for a full queue"
    site = stage.stack.project / f"roles/notes_{ENVIRONMENT}/templates/etc/nginx/sites-available/notes.j2"
    try:
        with altered(site, '"502:-" 1;', '"502:-" 0;'), pytest.raises(AssertionError, match="502"):
            overloaded(stage, SATURATING_RATE, "# without 503")
    finally:
        stage.settled()
        stage.stack.play("--tags", "nginx")
