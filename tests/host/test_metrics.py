"""Queue, busy threads, replaced workers and shed requests are seen on the host, at next to no cost."""

import shlex
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployed import Answer, Deployed
from operated import METRICS, eventually, restarted_with

pytestmark = pytest.mark.host

WRITE = "systemctl start notes-metrics.service"
FILE = f"{METRICS}/notes.prom"
SLOT = "$(basename $(readlink /srv/notes/active))"
INTERVAL_SECONDS = 15
RUNS = 20
# About half as much on a machine that does nothing else.
CPU_SHARE = 0.0015
# What the command and all that it starts use; systemd does not count it on every host.
CPU_SECONDS = f"""
import resource, subprocess
user = {{"user": "nobody", "group": "notes", "extra_groups": ["adm"]}}
for _ in range({RUNS}):
    subprocess.run(["notes-status", "metrics"], stdout=open("/run/trial", "w"), check=True, **user)
    subprocess.run(["/bin/sh", "-ec", "mv -fT /run/trial /run/trial.prom; mv -fT /run/trial.prom /run/trial"], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""
# As logrotate does it.
ROTATE = (
    "cd /var/log/nginx && mv notes.shed.log notes.shed.log.1 && nginx -s reopen && "
    "while readlink /proc/[0-9]*/fd/* | grep -q 'notes[.]shed[.]log[.]1$'; do sleep 0.05; done"
)


@pytest.fixture(autouse=True)
def rested(operated: Deployed) -> None:
    """Each test begins with a slot of which no worker has ended, and with a deployed host."""
    found = metrics(operated)
    if [found.get(name) for name in ("gunicorn_workers", "recycled", "killed")] != [2, 0, 0]:
        operated.shell(f"systemctl restart notes@{SLOT}")
        eventually(lambda: metrics(operated)["gunicorn_workers"] == 2, "two workers are ready")


def metrics(stack: Deployed) -> Mapping[str, float]:
    """The metrics at this moment; those with a reason are named by it."""
    found = {}
    for family in text_string_to_metric_families(stack.shell(f"{WRITE} && cat {FILE}")):
        assert family.documentation, family.name
        for sample in family.samples:
            assert sample.labels["application"] == "notes"
            found[sample.labels.get("reason", sample.name)] = sample.value
    return found


@contextmanager
def asking(stack: Deployed, count: int, wait_ms: int) -> Iterator[list[Future[Answer]]]:
    """Requests that are under way."""
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(stack.get, f"/work/?wait_ms={wait_ms}") for _ in range(count)]


def test_they_are_written_again_and_again_and_after_a_restart_of_the_host(operated: Deployed) -> None:
    assert operated.shell("systemctl is-enabled notes-metrics.timer") == "enabled\n"
    assert operated.shell("systemctl is-active notes-metrics.timer") == "active\n"
    first = operated.shell(f"stat -c %y {FILE}")
    eventually(lambda: operated.shell(f"stat -c %y {FILE}") != first, "written by the timer")
    assert operated.shell(f"stat -c '%a %U' {FILE}") == "644 root\n"
    release = operated.shell("basename $(readlink /srv/notes/active/release)").strip()
    assert f'release="{release}",slot="{operated.shell(f"echo {SLOT}").strip()}"' in operated.shell(f"cat {FILE}")


def queue_and_busy(stack: Deployed) -> tuple[float, float]:
    found = metrics(stack)
    return found["gunicorn_accept_queue_length"], found["gunicorn_threads_busy"]


def test_the_queue_and_the_busy_threads(operated: Deployed) -> None:
    backlog = int(operated.settings["systemd.Backlog"])
    idle = metrics(operated)
    assert (idle["gunicorn_accept_queue_length"], idle["gunicorn_accept_queue_capacity"]) == (0, backlog)
    assert (idle["gunicorn_threads_busy"], idle["gunicorn_threads"]) == (0, 4)
    with asking(operated, 7, 3000) as answers:
        eventually(lambda: queue_and_busy(operated) == (3, 4), "four are served and three wait")
        said = operated.shell("notes-status")
        assert f"queue    3 of at most {backlog} requests wait\n" in said
        assert "threads  4 of 4 busy\n" in said
        assert {answer.result().status for answer in answers} == {200}


def check_exits(stack: Deployed) -> None:
    """One worker leaves as one that has answered max_requests does, then another one is killed."""
    for signal, expected in (("TERM", (1, 0)), ("KILL", (1, 1))):
        stack.shell(f"kill -{signal} $(ls /run/notes-{SLOT}/workers | head -n 1)")
        eventually(lambda: sum(exits(stack)) == sum(expected), "it is gone")  # noqa: B023 - called at once
        assert exits(stack) == expected
    eventually(lambda: metrics(stack)["gunicorn_workers"] == 2, "both are replaced")


def exits(stack: Deployed) -> tuple[float, float]:
    found = metrics(stack)
    return found["recycled"], found["killed"]


def test_recycled_and_killed_workers(operated: Deployed) -> None:
    check_exits(operated)
    assert "1 were recycled and 1 killed" in operated.shell("notes-status")


def test_without_its_last_word_a_recycled_worker_looks_killed(operated: Deployed) -> None:
    with restarted_with(operated, "^def worker_exit", "def _worker_exit"), pytest.raises(AssertionError):
        check_exits(operated)


def test_a_slot_that_stops_replaces_nobody(operated: Deployed) -> None:
    operated.shell(f"systemctl restart notes@{SLOT}")
    assert exits(operated) == (0, 0)


def test_shed_requests_are_counted_also_over_a_rotated_log(operated: Deployed) -> None:
    room = int(operated.settings["systemd.Backlog"]) + 1 + 4
    before, shed = metrics(operated)["nginx_requests_shed_total"], 0
    for rotate in (ROTATE, "true"):
        with asking(operated, room + 5, 1000) as answers:
            statuses = [answer.result().status for answer in answers]
        assert set(statuses) == {200, 503}
        shed += statuses.count(503)
        operated.shell(rotate)
        assert metrics(operated)["nginx_requests_shed_total"] == before + shed
    assert f"shed     {before + shed:.0f} requests got 503" in operated.shell("notes-status")


def test_they_cost_next_to_nothing(operated: Deployed) -> None:
    used = float(operated.shell(f"python3 -c {shlex.quote(CPU_SECONDS)}")) / RUNS
    assert 0 < used / INTERVAL_SECONDS < CPU_SHARE, f"{used * 1000:.1f} ms every {INTERVAL_SECONDS} s"
    timer = operated.shell("systemctl show --value -p TimersMonotonic notes-metrics.timer")
    assert f"OnUnitActiveUSec={INTERVAL_SECONDS}s" in timer
    quiet = operated.shell("journalctl --no-pager --quiet --output cat -u notes-metrics.service --since=-10s")
    assert quiet == ""


def running(stack: Deployed) -> str:
    """The runtime directory of the slot that serves."""
    return stack.shell(f"echo /run/notes-{SLOT}").strip()


def test_odd_names_among_the_marks_are_not_counted(operated: Deployed) -> None:
    marks = f"{running(operated)}/workers"
    operated.shell(f"cd {marks} && touch -- ² 1² 1x 1.5 +1 -1 01 0 && mkdir 77 && ln -s /etc/passwd 78 && mkfifo 79")
    try:
        assert metrics(operated)["gunicorn_workers"] == 2
        assert "workers  2 ready" in operated.shell("notes-status")
    finally:
        operated.shell(f"cd {marks} && rm -r ² 1² 1x 1.5 +1 ./-1 01 0 77 78 79")


@pytest.mark.parametrize(
    "plant",
    [
        "ln -s /root/secret exits",
        "mkfifo exits",
        "mkdir exits",
        "echo '4711 of-the-application' >exits",
        "echo '1 0009' >exits",
        "printf '1 99999999999999999999' >exits",
        "head -c 100000000 /dev/zero >exits",
        ": >exits",
    ],
)
def test_what_gunicorn_did_not_write_is_not_published(operated: Deployed, plant: str) -> None:
    operated.shell("echo '31 7 of-root' >/root/secret; chmod 644 /root/secret; chmod 711 /root")
    here = running(operated)
    operated.shell(
        f"rm -rf {here}/exits && cd {here} && setpriv --reuid notes --regid notes --clear-groups sh -c {plant!r}"
    )
    try:
        found = metrics(operated)  # which comes to an end
        assert (found["gunicorn_workers"], found.get("recycled"), found.get("killed")) == (2, None, None)
        assert "of-" not in operated.shell(f"cat {FILE}")
        assert "2 ready; unknown were recycled and unknown killed" in operated.shell("timeout 10 notes-status")
    finally:
        operated.shell(f"rm -rf {here}/exits /root/secret; chmod 700 /root")


def test_the_unit_may_do_nothing_else(operated: Deployed) -> None:
    settings = "User,DynamicUser,NoNewPrivileges,TimeoutStartUSec,ProtectSystem,CapabilityBoundingSet"
    found = set(operated.shell(f"systemctl show notes-metrics.service -p {settings}").splitlines())
    assert found == {
        "User=notes-metrics",
        "DynamicUser=yes",
        "NoNewPrivileges=yes",
        f"TimeoutStartUSec={INTERVAL_SECONDS}s",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
    }
    exposure = operated.shell("systemd-analyze security --no-pager notes-metrics.service | tail -n 1")
    assert float(exposure.split("notes-metrics.service: ")[1].split()[0]) <= 1.2, exposure


def test_it_ends_when_it_hangs_and_the_next_turn_writes_again(operated: Deployed) -> None:
    drop_in = "/run/systemd/system/notes-metrics.service.d"
    hang = "[Service]\\nTimeoutStartSec=1\\nExecStart=\\nExecStart=/bin/sleep 60"
    operated.shell(f"mkdir {drop_in} && printf '{hang}' >{drop_in}/hang.conf && systemctl daemon-reload")
    try:
        before = operated.shell(f"cat {FILE}")
        assert operated.shell(f"{WRITE} || systemctl show --value -p Result notes-metrics.service") == "timeout\n"
        assert operated.shell(f"cat {FILE}") == before
    finally:
        operated.shell(f"rm -r {drop_in} && systemctl daemon-reload")
    assert metrics(operated)["gunicorn_workers"] == 2


def test_what_others_have_in_that_directory_stays(operated: Deployed) -> None:
    operated.shell(f"echo other >{METRICS}/other.prom; echo precious >/root/precious")
    operated.shell(f"ln -sf /root/precious {METRICS}/.notes.prom")  # whoever owns the directory could
    assert metrics(operated)["gunicorn_workers"] == 2
    assert operated.shell(f"cat {METRICS}/other.prom /root/precious") == "other\nprecious\n"
    assert operated.shell(f"ls -A {METRICS}") == "notes.prom\nother.prom\n"
    operated.shell(f"rm {METRICS}/other.prom /root/precious")


@pytest.mark.parametrize(("user", "group"), [("admin", "admin"), ("www-data", "www-data"), ("nobody", "nogroup")])
def test_whoever_may_not_look_is_told_so_and_sees_no_zeros(operated: Deployed, user: str, group: str) -> None:
    refused = operated.shell(f"setpriv --reuid {user} --regid {group} --clear-groups notes-status 2>&1 || echo $?")
    here = running(operated)
    assert refused == f"notes-status: {user} may not look into {here}; root may: sudo notes-status\n1\n"
