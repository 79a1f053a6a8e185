"""What `application_measurement` does on a host among what an application has planted in its runtime directory."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_host, measured_place, measured_process, measured_services
from ansible.module_utils.farrier_beneath import Refused
from ansible.module_utils.measured_place import MeasurementFailure, Place
from ansible.module_utils.measured_unit import Unit

SLEEPER = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
PARENT = [
    sys.executable,
    "-c",
    "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "print(child.pid, flush=True); sys.exit(child.wait())",
    *SLEEPER,
]


@pytest.fixture
def canary() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(SLEEPER, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its only child, strangers to us as parents."""
    with subprocess.Popen(PARENT, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGKILL)


def test_only_a_child_of_the_master_is_signalled(
    canary: "subprocess.Popen[bytes]", family: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, child = family
    for pid, parent in ((canary.pid, master), (canary.pid, 0), (canary.pid, 1)):
        measured_process.signal_child(pid, parent, signal.SIGKILL)
    assert canary.poll() is None
    reached: list[int] = []
    with monkeypatch.context() as watched:  # what these would reach is everybody's
        for name in ("kill", "pidfd_open"):
            watched.setattr(os, name, lambda pid, *_rest: reached.append(pid))
        for pid in (-1, 0, 1):
            measured_process.signal_child(pid, master, signal.SIGKILL)
    assert reached == []
    assert farrier_host.children(master) == [child]
    measured_process.signal_child(child, master, signal.SIGKILL)
    while farrier_host.parent(child) == master:  # the parent reaps it and ends
        time.sleep(0.01)

    def old_kernel(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(os, "pidfd_open", old_kernel)
    measured_process.signal_child(canary.pid, master, signal.SIGKILL)
    assert canary.poll() is None
    measured_process.signal_child(canary.pid, os.getpid(), signal.SIGKILL)
    assert canary.wait() == -signal.SIGKILL


class Living(Unit):  # type: ignore[misc] # found by Ansible only
    """A unit whose main process is ours, with its runtime directory somewhere else."""

    master = os.getpid()

    def __init__(self, runtime: Path) -> None:
        self.place, self.workers = type("Place", (), {"runtime": runtime})(), 1


def test_marks_are_those_of_living_children_whatever_lies_beside_them(
    tmp_path: Path, canary: "subprocess.Popen[bytes]"
) -> None:
    outside = tmp_path / "outside"
    outside.write_text('{"boot_seconds": 7.5}')
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in (
        "worker--1",
        "worker-²",
        "worker-0",
        "worker-1",
        "worker-",
        "worker-99999999",
        f"worker-0{canary.pid}",
    ):
        (runtime / name).write_text('{"boot_seconds": 7.5}')
    unit = Living(runtime)
    assert unit.marks() == {}
    mine = runtime / f"worker-{canary.pid}"
    mine.symlink_to(outside)
    assert unit.marks() == {}
    mine.unlink()
    os.mkfifo(mine)
    assert unit.marks() == {}
    mine.unlink()
    for content in (
        '{"boot_seconds": NaN}',
        '{"boot_seconds": -1.0}',
        '{"boot_seconds": "1"}',
        "[1]",
        "\0" * 9,
        "[" * 9**5,
    ):
        mine.write_text(content)
        assert unit.marks() == {}
    mine.write_text('{"boot_seconds": 0.25}')
    assert unit.marks() == {canary.pid: 0.25}
    assert unit.of_master() == {}
    os.mkfifo(runtime / "master")
    with pytest.raises(Refused, match="master: not a regular file"):
        unit.of_master()
    (runtime / "master").unlink()
    for content in ("[1]", "[" * 9**5, "{"):
        (runtime / "master").write_text(content)
        with pytest.raises(
            MeasurementFailure, match=r"the application overwrites .*/master, where Gunicorn's master leaves a note"
        ):
            unit.of_master()


def test_what_root_leaves_for_the_workers_goes_through_no_link(tmp_path: Path) -> None:
    runtime, outside = tmp_path / "runtime", tmp_path / "outside"
    runtime.mkdir()
    outside.write_text("kept")
    before = outside.stat()
    (runtime / "references-wanted").symlink_to(outside)
    (runtime / "references-7").write_bytes((5).to_bytes(8, "little"))
    references = measured_process.References(runtime, [7])
    assert (runtime / "references-wanted").is_file()
    assert not (runtime / "references-wanted").is_symlink()
    with (runtime / "references-7").open("ab") as file:
        file.write((3).to_bytes(8, "little"))
    references.read()
    assert (references.total_ns, references.last_ns) == (3, 3)
    (runtime / "references-wanted").unlink()
    (runtime / "references-wanted").symlink_to(outside)
    references.close()
    assert [each.name for each in runtime.iterdir()] == ["references-7"]
    assert (outside.read_text(), outside.stat().st_mtime_ns) == ("kept", before.st_mtime_ns)
    (runtime / "references-8").symlink_to(outside)
    os.mkfifo(runtime / "references-9")
    for pid in (8, 9):
        with pytest.raises(Refused, match=f"references-{pid}: not a regular file"):
            measured_process.References(runtime, [pid])
    with (runtime / "references-10").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MeasurementFailure, match="something else writes into the file"):
        measured_process.References(runtime, [10])
    with pytest.raises(ProcessLookupError):
        measured_process.References(runtime, [11])
    (runtime / "references-wanted").mkdir()
    with pytest.raises(MeasurementFailure, match="the application puts a directory where its workers look"):
        measured_process.References(runtime, [7])


def test_names_of_any_bytes_are_one_printable_line() -> None:
    program = (
        "import ctypes, threading, time; libc = ctypes.CDLL(None)\n"
        r"threading.Thread(target=lambda: (libc.prctl(15, b'\xff\nx: 1'), print(flush=True), time.sleep(60))).start()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert measured_process.native_threads(process.pid) == ["\N{REPLACEMENT CHARACTER}\\nx: 1"]
            assert process.pid in farrier_host.children(os.getpid())
        finally:
            process.kill()


def place(monkeypatch: pytest.MonkeyPatch, home: Path, fragment: str = "") -> Place:
    """A place below a home of ours, on a host whose systemd knows one unit file."""
    monkeypatch.setattr(measured_place, "output", lambda *_command: f"{fragment}\n")
    return Place({"application": "notes", "home": str(home)})


def test_what_no_measurement_has_made_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(monkeypatch, tmp_path / "notes")
    found.require_own()
    (tmp_path / "notes-measure").mkdir()
    found.require_own()  # one that came no further
    (tmp_path / "notes-measure/releases").mkdir()
    message = (
        f"{tmp_path}/notes-measure is there and belongs to no measurement: rename it, or the application that it is of"
    )
    with pytest.raises(MeasurementFailure) as caught:
        found.clean()
    assert str(caught.value) == message
    assert (tmp_path / "notes-measure/releases").is_dir()
    (tmp_path / "notes-measure" / measured_place.MARK).touch()
    found.require_own()
    (tmp_path / "notes-measure").rename(tmp_path / "elsewhere")
    (tmp_path / "notes-measure").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MeasurementFailure, match="belongs to no measurement"):
        found.require_own()
    own = "/etc/systemd/system/farrier-measure-notes.service"
    with pytest.raises(MeasurementFailure, match=f"{own} is a unit of somebody else's"):
        place(monkeypatch, tmp_path / "other", own).require_own()
    place(monkeypatch, tmp_path / "other", "/run/systemd/transient/farrier-measure-notes.service").require_own()


def test_cpu_time_is_found_by_unit(tmp_path: Path) -> None:
    tree: dict[str, Any] = {
        "system.slice/system-postgresql.slice/postgresql@15-main.service": "usage_usec 1500000\nuser_usec 1\n",
        "system.slice/redis.service": "usage_usec 20\n",
        "system.slice/redis.service/below.service": "usage_usec 20\n",
        "system.slice/broken.service": "x\n",
        "user.slice/user-1000.slice/session-3.scope": "usage_usec 7\n",
        "dev-hugepages.mount": "usage_usec 9\n",
    }
    for path, content in tree.items():
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "cpu.stat").write_text(content)
    (tmp_path / "system.slice/loop.slice").symlink_to(tmp_path / "system.slice")
    expected = {"postgresql@15-main.service": 1_500_000, "redis.service": 20, "session-3.scope": 7}
    assert measured_services.units_cpu_us(((str(tmp_path), "cpu.stat"),)) == expected
    # v1 counts in nanoseconds.
    (tmp_path / "v1/a.service").mkdir(parents=True)
    (tmp_path / "v1/a.service/cpuacct.usage").write_text("2000000\n")
    hierarchies = ((str(tmp_path / "none"), "cpu.stat"), (str(tmp_path / "v1"), "cpuacct.usage"))
    assert measured_services.units_cpu_us(hierarchies) == {"a.service": 2000}
    # No account at all: the sums of their processes, in ticks.
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, unit in ((5, "0::/system.slice/a.service\n"), (6, "1:cpu:/\n0::/system.slice/a.service\n"), (7, "0::/\n")):
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/cgroup").write_text(unit)
        (tmp_path / f"proc/{pid}/stat").write_bytes(b"5 (\xff) ) S " + b"0 " * 10 + b"%d %d 0" % (ticks, ticks // 2))
    assert measured_services.units_cpu_us((), str(tmp_path / "proc")) == {"a.service": 3_000_000}


def test_what_services_use_is_told_apart_from_what_they_use_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = iter(
        [
            {"db.service": 0, "ssh.service": 0, "farrier-measure-notes.service": 0},
            {"db.service": 10, "ssh.service": 500, "farrier-measure-notes.service": 500},
            {"db.service": 910, "ssh.service": 900, "farrier-measure-notes.service": 900, "new.service": 5},
            {"db.service": 950, "ssh.service": 950, "farrier-measure-notes.service": 950, "new.service": 25},
        ]
    )
    times = iter([0.0, 1.0, 11.0, 13.0])
    monkeypatch.setattr(measured_services, "units_cpu_us", lambda: next(counters))
    monkeypatch.setattr(measured_services, "own_units", lambda: {"ssh.service"})
    monkeypatch.setattr(measured_services.time, "monotonic", lambda: next(times))
    others = measured_services.Others("farrier-measure-notes")
    others.count("idle")
    others.count("busy")
    others.count("idle")
    used = {"db.service": {"idle": 50, "busy": 900}, "new.service": {"idle": 20, "busy": 0}}
    assert others.document(20) == {"seconds": {"idle": 3.0, "busy": 10.0}, "used_us": used}
    assert others.document(1) == {"seconds": {"idle": 3.0, "busy": 10.0}, "used_us": {"db.service": used["db.service"]}}


@pytest.mark.parametrize("sandbox", [[], ["ProtectSystem=strict"], ["User=root"]])
def test_root_runs_nothing_of_a_release(tmp_path: Path, sandbox: list[str]) -> None:
    unit = Living(tmp_path)
    unit.params = {"sandbox": sandbox}
    with pytest.raises(
        MeasurementFailure, match="the sandbox names no user of the application's own, and root runs nothing of it"
    ):
        unit.__enter__()


def test_a_request_is_delayed_while_the_thread_that_computes_most_stands_ready() -> None:
    before = {"10": (1_000, 500), "11": (0, 0)}
    after = {"10": (9_000, 700), "11": (10, 4_000), "12": (2_000, 90)}  # 11 only woke up, 12 is new
    assert measured_process.delay_ns(before, after) == 200
    assert measured_process.delay_ns({}, {"12": (2_000, 90)}) == 90
    assert measured_process.delay_ns(before, {}) == 0


def test_a_request_is_written_as_http_has_it() -> None:
    content = measured_process.request_content("POST", "/notes/?page=2", b"text=x", {"Host": "www.example.org"})
    head, body = content.split(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /notes/?page=2 HTTP/1.1"
    assert {b"Host: www.example.org", b"Content-Length: 6"} <= set(head.split(b"\r\n")[1:])
    assert body == b"text=x"
    assert content.count(b"Host: ") == 1
    assert b"Content-Length" not in measured_process.request_content("GET", "/", None, {"Host": "x"})


def test_stream_sockets_of_a_process_are_named_by_what_they_are_for() -> None:
    with socket.socket() as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        datagrams.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            found = measured_process.sockets(os.getpid())
        assert {f"listening on 127.0.0.1:{port}", f"to 127.0.0.1:{port}"} <= set(found)
        assert not any(f":{datagrams.getsockname()[1]}" in name for name in found)
