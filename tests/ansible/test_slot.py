"""Slots as they are seen: which workers are ready, whether the queue is full, which requests were cut."""

import socket
import threading
from pathlib import Path

import pytest
from ansible.module_utils.farrier_host import parent
from ansible.module_utils.farrier_slot import UnixConnection, cut_workers, ready_workers


def process(proc: Path, pid: int, parent_pid: int, name: str = "python") -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent_pid} {pid} {pid} 0 -1\n")


def test_only_living_children_of_the_master_count_as_ready(tmp_path: Path) -> None:
    markers, proc = tmp_path / "notes-a/workers", tmp_path / "proc"
    markers.mkdir(parents=True)
    for name in ("11", "12", "13", "14", "README", "²", "-1", "0", "99999999999999999999"):
        (markers / name).touch()
    process(proc, 11, 10)
    process(proc, 12, 10, name="a) S 99 (b")
    process(proc, 13, 99)

    def ready(path: str, master: int) -> list[int]:
        found: list[int] = ready_workers(path, master, str(tmp_path), str(proc))
        return found

    assert ready("notes-a/workers", 10) == [11, 12], "13 has another parent, 14 is dead"
    assert ready("notes-a/workers", 0) == []
    assert ready("nowhere/workers", 10) == []
    (tmp_path / "notes-b").mkdir()
    (tmp_path / "notes-b/workers").symlink_to(markers)
    assert ready("notes-b/workers", 10) == [], "it is no directory of this slot's"
    for number in range(20_000, 30_001):
        (markers / str(number)).touch()
    assert ready("notes-a/workers", 10) == [], "more than there can be"
    assert parent(14, str(proc)) == 0


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "gunicorn.sock")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        with pytest.raises(BlockingIOError):
            UnixConnection(path, 1).connect()

        def take() -> None:
            listening.accept()[0].close()

        taker = threading.Timer(0.3, take)
        taker.start()
        second = UnixConnection(path, 5)
        second.connect()
        second.close()
        taker.join()


@pytest.mark.parametrize(
    ("said", "cut"),
    [
        pytest.param(["Worker exiting (pid: 11)", "Worker exiting (pid: 12)"], set(), id="all ended"),
        pytest.param(["Worker exiting (pid: 12)"], {11}, id="killed, of which nobody tells"),
        pytest.param(
            ["Worker exiting (pid: 12)", "Worker (pid:11) was sent SIGKILL! Perhaps out of memory?"], {11}, id="killed"
        ),
        pytest.param(
            [
                "Worker exiting (pid: 11)",
                "worker 11 leaves 2 requests that are not answered",
                "Worker exiting (pid: 12)",
            ],
            {11},
            id="left without them",
        ),
        pytest.param(
            ["Worker exiting (pid: 12)", "WATCHDOG: worker 11 leaves 1 requests that hang"],
            {11},
            id="left by the watchdog",
        ),
    ],
)
def test_workers_that_had_not_ended_their_requests_are_counted(said: list[str], cut: set[int]) -> None:
    assert cut_workers([11, 12], "\n".join(f"[1] [INFO] {line}" for line in said)) == cut
