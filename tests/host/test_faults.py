"""What must survive, on one living host under load: deploys, broken releases, killed processes, full disks, reboots.

Each test is a row of a table that is printed at the end. "Lost" is a request that got anything else than a 2xx answer.
`test_without_...` take a protection away and see the same check fail: what protects is the protection.
"""

import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from deployed import DOMAIN
from faults import BACKLOG, DEPLOYS, SERVICE, THREADS, WORKERS, Stage
from load import POST_SECONDS, burst

pytestmark = pytest.mark.host

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
_hungry = application


def application(environ, start_response):
    if environ["PATH_INFO"] != "/health/":
        return _hungry(environ, start_response)
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [b"the forge is cold"]
"""
SLOW = f"import time\ntime.sleep({BOOT_SECONDS})"


@pytest.fixture(autouse=True)
def rested(stage: Stage) -> None:
    """Each fault happens to a host as it was planned, and recovered from the one before."""
    stage.mutation = ""
    try:
        stage.settled()
    except AssertionError:  # that test has failed; this one need not
        stage.repair()


# ---- Releases ----


def test_a_changed_number_of_workers(stage: Stage) -> None:
    before = stage.look()
    with stage.row("27: a changed number of workers") as load:
        stage.stack.play("-e", f"notes_trial_gunicorn_workers={2 * WORKERS}")
        stage.settled(2 * WORKERS)
        stage.stack.play()
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.release) == (before.slot, before.release)
        assert set(after.workers).isdisjoint(before.workers)


def test_deploys_and_a_rollback(stage: Stage) -> None:
    with stage.row(f"1: {DEPLOYS} deploys and a rollback", 60 + 40 * DEPLOYS) as load:
        for number in range(DEPLOYS):
            stage.deploy(f"# {number % 2}")
        last = stage.look().release
        stage.roll_back()
        report = load.stop()
        report.require_none_lost()
        assert last in report.releases
        assert stage.look().release in report.releases - {last}


def test_a_release_that_cannot_be_imported(stage: Stage) -> None:
    before, socket = stage.look(), stage.shell("systemctl show -p InvocationID notes.socket")
    with stage.row("2: a release that cannot be imported") as load:
        said = stage.refused(IMPORT_FAILS)
        report = load.stop()
        report.require_none_lost()
        assert "RuntimeError: the shoe does not fit" in said
        assert "wsgi.py" in said
        assert report.releases == {before.release}
        assert stage.look() == before
        assert stage.shell("systemctl show -p InvocationID notes.socket") == socket


def test_a_release_that_crashes_after_it_was_ready(stage: Stage) -> None:
    before = stage.look()
    with stage.row("3: a release that crashes after it was ready") as load:
        said = stage.refused(WORKERS_DIE)
        report = load.stop()
        report.require_none_lost()
        assert "did not start" in said
        assert report.releases == {before.release}
        assert stage.settled() == before


def test_an_unhealthy_release(stage: Stage) -> None:
    before = stage.look()
    with stage.row("4: an unhealthy release") as load:
        said = stage.refused(UNHEALTHY)
        report = load.stop()
        report.require_none_lost()
        assert "/health/ answered 500" in said
        assert "the forge is cold" in said
        assert report.releases == {before.release}
        assert stage.settled() == before


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


def test_without_the_switch_a_plain_restart_makes_people_wait(stage: Stage) -> None:
    stage.deploy(SLOW)
    stage.mutation = "a plain restart"
    slot = stage.look().slot
    with pytest.raises(AssertionError, match="somebody waited"):
        check_boot(stage, lambda: stage.shell(f"systemctl restart notes@{slot}"))


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


def test_a_broken_nginx_configuration(stage: Stage) -> None:
    template = next((stage.stack.project / "roles/notes_trial/templates/etc/nginx").glob("nginx.conf*"))
    text = template.read_text(encoding="utf-8")
    look = "sha256sum /etc/nginx/nginx.conf; systemctl show -p MainPID -p ExecReload nginx; ls /run/notes.nginx.pending"
    before = stage.shell(f"({look}) 2>&1 || true")
    template.write_text(f"{text}\nbogus;\n", encoding="utf-8")
    try:
        with stage.row("14: a broken NGINX configuration") as load:
            assert 'unknown directive "bogus"' in stage.refused("", "--tags", "nginx")
            load.stop().require_none_lost()
            assert stage.shell(f"({look}) 2>&1 || true") == before
    finally:
        template.write_text(text, encoding="utf-8")


def test_a_deploy_that_is_killed_between_start_and_enable(stage: Stage) -> None:
    before = stage.look()
    idle = {"a": "b", "b": "a"}[before.slot]
    name = "16: a deploy that is killed between start and enable"
    with stage.row(f"{name}: until the reboot") as load:
        play = stage.start_deploy(f"{SLOW}  # killed")
        # Held still at the right moment, then killed; what runs on the host would outlive the play that began it.
        started = f"systemctl is-active notes@{idle} | grep -qx 'active\\|activating'"
        stage.shell(f"n=0; until {started} || [ $n = 600 ]; do n=$((n + 1)); sleep 0.1; done; kill -STOP {SWITCH}")
        os.killpg(play.pid, signal.SIGKILL)
        stage.shell(f"kill -9 {SWITCH}")
        play.wait()
        load.stop().require_none_lost()
        assert stage.look().slot == before.slot
    stage.reboot()
    rebooted = stage.settled()
    assert (rebooted.slot, rebooted.release) == (before.slot, before.release)
    with stage.row(f"{name}: the deploy again") as load:
        stage.stack.play()
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.release != before.release) == (idle, True)


def test_a_reboot(stage: Stage) -> None:
    before = stage.look()
    queues = "cat /proc/sys/net/core/somaxconn; ss -lxnH src /run/notes.sock | awk '{print $4}'"
    lengths = stage.shell(queues).split()
    assert lengths[1] == str(BACKLOG)
    stage.reboot()
    after = stage.settled()
    assert (after.slot, after.release) == (before.slot, before.release)
    assert stage.shell(queues).split() == lengths
    assert stage.stack.get("/release/").status == 200
    stage.held("15: a reboot")


# ---- Processes ----


def check_killed_workers(stage: Stage, victims: int) -> None:
    """Kills workers while requests queue up: they have as many as they will ever have."""
    before = stage.look()
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


def test_without_worker_connections_killed_workers_take_the_queue_with_them(stage: Stage) -> None:
    slot = stage.look().slot
    stage.mutation = "worker_connections = 1000"
    try:
        config = f"/srv/notes/slots/{slot}/gunicorn.conf.py"
        with stage.altered(config, "^worker_connections = .*", "worker_connections = 1000"):
            stage.shell(f"systemctl restart notes@{slot}")
            stage.settled()
            with pytest.raises(AssertionError, match="requests lost by 3 workers"):
                check_killed_workers(stage, WORKERS)
    finally:
        stage.repair()


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


def test_without_kill_mode_control_group_a_killed_master_takes_requests_with_it(stage: Stage) -> None:
    stage.mutation = "KillMode=mixed"
    try:
        with (
            stage.altered(SERVICE, "^KillMode=.*", "KillMode=mixed"),
            pytest.raises(AssertionError, match="requests lost"),
        ):
            check_killed_master(stage)
    finally:
        stage.repair()


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


def test_without_start_limit_interval_a_slot_that_fails_does_not_come_back(stage: Stage) -> None:
    stage.mutation = "StartLimitIntervalSec=10"
    units = "/etc/systemd/system"
    change = ("^StartLimitIntervalSec=.*", "StartLimitIntervalSec=10")
    try:
        with (
            stage.altered(SERVICE, *change),
            stage.altered(f"{units}/notes.socket", *change),
            stage.altered(f"{units}/notes-activate.service", *change),
            pytest.raises(AssertionError, match="requests lost"),
        ):
            check_failing_slot(stage)
    finally:
        stage.repair()


def test_a_worker_out_of_memory(stage: Stage) -> None:
    before = stage.look()
    with stage.row("9: a worker out of memory") as load:
        assert stage.stack.get("/eat/").status == 502
        after = stage.settled()
        lost = load.stop().lost
        # One of its threads ate the memory.
        assert len(lost) <= THREADS - 1
        assert after.main_pid == before.main_pid
        assert len(set(before.workers) - set(after.workers)) == 1


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


def test_without_its_place_in_memory_a_workers_sign_of_life_needs_the_disk(stage: Stage) -> None:
    slot = stage.look().slot
    stage.mutation = "worker_tmp_dir = None"
    try:
        config = f"/srv/notes/slots/{slot}/gunicorn.conf.py"
        with (
            stage.altered(config, "^worker_tmp_dir = [^#]*", "worker_tmp_dir = None  "),
            pytest.raises(AssertionError, match=r"lost|no worker more"),
        ):
            check_full_temporary_directory(stage)
    finally:
        stage.repair()


# ---- The queue ----


def test_an_overflowing_backlog(stage: Stage) -> None:
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
        assert {(record.status, record.error) for record in refused} == {(503, "")}
        assert all(int(record.retry_after) >= 1 for record in refused)
        assert stage.settled() == before


def test_both_slots_are_dead(stage: Stage) -> None:
    before = stage.look()
    with stage.row("21: both slots are dead") as load:
        # The next request may start the active one before it has wholly stopped, and `stop` says so.
        stage.shell("systemctl stop notes@a notes@b || true")
        after = stage.settled()
        load.stop().require_none_lost()
        assert (after.slot, after.release) == (before.slot, before.release)
        assert after.main_pid != before.main_pid


def test_the_socket_is_restarted_by_hand(stage: Stage) -> None:
    before = stage.look()
    with stage.row("26: the socket is restarted by hand") as load:
        for verb in ("restart", "stop"):
            said = stage.shell(f"systemctl {verb} notes.socket 2>&1 || true")
            assert "refused" in said
        load.stop().require_none_lost()
        assert stage.look() == before
