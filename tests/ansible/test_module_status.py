"""farrier_status reads what lives on a host: queues out of ss, workers out of /proc, the answer over HTTP."""

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.module_utils.farrier_host import Failure

from farrier.ansible.modules import farrier_status
from farrier.ansible.modules.farrier_status import (
    ask,
    days_left,
    healthy,
    living,
    longest_queue,
    queues,
    told,
    workers_of,
)

LISTING = """\
u_str LISTEN 0      470                               /run/notes.sock 115739 * 0
u_str LISTEN 0      4096         /run/systemd/private 1234 * 0
u_dgr UNCONN 0      0            /run/systemd/notify 1235 * 0
tcp   LISTEN 3      511    0.0.0.0:80 0.0.0.0:*
tcp   LISTEN 0      128       [::]:22    [::]:*
"""


def test_how_many_wait_and_may_wait_in_each_accept_queue_by_address() -> None:
    assert queues(LISTING) == {
        "/run/notes.sock": (0, 470),
        "/run/systemd/private": (0, 4096),
        "0.0.0.0:80": (3, 511),
        "[::]:22": (0, 128),
    }
    assert queues("") == {}


STATUS: Mapping[str, Any] = {
    "release": "0123456789ab",
    "slot": "b",
    "since": "2026-01-02T03:04:05Z",
    "by": "alice",
    "workers": [7, 9],
    "ready": True,
    "expected": 3,
    "waiting": {"/run/notes.sock": 5},
    "queues": {"/run/notes.sock": 470},
    "response": 200,
    "response_seconds": 0.012,
    "error": "",
}


def test_one_line_for_people() -> None:
    assert told({**STATUS}, "/run/notes.sock") == (
        "release 0123456789ab in slot b since 2026-01-02T03:04:05Z by alice; 2 of 3 workers are ready, 5 of at most 470 requests "
        "wait; answers 200 in 0.012 s"
    )
    running = told({**STATUS, "ready": False}, "/run/notes.sock")
    assert (
        "by alice; 2 of 3 workers running (use -b to see whether they are ready), 5 of at most 470 requests wait"
        in running
    )
    unseen = told({**STATUS, "workers": None, "ready": False}, "/run/notes.sock")
    assert "by alice; 3 workers expected (use -b to see how many run), 5 of at most 470 requests wait" in unseen
    gone = {**STATUS, "response": 0, "error": "[Errno 111] Connection\x1b[2J refused"}
    assert told(gone, "/run/notes.sock").endswith("requests wait; [Errno 111] Connection\\x1b[2J refused")
    assert told({**STATUS, "release": None}, "/run/notes.sock") == "nothing is served yet"


@pytest.mark.parametrize(
    ("found", "well"),
    [
        pytest.param({"expected": 2}, True, id="all its workers, and an answer"),
        pytest.param({"expected": 2, "response": 302}, True, id="an answer that leads elsewhere"),
        pytest.param({}, False, id="a worker too few"),
        pytest.param({"expected": 2, "ready": False}, True, id="all its workers run, and an answer"),
        pytest.param({"ready": False}, False, id="too few run"),
        pytest.param({"workers": None, "ready": False}, True, id="an answer, and nothing to be seen of workers"),
        pytest.param(
            {"workers": None, "ready": False, "response": 502}, False, id="an error, and nothing to be seen of workers"
        ),
        pytest.param({"expected": 2, "response": 0, "error": "empty reply"}, False, id="no answer"),
        pytest.param({"expected": 2, "response": 502}, False, id="an error"),
        pytest.param({"release": None, "workers": [], "expected": 0}, False, id="nothing is served"),
    ],
)
def test_whether_visitors_are_served_as_they_should_be(found: dict[str, Any], well: bool) -> None:
    assert healthy({**STATUS, **found}) is well


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        pytest.param({"release": "0123456789ab", "workers": 5}, 5, id="its configuration says so"),
        pytest.param({"release": "0123456789ab"}, 3, id="one from before configurations"),
        pytest.param({"workers": [1]}, 3, id="nonsense"),
        pytest.param(None, 3, id="no file"),
    ],
)
def test_what_the_slot_was_filled_with(tmp_path: Path, slot: Any, expected: int) -> None:
    (tmp_path / "slots/a").mkdir(parents=True)
    (tmp_path / "active").symlink_to("slots/a")
    if slot:
        (tmp_path / "slots/a/slot.json").write_text(json.dumps(slot))
    found = living("no-such-application", str(tmp_path), 3)
    assert (found["expected"], found["release"], found["workers"]) == (expected, (slot or {}).get("release"), [])


