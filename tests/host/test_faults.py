"""What must survive, on one living host under load: deploys, broken releases, killed processes, full disks, reboots.

Each test is a row of a table that is printed at the end. "Lost" is a request that got anything else than a 2xx answer.
A row that has a protection which can be taken away is a `check_...`: test_faults_unprotected.py sees it fail without.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults import BACKLOG, THREADS, WORKERS, Stage, write_release
from load import POST_SECONDS, burst
from testbed import DOMAIN, ENVIRONMENT

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("rested")]

BOOT_SECONDS = 2
IMPORT_FAILS = 'raise RuntimeError("the shoe does not fit")'
# Of all that Ansible runs on the host, a switch is one process, and alone at its time.
SWITCH = "$(pgrep -u root -x python3)"
# In a slot, not in the preflight: the master is ready, and each worker ends as soon as it is forked.
WORKERS_DIE = """
import os
if os.environ.get("RUNTIME_DIRECTORY", "").endswith(("-a", "-b")):
    os.register_at_fork(after_in_child=lambda: os._exit(3))
"""
UNHEALTHY = """
_healthy = application


def application(environ, start_response):
    if environ["PATH_INFO"] != "/health/":
        return _healthy(environ, start_response)
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [b"the forge is cold"]
"""
SLOW = f"import time\ntime.sleep({BOOT_SECONDS})"


# ---- Releases ----


def check_changed_workers(stage: Stage, *arguments: str) -> None:
    before = stage.look()
    stage.write_what_runs()
    with stage.row("27: a changed number of workers") as load:
        stage.stack.play("-e", f"notes_trial_gunicorn_workers={2 * WORKERS}", *arguments)
        stage.settled(2 * WORKERS)
        stage.stack.play()
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.release) == (before.slot, before.release)
        assert set(after.workers).isdisjoint(before.workers)


def test_a_changed_number_of_workers(stage: Stage) -> None:
    check_changed_workers(stage)


def check_unimportable(stage: Stage, bring: Callable[[str], str]) -> None:
    before, socket = stage.look(), stage.shell("systemctl show -p InvocationID notes.socket")
    with stage.row("2: a release that cannot be imported") as load:
        said = bring(IMPORT_FAILS)
        report = load.stop()
        report.require_none_lost()
        assert "RuntimeError: the shoe does not fit" in said
        assert "wsgi.py" in said
        assert report.releases == {before.release}
        assert stage.look() == before
        assert stage.shell("systemctl show -p InvocationID notes.socket") == socket


def test_a_release_that_cannot_be_imported(stage: Stage) -> None:
    check_unimportable(stage, stage.refused)


def check_crashing(stage: Stage, bring: Callable[[str], str]) -> None:
    before = stage.look()
    with stage.row("3: a release that crashes after it was ready") as load:
        said = bring(WORKERS_DIE)
        report = load.stop()
        report.require_none_lost()
        assert "did not start" in said
        assert report.releases == {before.release}
        assert stage.settled() == before


def test_a_release_that_crashes_after_it_was_ready(stage: Stage) -> None:
    check_crashing(stage, stage.refused)


def check_unhealthy(stage: Stage, bring: Callable[[str], str]) -> None:
    before = stage.look()
    with stage.row("4: an unhealthy release") as load:
        said = bring(UNHEALTHY)
        report = load.stop()
        report.require_none_lost()
        assert "/health/ answered 500" in said
        assert "the forge is cold" in said
        assert report.releases == {before.release}
        assert stage.settled() == before


def test_an_unhealthy_release(stage: Stage) -> None:
    check_unhealthy(stage, stage.refused)


def check_boot(stage: Stage, bring: Callable[[], object]) -> None:
    with stage.row("5: a release that boots slowly") as load:
        bring()
        report = load.stop()
        report.require_none_lost()
        longest = report.seconds(1)
        assert longest < BOOT_SECONDS, f"somebody waited {longest:.1f} s for a boot of {BOOT_SECONDS} s"


def test_a_release_that_boots_slowly(stage: Stage) -> None:
    before = stage.look().release
    check_boot(stage, lambda: stage.deploy(SLOW))
    assert stage.look().release != before


def test_stop_then_start(stage: Stage) -> None:
    before = stage.look()
    with stage.row("stop-start: a deploy") as load:
        stage.deploy("# stopped and started", "-e", "notes_trial_switch=stop-start")
        report = load.stop()
        report.require_none_lost()
        assert len(report.releases) == 2
        assert stage.look().slot != before.slot


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param(IMPORT_FAILS, "the shoe does not fit", id="import"),
        pytest.param(UNHEALTHY, "/health/ answered 500", id="health"),
    ],
)
def test_stop_then_start_of_a_broken_release(stage: Stage, broken: str, said: str) -> None:
    before = stage.look()
    broken += "\n# stop-start"
    stop_start = ("-e", "notes_trial_switch=stop-start")
    with stage.row("stop-start: a broken release is refused before anything stops") as load:
        assert said in stage.refused(broken, *stop_start)
        report = load.stop()
        report.require_none_lost()
        assert report.releases == {before.release}
        assert stage.settled() == before
    # It is on the host now. Without room to try it, it is found to be broken when the old one has stopped.
    made = stage.shell("ls -t /srv/notes/releases").split()[0]
    assert made != before.release
    with stage.row(f"stop-start: without room to try it ({said}), the old one comes back") as load:
        done = stage.switch(release=made, strategy="stop-start", memory_available_mb=1)
        assert done.returncode != 0
        assert said in done.stdout
        after = stage.settled()
        load.stop().require_none_lost()
        assert (after.slot, after.release) == (before.slot, before.release)


def test_stop_then_start_without_room_to_try(stage: Stage) -> None:
    before = stage.look()
    previous = re.search(r'"previous": "(\w+)"', stage.shell("cat /srv/notes/active/slot.json"))
    assert previous
    with stage.row("stop-start: without room to try it, a sound release serves") as load:
        done = stage.switch(release=previous[1], strategy="stop-start", memory_available_mb=1)
        report = load.stop()
        assert done.returncode == 0, done.stdout
        assert "preflight" not in done.stdout
        report.require_none_lost()
        after = stage.settled()
        assert (after.slot != before.slot, after.release) == (True, previous[1])


def check_broken_nginx_configuration(stage: Stage) -> None:
    template = next((stage.stack.project / "roles/notes_trial/templates/etc/nginx").glob("nginx.conf*"))
    text = template.read_text(encoding="utf-8")
    look = "sha256sum /etc/nginx/nginx.conf; systemctl show -p MainPID -p ExecReload nginx; ls /run/notes.nginx.pending"
    before = stage.shell(f"({look}) 2>&1 || true")
    template.write_text(f"{text}\nbogus;\n", encoding="utf-8")
    try:
        with stage.row("14: a broken NGINX configuration") as load:
            said = stage.refused("", "--tags", "nginx")
            load.stop().require_none_lost()
            assert stage.shell(f"({look}) 2>&1 || true") == before, "what NGINX refuses is in place"
            assert 'unknown directive "bogus"' in said
    finally:
        template.write_text(text, encoding="utf-8")


def test_a_broken_nginx_configuration(stage: Stage) -> None:
    check_broken_nginx_configuration(stage)


def check_killed_deploy(stage: Stage, begin: Callable[[], "subprocess.Popen[bytes]"]) -> None:
    before = stage.look()
    idle = {"a": "b", "b": "a"}[before.slot]
    name = "16: a deploy that is killed between start and enable"
    with stage.row(f"{name}: until the reboot") as load:
        play = begin()
        # Held still at the right moment, then killed; what runs on the host would outlive the play that began it.
        started = f"systemctl is-active notes@{idle} | grep -qx 'active\\|activating'"
        stage.shell(f"n=0; until {started} || [ $n = 600 ]; do n=$((n + 1)); sleep 0.1; done; kill -STOP {SWITCH}")
        os.killpg(play.pid, signal.SIGKILL)
        stage.shell(f"kill -9 {SWITCH}")
        play.wait()
        load.stop().require_none_lost()
        assert stage.look().slot == before.slot, "a slot counts that was not ready"
    stage.reboot()
    rebooted = stage.settled()
    assert (rebooted.slot, rebooted.release) == (before.slot, before.release)
    with stage.row(f"{name}: the deploy again") as load:
        stage.stack.play()
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.release != before.release) == (idle, True)


def test_a_deploy_that_is_killed_between_start_and_enable(stage: Stage) -> None:
    write_release(stage.stack.project, f"{SLOW}  # killed after {stage.look().release}")
    check_killed_deploy(stage, lambda: stage.start(ENVIRONMENT))


def check_reboot(stage: Stage) -> None:
    before = stage.look()
    queues = "cat /proc/sys/net/core/somaxconn; ss -lxnH src /run/notes.sock | awk '{print $4}'"
    lengths = stage.shell(queues).split()
    assert lengths[1] == str(BACKLOG)
    with stage.row_at_rest("15: a reboot"):
        stage.reboot()
        after = stage.settled()
        assert (after.slot, after.release) == (before.slot, before.release)
        assert stage.shell(queues).split() == lengths
        assert stage.stack.get("/release/").status == 200


def test_a_reboot(stage: Stage) -> None:
    check_reboot(stage)


# ---- Processes ----


def check_killed_workers(stage: Stage, victims: int) -> None:
    """Kills workers while requests queue up: they have as many as they will ever have."""
    before = stage.settled()
    with stage.row(f"6: {victims} of {WORKERS} workers are killed") as load, ThreadPoolExecutor(1) as pool:
        posts = pool.submit(burst, stage.port, DOMAIN, 5 * WORKERS * THREADS)
        time.sleep(POST_SECONDS / 2)
        stage.shell(f"kill -9 {' '.join(map(str, before.workers[:victims]))}")
        killed = time.monotonic()
        lost = [*posts.result().lost, *load.stop().lost]
        assert len(lost) <= victims * THREADS, f"{len(lost)} requests lost by {victims} workers of {THREADS} threads"
        assert lost
        assert {record.status for record in lost} == {502}
        assert max(record.due for record in lost) < killed
        after = stage.settled()
        assert after.main_pid == before.main_pid
        assert len(set(before.workers) - set(after.workers)) == victims


@pytest.mark.parametrize("victims", [1, WORKERS])
def test_killed_workers(stage: Stage, victims: int) -> None:
    check_killed_workers(stage, victims)


def check_killed_master(stage: Stage) -> None:
    before = stage.look()
    with stage.row("7: the master is killed") as load:
        stage.shell(f"kill -9 {before.main_pid}")
        after = stage.settled()
        report = load.stop()
        report.require_none_lost()
        assert after.slot == before.slot
        assert after.main_pid != before.main_pid
        # The long POST that was under way, RestartSec, and the boot.
        assert report.longest_gap < 10


def test_a_killed_master(stage: Stage) -> None:
    check_killed_master(stage)


def without_programs(stage: Stage, slot: str, begin: str) -> int:
    """Lets a slot fail at each start for 5 s, which is more often than systemd likes (5 in 10 s); how often it did."""
    venv = f"/srv/notes/slots/{slot}/venv"
    try:
        return int(
            stage.shell(f"mv {venv} {venv}.gone; {begin}; sleep 5; systemctl show --value -p NRestarts notes@{slot}")
        )
    finally:
        stage.shell(f"mv {venv}.gone {venv}")


def test_an_idle_slot_that_fails_again_and_again(stage: Stage) -> None:
    before = stage.look()
    idle = {"a": "b", "b": "a"}[before.slot]
    with stage.row("2, 3: an idle slot that fails again and again") as load:
        try:
            assert without_programs(stage, idle, f"systemctl start --no-block notes@{idle}") > 5
        finally:
            stage.shell(f"systemctl stop notes@{idle}; systemctl reset-failed notes@{idle} || true")
        load.stop().require_none_lost()
        assert stage.settled() == before


def check_failing_slot(stage: Stage) -> None:
    before = stage.look()
    with stage.row("7: the master is killed and cannot start for 5 s") as load:
        without_programs(stage, before.slot, f"kill -9 {before.main_pid}")
        time.sleep(3)
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.release) == (before.slot, before.release)


def test_a_slot_that_fails_again_and_again(stage: Stage) -> None:
    check_failing_slot(stage)


def check_memory(stage: Stage) -> None:
    before = stage.look()
    with stage.row("9: a worker out of memory") as load:
        assert stage.stack.get("/eat/").status == 502, "it ate all that it wanted"
        after = stage.settled()
        lost = load.stop().lost
        # One of its threads ate the memory.
        assert len(lost) <= THREADS - 1
        assert after.main_pid == before.main_pid
        assert len(set(before.workers) - set(after.workers)) == 1


def test_a_worker_out_of_memory(stage: Stage) -> None:
    check_memory(stage)


def check_full_temporary_directory(stage: Stage) -> None:
    """Has the master start one more worker while the slot's /tmp has no room for one more file."""
    slot = stage.look().slot
    stage.shell("mount -t tmpfs -o nr_inodes=60,mode=1777 tmpfs /tmp")
    try:
        stage.shell(f"systemctl restart notes@{slot}")
        before = stage.settled()
        with stage.row("11: the temporary directory is full") as load:
            directory = stage.shell(f"echo /tmp/systemd-private-*-notes@{slot}.service-*/tmp").strip()
            count = f"n=0; while [ $n -lt 99 ] && touch {directory}/$n; do n=$((n + 1)); done; echo $n"
            assert 0 < int(stage.shell(count)) < 99
            stage.shell(f"kill -TTIN {before.main_pid}; sleep 2")
            after = stage.look()
            load.stop().require_none_lost()
            assert set(after.workers) > set(before.workers), f"no worker more: {after}"
    finally:
        stage.shell("umount --lazy /tmp")
        stage.shell(f"systemctl restart notes@{slot}")


