"""What must survive when something runs out: memory, disk, the host's size, time, processes, and a client's manners.

Rows of the same table as in test_faults.py, on the same host.
"""

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from deployed import DOMAIN, ENVIRONMENT, PLAY, attempt
from faults import THREADS, WORKERS, Stage, write_release

pytestmark = pytest.mark.host

MEGABYTE = 1024**2
LOOK_AT_FILES = "find /etc /srv /usr/local -xdev -printf '%p %s %T@ %l\\n' | sort | sha256sum"


@pytest.fixture(autouse=True)
def rested(stage: Stage) -> None:
    """Each fault happens to a host as it was planned, and recovered from the one before."""
    stage.mutation = ""
    try:
        stage.settled()
    except AssertionError:  # that test has failed; this one need not
        stage.repair()


@contextmanager
def full(stage: Stage, directory: str, megabytes: int, owner: str = "root:root") -> Iterator[None]:
    """A directory on a small file system that has no room left; NGINX opens its files again."""
    stage.shell(
        f"mount -t tmpfs -o size={megabytes}m,mode=755 tmpfs {directory} && chown {owner} {directory} && "
        f"nginx -s reopen && (cat /dev/zero >{directory}/filling 2>&1 || true)"
    )
    try:
        yield
    finally:
        stage.shell(f"umount --lazy {directory} && nginx -s reopen")


# ---- Memory ----


def test_no_memory_for_two_slots(stage: Stage) -> None:
    # So many that what is left for a second slot is still enough for Ansible.
    many = ("-e", f"notes_trial_gunicorn_workers={4 * WORKERS}")
    stage.stack.play(*many)
    try:
        before = stage.settled(4 * WORKERS)
        processes = " ".join(f"/proc/{pid}/smaps_rollup" for pid in (before.main_pid, *before.workers))
        takes = int(stage.shell(f"awk '/^Pss:/ {{n += $2}} END {{print int(n / 1024)}}' {processes}"))
        free = re.search(r'"available": (\d+)', stage.ask_facts())
        assert free
        with stage.row("10: no memory for two slots") as load:
            stage.shell(
                f"mkdir -p /mnt/eaten && mount -t tmpfs -o size=2g tmpfs /mnt/eaten && "
                f"head -c {int(free[1]) - takes * 6 // 10}M /dev/zero >/mnt/eaten/it"
            )
            try:
                said = stage.refused("# no memory", *many)
            finally:
                stage.shell("umount --lazy /mnt/eaten")
            load.stop().require_none_lost()
            assert re.search(r"A second slot beside the running one takes about \d+ MB, and \d+ MB are available", said)
            assert stage.settled(4 * WORKERS) == before
    finally:
        stage.stack.play()