OTHERS = {1: "S 0", 7: "S 1", 11: "S 7", 12: "R 7", 13: "Z 7", 14: "S 11", 99: "S 1"}
"""By process: its state and its parent."""


@pytest.mark.parametrize(
    ("euid", "open_marks", "master", "hidden", "found"),
    [
        pytest.param(0, True, 7, False, ([12], True), id="root sees the marks"),
        pytest.param(0, False, 7, False, ([], True), id="root, and there are none"),
        pytest.param(1000, True, 7, False, ([12], True), id="who may look at the marks"),
        pytest.param(1000, False, 7, False, ([11, 12], False), id="who may not sees the children"),
        pytest.param(1000, False, 0, False, ([], True), id="no process, no workers"),
        pytest.param(1000, True, 7, True, (None, False), id="proc hides the others"),
        pytest.param(1000, False, None, False, (None, False), id="systemd cannot be asked"),
        pytest.param(0, True, None, False, ([], True), id="root cannot ask systemd"),
    ],
)
def test_what_is_seen_of_its_workers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    euid: int,
    open_marks: bool,
    master: int | None,
    hidden: bool,
    found: tuple[list[int] | None, bool],
) -> None:
    for pid, stat in OTHERS.items():
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/stat").write_text(f"{pid} (gunicorn: ) {stat} 7 7 0")
    if hidden:
        (tmp_path / "proc/1/stat").unlink()
    if open_marks:
        (tmp_path / "notes-a/workers").mkdir(parents=True)
        for pid in (12, 13, 99):
            (tmp_path / f"notes-a/workers/{pid}").touch()

    def main_pid(unit: str) -> int:
        assert unit == "notes@a.service"
        if master is None:
            raise Failure("systemctl show: Failed to connect to bus")
        return master

    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(farrier_status, "main_pid", main_pid)
    assert workers_of("notes", "a", str(tmp_path), str(tmp_path / "proc")) == found


def test_where_the_kernel_does_not_tell_its_longest_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farrier_status, "SOMAXCONN", str(tmp_path / "nowhere"))
    assert longest_queue() is None
    (tmp_path / "nowhere").write_text("4096\n")
    assert longest_queue() == 4096


def test_no_answer_is_a_result_and_not_a_crash() -> None:
    result = ask(("127.0.0.1", 443), "www.example.org", "/", tls=True, seconds=0.2)
    assert result["response"] == 0
    assert result["error"]


class Busy(BaseHTTPRequestHandler):
    """Answers with the first of these until one is left; a status below zero comes with Retry-After."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(abs(status))
        if status < 0:
            self.send_header("Retry-After", "1")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


@pytest.mark.parametrize(
    ("answers", "seconds", "found", "left"),
    [
        pytest.param([-503, -503, 200, 404], 5, 200, [404], id="its queue was full for a moment"),
        pytest.param([503, 200], 5, 503, [200], id="the application says so"),
        pytest.param([-503], 0.5, 503, [-503], id="its queue stays full"),
    ],
)
def test_a_full_queue_is_asked_again(answers: list[int], seconds: float, found: int, left: list[int]) -> None:
    Busy.answers = answers
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = ask(("127.0.0.1", server.server_port), "www.example.org", "/health/", tls=False, seconds=seconds)
        server.shutdown()
    assert (result["response"], Busy.answers) == (found, left)
    assert "again" not in result


@pytest.mark.parametrize("days", [2, 400])
def test_how_long_a_certificate_is_valid(tmp_path: Path, days: int) -> None:
    chain = tmp_path / "chain.pem"
    options = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=www.example.org", "-days", str(days)]
    command = ["openssl", "req", "-x509", *options, "-keyout", str(tmp_path / "key.pem"), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    der = ssl.PEM_cert_to_DER_cert(chain.read_text())
    assert days_left(der, time.time() + 60) == days - 1
    assert days_left(der, time.time() + (days + 1) * 86_400 + 60) == -2
    assert days_left(b"nothing", time.time()) is None
