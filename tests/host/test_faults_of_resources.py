"""What must survive when something runs out: memory, disk, the host's size, time, processes, and a client's manners.

Rows of the same table as in test_faults.py, on the same host, and checks of the same kind.
"""

import json
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest

from faults import THREADS, WORKERS, Stage, write_release
from load import REQUESTS_PER_SECOND
from testbed import DOMAIN, ENVIRONMENT, PLAY, attempt

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("rested")]

MEGABYTE = 1024**2
LARGE = f"_kept = b'x' * {120 * MEGABYTE}"
# What NGINX gives slow clients here, and after which a client thinks that it gives them more.
CLIENT_SECONDS = 2
PATIENCE_SECONDS = 4
# NGINX, with its old processes already on their way out: none of them accepts another connection.
RELOAD = (
    "old=$(pgrep -fx 'nginx: worker process *'); nginx -s reload; for pid in $old; do "
    "while ps -o args= -p $pid | grep -qx 'nginx: worker process *'; do sleep 0.05; done; done"
)
LOOK_AT_FILES = "find /etc /srv /usr/local -xdev -printf '%p %s %T@ %l\\n' | sort | sha256sum"


@contextmanager
def full(stage: Stage, directory: str, owner: str = "root:root") -> Iterator[None]:
    """A directory on a small file system that has no room left; what NGINX has open there it opens again."""
    stage.shell(
        f"mount -t tmpfs -o size=1m,mode=755 tmpfs {directory} && chown {owner} {directory} && "
        f"(cat /dev/zero >{directory}/filling 2>&1 || true) && nginx -s reopen"
    )
    try:
        yield
    finally:
        stage.shell(f"umount --lazy {directory} && nginx -s reopen")


# ---- Memory ----


def check_no_memory(stage: Stage, bring: Callable[[], str]) -> None:
    before = stage.look()
    with stage.row("10: no memory for two slots") as load:
        said = bring()
        load.stop().require_none_lost()
        refusal = r"A second slot beside the running one needs about \d+ MB, but \d+ MB are available"
        assert re.search(refusal, said), f"not refused before it was started: {said}"
        assert stage.settled(len(before.workers)) == before


def test_no_memory_for_two_slots(stage: Stage) -> None:
    # So large that what is too little for a second slot is still enough for Ansible.
    stage.deploy(LARGE)
    try:
        before = stage.settled()
        processes = " ".join(f"/proc/{pid}/smaps_rollup" for pid in (before.main_pid, *before.workers))
        takes = int(stage.shell(f"awk '/^Pss:/ {{n += $2}} END {{print int(n / 1024)}}' {processes}"))
        free = re.search(r'"available": (\d+)', stage.ask_facts())
        assert free
        eaten = int(free[1]) - takes * 8 // 10

        def bring() -> str:
            stage.shell(
                "mkdir -p /mnt/eaten && mount -t tmpfs -o size=2g tmpfs /mnt/eaten && "
                f"head -c {eaten}M /dev/zero >/mnt/eaten/it"
            )
            try:
                return stage.refused("# no memory")
            finally:
                stage.shell("umount --lazy /mnt/eaten")

        check_no_memory(stage, bring)
    finally:
        stage.deploy("# small again")