def test_a_full_temporary_directory(stage: Stage) -> None:
    check_full_temporary_directory(stage)


# ---- The queue ----


def check_overflowing_backlog(stage: Stage) -> None:
    before = stage.look()
    surplus = 40
    with stage.row("20: the backlog overflows") as load, ThreadPoolExecutor(1) as pool:
        # Nobody takes a request from the queue for a while.
        stage.shell("systemctl kill --signal=STOP 'notes@*'")
        try:
            posts = pool.submit(burst, stage.port, DOMAIN, BACKLOG + surplus, "/work/")
            time.sleep(3)
        finally:
            stage.shell("systemctl kill --signal=CONT 'notes@*'")
        refused = [*posts.result().lost, *load.stop().lost]
        assert len(refused) >= surplus - 1
        statuses = {(record.status, record.error) for record in refused}
        assert statuses == {(503, "")}, f"not refused but failed: {statuses}"
        assert all(int(record.retry_after) >= 1 for record in refused)
        assert stage.settled() == before


def test_an_overflowing_backlog(stage: Stage) -> None:
    check_overflowing_backlog(stage)


def check_dead_slots(stage: Stage) -> None:
    before = stage.look()
    with stage.row("21: both slots are dead") as load:
        # The next request may start the active one before it has wholly stopped, and `stop` says so.
        stage.shell("systemctl stop notes@a notes@b || true")
        after = stage.settled()
        load.stop().require_none_lost()
        assert (after.slot, after.release) == (before.slot, before.release)
        assert after.main_pid != before.main_pid


def test_both_slots_are_dead(stage: Stage) -> None:
    check_dead_slots(stage)


def check_restarted_socket(stage: Stage) -> None:
    before = stage.look()
    with stage.row("26: the socket is restarted by hand") as load:
        for verb in ("restart", "stop"):
            said = stage.shell(f"systemctl {verb} notes.socket 2>&1 || true")
            assert "refused" in said, f"systemctl {verb} was not refused"
        load.stop().require_none_lost()
        assert stage.look() == before


def test_the_socket_is_restarted_by_hand(stage: Stage) -> None:
    check_restarted_socket(stage)