def test_a_host_that_has_shrunk(stage: Stage) -> None:
    before, files = stage.look(), stage.shell(LOOK_AT_FILES)
    has = int(stage.shell("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    with stage.row("28: the host has shrunk since it was sized") as load:
        for size, names in (("sized_for_memory_mb=900000", "900000 MB"), ("sized_for_cpus=96", "96 CPUs")):
            said = stage.refused("", "-e", f"notes_trial_{size}")
            assert re.search(rf"was sized for {names} and now has \d+(\.\d+)?( MB)?", re.sub(r"\s+", " ", said)), said
        load.stop().require_none_lost()
        assert has < 900_000
        assert stage.look() == before
        assert stage.shell(LOOK_AT_FILES) == files


# ---- Disks ----


@contextmanager
def small_srv(stage: Stage) -> Iterator[None]:
    """The releases on a file system that has 40 MB left."""
    stage.shell(
        "mkdir -p /mnt/small && used=$(du -sm /srv | cut -f 1) && "
        "mount -t tmpfs -o size=$((used + 40))m tmpfs /mnt/small && cp -a /srv/. /mnt/small && mount --bind /mnt/small /srv"
    )
    try:
        yield
    finally:
        stage.shell("umount --lazy /srv /mnt/small")


def check_full_disk(stage: Stage) -> None:
    before = stage.look()
    with stage.row("12: the disk is full at a deploy") as load, small_srv(stage):
        files = stage.shell(LOOK_AT_FILES)
        # Other requirements, so that it needs a virtual environment of its own.
        requirements = stage.stack.project / "app/requirements.txt"
        text = requirements.read_text(encoding="utf-8")
        requirements.write_text(f"{text}\n# another one\n", encoding="utf-8")
        try:
            said = stage.refused("# full disk")
        finally:
            requirements.write_text(text, encoding="utf-8")
        load.stop().require_none_lost()
        assert stage.look() == before
        assert "MB free below /srv; a release with its virtual environment wants 500 MB" in re.sub(r"\s+", " ", said)
        assert stage.shell(LOOK_AT_FILES) == files


def test_a_full_disk(stage: Stage) -> None:
    check_full_disk(stage)


def test_without_the_preflight_a_full_disk_is_found_half_way(stage: Stage) -> None:
    stage.mutation = "no preflight"
    tasks = stage.stack.project / "roles/notes_trial/tasks/preflight.yml"
    text = tasks.read_text(encoding="utf-8")
    tasks.write_text(text.replace("srv_free >= 500", "srv_free >= 0"), encoding="utf-8")
    try:
        with pytest.raises(AssertionError, match="a release with its virtual environment wants 500 MB"):
            check_full_disk(stage)
    finally:
        tasks.write_text(text, encoding="utf-8")


def test_a_full_disk_for_logs(stage: Stage) -> None:
    with stage.row("13: the disk for logs is full") as load, full(stage, "/var/log/nginx", 1):
        time.sleep(3)
        load.stop().require_none_lost()
        assert stage.shell("wc -c </var/log/nginx/notes.access.log").strip() == "0", "it was not full"


def test_a_full_disk_for_bodies(stage: Stage) -> None:
    with stage.row("13: the disk for bodies is full") as load, full(stage, "/var/lib/nginx/body", 1, "www-data:root"):
        large = stage.stack.ask("POST", "/work/", b"x" * 4 * MEGABYTE)
        assert large.status == 500
        time.sleep(1)
        # These fit into memory.
        load.stop().require_none_lost()
    assert stage.stack.ask("POST", "/work/", b"x" * 4 * MEGABYTE).status == 200


# ---- Clients ----


def last_status(stage: Stage, mark: str) -> str:
    """What NGINX noted for the request whose address holds the mark."""
    line = stage.shell(f"grep -h {mark} /var/log/nginx/*access.log || true")
    found = re.search(r" status=(\d+) .*upstream_status=\"([^\"]*)\"", line)
    return f"{found[1]} {found[2]}" if found else line


def dripping(stage: Stage, start: bytes, seconds: float) -> bytes:
    """What a client gets that sends this and then nothing more, until it is hung up on."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=seconds) as connection:
        connection.sendall(start)
        received = b""
        while part := connection.recv(4096):
            received += part
        return received


def test_slow_and_oversized_requests(stage: Stage) -> None:
    host = f"Host: {DOMAIN}\r\n".encode()
    limits = ("-e", "notes_trial_nginx_client_header_timeout=2", "-e", "notes_trial_nginx_client_body_timeout=2")
    stage.stack.play("--tags", "nginx", *limits)
    try:
        with stage.row("22: slow clients, oversized headers and bodies") as load, ThreadPoolExecutor(60) as pool:
            header = [pool.submit(dripping, stage, b"GET /?slow-header HTTP/1.1\r\n" + host, 10) for _ in range(30)]
            start = b"POST /work/?slow-body HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n\r\nx"
            body = [pool.submit(dripping, stage, start, 10) for _ in range(30)]
            time.sleep(1)
            busy = stage.shell("ss -xnH state established src /run/notes.sock | wc -l")
            assert int(busy) < WORKERS * THREADS, "slow clients hold threads"
            for slow in (*header, *body):
                slow.result()
            assert last_status(stage, "slow-header") == "408 -"
            assert last_status(stage, "slow-body") == "408 -"
            ask = stage.stack.ask
            assert ask("GET", "/?" + "x" * 10_000).status == 414
            assert ask("GET", "/?many", headers={"X-Large": "x" * 10_000}).status == 400
            assert ask("POST", "/work/?large", b"x" * (11 * MEGABYTE)).status == 413
            assert last_status(stage, "?large") == "413 -"
            load.stop().require_none_lost()
    finally:
        stage.stack.play("--tags", "nginx")


# ---- Time and processes ----


def test_a_request_that_outlives_the_grace_period(stage: Stage) -> None:
    graceful = int(stage.stack.settings["gunicorn.graceful_timeout"])
    stage.deploy("# before the cut")
    with stage.row("23: a request outlives the grace period") as load, ThreadPoolExecutor(1) as pool:
        endless = pool.submit(stage.stack.get, "/work/?wait_ms=60000")
        time.sleep(0.5)
        begun = time.monotonic()
        write_release(stage.stack.project, "# the cut")
        deploy = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], stage.stack.project)
        load.stop().require_none_lost()
        assert deploy.returncode == 0, deploy.stdout
        answer = endless.result()
        assert answer.status in {502, 504}, "cut by its slot, or given up by NGINX a moment before"
        assert answer.answered - begun > graceful
        said = re.sub(r"\s+", " ", deploy.stderr)
        assert "1 of the old slot's workers had requests that outlived graceful_timeout and were cut." in said
        stage.settled()


def bomb(stage: Stage) -> dict[str, int | str]:
    """What a worker that forks without end comes to."""
    answer = stage.stack.get("/fork/")
    assert answer.status == 200, f"nothing held it: {answer}"
    found: dict[str, int | str] = json.loads(answer.body)
    return found


def check_fork_bomb(stage: Stage) -> None:
    before = stage.look()
    tasks = int(stage.stack.settings["systemd.TasksMax"])
    with stage.row("24: a fork bomb in a worker") as load:
        found = bomb(stage)
        assert found["error"] == "Resource temporarily unavailable", "nothing held it"
        assert 0 < int(found["made"]) < tasks
        time.sleep(1)
        load.stop().require_none_lost()
        after = stage.settled()
        assert (after.slot, after.main_pid) == (before.slot, before.main_pid)


def test_a_fork_bomb(stage: Stage) -> None:
    stage.deploy(FORK)
    check_fork_bomb(stage)


def test_without_tasks_max_a_fork_bomb_goes_on(stage: Stage) -> None:
    stage.deploy(FORK)
    stage.mutation = "TasksMax=infinity"
    unit = f"notes@{stage.look().slot}"
    stage.shell(f"systemctl set-property --runtime {unit} TasksMax=infinity")
    try:
        with pytest.raises(AssertionError, match="nothing held it"):
            check_fork_bomb(stage)
    finally:
        stage.shell(f"systemctl revert {unit}")


FORK = """
import json as _json
import os as _os
import signal as _signal
import time as _time

_peaceful = application


def application(environ, start_response):
    if environ["PATH_INFO"] != "/fork/":
        return _peaceful(environ, start_response)
    children, error = [], "none"
    try:
        while len(children) < 300:
            child = _os.fork()
            if not child:
                _time.sleep(60)
                _os._exit(0)
            children.append(child)
    except OSError as problem:
        error = problem.strerror
    _time.sleep(2)
    for child in children:
        _os.kill(child, _signal.SIGKILL)
        _os.waitpid(child, 0)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_json.dumps({"made": len(children), "error": error}).encode()]
"""