def check_shrunk_host(stage: Stage, *arguments: str) -> None:
    before, files = stage.look(), stage.shell(LOOK_AT_FILES)
    has = int(stage.shell("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    with stage.row("28: the host has shrunk since it was sized") as load:
        for size, names in (("sized_for_memory_mb=900000", "900000 MB"), ("sized_for_cpus=96", "96 CPUs")):
            said = stage.refused("", "-e", f"notes_trial_{size}", *arguments)
            assert re.search(rf"was sized for {names} and now has \d+(\.\d+)?( MB)?", re.sub(r"\s+", " ", said)), said
        load.stop().require_none_lost()
        assert has < 900_000
        assert stage.look() == before
        assert stage.shell(LOOK_AT_FILES) == files


def test_a_host_that_has_shrunk(stage: Stage) -> None:
    check_shrunk_host(stage)


# ---- Other sites ----


@contextmanager
def another_site(stage: Stage, listen: str, name: str = "blog.example.org") -> Iterator[None]:
    """A site of somebody else's, which NGINX serves beside the application if it has read it."""
    site = f"server {{ listen {listen}; server_name {name}; return 200 blog; }}"
    stage.shell(f"echo {shlex.quote(site)} >/etc/nginx/sites-enabled/blog")
    try:
        yield
    finally:
        stage.shell("rm /etc/nginx/sites-enabled/blog && nginx -t -q && nginx -s reload")


DEFAULT_SERVER = "a duplicate default server for 0.0.0.0:80 in /etc/nginx/sites-enabled/"


def check_conflicting_site(stage: Stage, what: str, listen: str, name: str, words: str) -> None:
    before = stage.look()
    with stage.row(f"39: another site with {what}") as load, another_site(stage, listen, name):
        files = stage.shell(LOOK_AT_FILES)
        said = re.sub(r"\s+", " ", stage.refused("# beside another site"))
        assert words in said, f"not refused before anything changed: {said}"
        load.stop().require_none_lost()
        assert stage.look() == before
        assert stage.shell(LOOK_AT_FILES) == files


@pytest.mark.parametrize(
    ("what", "listen", "name", "words"),
    [
        ("a default server", "80 default_server", "blog.example.org", DEFAULT_SERVER),
        (
            "a queue of its own",
            "80 backlog=99",
            "blog.example.org",
            "duplicate listen options for 0.0.0.0:80 in /etc/nginx/",
        ),
        ("the same name", "80", DOMAIN, f"another site of NGINX has the name {DOMAIN} too"),
    ],
)
def test_another_site_that_cannot_be_served_beside_the_application(
    stage: Stage, what: str, listen: str, name: str, words: str
) -> None:
    check_conflicting_site(stage, what, listen, name, words)


def test_another_site_is_served_beside_the_application(stage: Stage) -> None:
    with stage.row("39: another site is served too") as load, another_site(stage, "80"):
        stage.shell("nginx -s reload")
        stage.deploy("# beside a site that agrees")
        load.stop().require_none_lost()
        assert stage.stack.ask("GET", "/", headers={"Host": "blog.example.org"}).body == "blog"


def test_another_application_of_the_same_kind_is_refused(stage: Stage) -> None:
    header = ("Written by Ansible for notes", "Written by Ansible for blog")
    with stage.row("39: another application's NGINX") as load, stage.altered("/etc/nginx/nginx.conf", *header):
        files = stage.shell(LOOK_AT_FILES)
        said = re.sub(r"\s+", " ", stage.refused("# beside another application"))
        assert "NGINX on faults is configured by the role of blog, another application" in said
        load.stop().require_none_lost()
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


def check_full_disk(stage: Stage, *arguments: str) -> None:
    before = stage.look()
    with stage.row("12: the disk is full at a deploy") as load, small_srv(stage):
        files = stage.shell(LOOK_AT_FILES)
        # Other requirements, so that it needs a virtual environment of its own.
        requirements = stage.stack.project / "app/requirements.txt"
        text = requirements.read_text(encoding="utf-8")
        requirements.write_text(f"{text}\n# another one\n", encoding="utf-8")
        try:
            said = stage.refused("# full disk", *arguments)
        finally:
            requirements.write_text(text, encoding="utf-8")
        load.stop().require_none_lost()
        assert stage.look() == before
        need = (
            r"has \d+ MB free below /srv; a release with its virtual environment wants \d+ MB: the largest so far took"
        )
        assert re.search(need, re.sub(r"\s+", " ", said)), said
        assert stage.shell(LOOK_AT_FILES) == files


def test_a_full_disk(stage: Stage) -> None:
    check_full_disk(stage)


def test_a_full_disk_for_logs(stage: Stage) -> None:
    """Nothing is taken away here: what goes on is NGINX, which drops lines that it cannot write and cannot be told not to."""
    logs = "/var/log/nginx"
    # It opens its files a moment after it was told to, and until then logs into those that are hidden now.
    old = f"[ -e /proc/$pid ] && ! stat -L -c %d /proc/$pid/fd/* | grep -qx $(stat -c %d {logs})"
    with stage.row("13: the disk for logs is full") as load, full(stage, logs):
        stage.shell(f"for pid in $(pgrep -x nginx); do while {old}; do sleep 0.05; done; done")
        before = len(load.report().records)
        time.sleep(2)
        report = load.stop()
        report.require_none_lost()
        assert len(report.records) > before + REQUESTS_PER_SECOND
        assert stage.shell(f"wc -c <{logs}/notes.access.log").strip() == "0", "it was not full"
        assert "No space left" in stage.shell(f"head -c 1 /dev/zero 2>&1 >{logs}/one-more || true")


def check_full_disk_for_bodies(stage: Stage) -> None:
    large = ("POST", "/work/", b"x" * 4 * MEGABYTE)
    with stage.row("13: the disk for bodies is full") as load, full(stage, "/var/lib/nginx/body", "www-data:root"):
        assert stage.stack.ask(*large).status == 500
        time.sleep(1)
        # These fit into memory.
        load.stop().require_none_lost()
    assert stage.stack.ask(*large).status == 200


def test_a_full_disk_for_bodies(stage: Stage) -> None:
    check_full_disk_for_bodies(stage)


# ---- Clients ----


def last_status(stage: Stage, mark: str) -> str:
    """What NGINX noted for the last request whose address holds the mark."""
    line = stage.shell(f"grep -h {mark} /var/log/nginx/*access.log | tail -n 1")
    found = re.search(r" status=(\d+) .*upstream_status=\"([^\"]*)\"", line)
    return f"{found[1]} {found[2]}" if found else line


def dripping(stage: Stage, start: bytes) -> bytes:
    """What a client gets that sends this and then nothing more, until it is hung up on."""
    with socket.create_connection(("127.0.0.1", stage.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(start)
        received = b""
        try:
            while part := connection.recv(4096):
                received += part
        except TimeoutError:
            raise AssertionError(
                f"nobody hung up within {PATIENCE_SECONDS} s on a client that sent {start!r}"
            ) from None
        return received


def hurried(stage: Stage) -> AbstractContextManager[None]:
    """NGINX with less time for slow clients than the plan gives them."""
    change = (r"client_\(header\|body\)_timeout .*", rf"client_\1_timeout {CLIENT_SECONDS};")
    return stage.altered("/etc/nginx/nginx.conf", *change, then=RELOAD)


def check_slow_clients(stage: Stage) -> None:
    host = f"Host: {DOMAIN}\r\n".encode()
    count = 3 * WORKERS * THREADS
    with stage.row("22: slow clients") as load, ThreadPoolExecutor(2 * count) as pool:
        header = [pool.submit(dripping, stage, b"GET /?slow-header HTTP/1.1\r\n" + host) for _ in range(count)]
        start = b"POST /work/?slow-body HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n\r\nx"
        body = [pool.submit(dripping, stage, start) for _ in range(count)]
        time.sleep(CLIENT_SECONDS / 2)
        busy = stage.shell("ss -xnH state established src /run/notes.sock | wc -l")
        assert int(busy) < WORKERS * THREADS, "slow clients hold threads"
        for slow in (*header, *body):
            slow.result()
        assert last_status(stage, "slow-header") == "408 -"
        assert last_status(stage, "slow-body") == "408 -"
        load.stop().require_none_lost()


def test_slow_clients(stage: Stage) -> None:
    with hurried(stage):
        check_slow_clients(stage)


def check_oversized_requests(stage: Stage) -> None:
    with stage.row("22: oversized headers and bodies") as load:
        ask = stage.stack.ask
        found = {
            "address": ask("GET", "/?" + "x" * 10_000).status,
            "header": ask("GET", "/?many", headers={"X-Large": "x" * 10_000}).status,
            "body": ask("POST", "/work/?large", b"x" * (11 * MEGABYTE)).status,
        }
        assert found == {"address": 414, "header": 400, "body": 413}, f"not refused as they should be: {found}"
        assert last_status(stage, "?many") == "400 -"
        assert last_status(stage, "?large") == "413 -"
        load.stop().require_none_lost()


def test_oversized_requests(stage: Stage) -> None:
    check_oversized_requests(stage)


# ---- Time and processes ----


def check_cut_request(stage: Stage, bring: Callable[[], "subprocess.CompletedProcess[str]"]) -> None:
    slot = stage.look().slot
    config, graceful = f"/srv/notes/slots/{slot}/gunicorn.conf.py", 3
    with stage.altered(config, "^graceful_timeout = .*", f"graceful_timeout = {graceful}"):
        stage.shell(f"systemctl restart notes@{slot}")
        stage.settled()
        with stage.row("23: a request outlives the grace period") as load, ThreadPoolExecutor(1) as pool:
            endless = pool.submit(stage.stack.get, "/work/?wait_ms=60000")
            time.sleep(0.5)
            begun = time.monotonic()
            deploy = bring()
            load.stop().require_none_lost()
            assert deploy.returncode == 0, deploy.stdout
            answer = endless.result()
            assert answer.status == 502
            assert answer.answered - begun > graceful
            said = re.sub(r"\s+", " ", deploy.stderr)
            told = "1 of the old slot's workers had requests beyond graceful_timeout and were cut off." in said
            assert told, f"the deploy does not tell: {said}"
            assert stage.settled().slot != slot


def test_a_request_that_outlives_the_grace_period(stage: Stage) -> None:
    write_release(stage.stack.project, f"# cuts {stage.look().release}")
    check_cut_request(stage, lambda: attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], stage.stack.project))


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
    check_fork_bomb(stage)
