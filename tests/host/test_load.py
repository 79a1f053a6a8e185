"""The load generator itself, at a small server on loopback: what it counts is what the fault suite believes."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from load import POST_SECONDS, REQUESTS_PER_SECOND, Record, Report, burst, load, parsed

pytestmark = pytest.mark.programs


class Site(BaseHTTPRequestHandler):
    """Answers like the example, but for the next ones of which a fault is named."""

    faults: ClassVar[deque[str]] = deque()

    def answer(self) -> None:
        fault = self.faults.popleft() if self.faults else ""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "refused":
            self.send_response(503)
            self.send_header("Retry-After", "10")
            self.end_headers()
            return
        body = b'{"release": "0123456789ab"}'
        if self.command == "POST":
            time.sleep(POST_SECONDS)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:5] if fault == "cut" else body)

    do_GET = do_POST = answer  # noqa: N815 - the names that the base class looks for

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_each_request_is_answered_and_kept(port: int, tmp_path: Path) -> None:
    begun = time.monotonic()
    with load(port, "example.org", tmp_path / "answers") as running:
        time.sleep(1)
        report = running.stop()
    took = time.monotonic() - begun
    report.require_none_lost()
    assert report.counts == {(200, "0123456789ab"): len(report.records)}
    assert REQUESTS_PER_SECOND <= len(report.records) <= took * REQUESTS_PER_SECOND + 1
    posts = [record for record in report.records if record.method == "POST"]
    assert len(posts) == -(-len(report.records) // 15)
    assert min(record.seconds for record in posts) >= POST_SECONDS
    # It does not wait for slow answers: the next request was due meanwhile.
    dues = sorted(record.due for record in report.records)
    assert max(after - before for before, after in itertools.pairwise(dues)) < 0.02


def test_refused_and_cut_answers_are_lost(port: int, tmp_path: Path) -> None:
    with load(port, "example.org", tmp_path / "answers") as running:
        Site.faults.extend(["refused", "cut", "refused", "cut", "refused"])
        time.sleep(0.5)
        report = running.stop()
    assert sorted(record.status for record in report.lost) == [0, 0, 503, 503, 503]
    assert {record.retry_after for record in report.lost if record.status} == {"10"}
    with pytest.raises(AssertionError, match=r"5 of .* requests lost: .*503.*IncompleteRead"):
        report.require_none_lost()


def test_a_server_that_is_not_there_is_a_loss_and_no_crash() -> None:
    report = burst(1, "example.org", 3)
    assert len(report.lost) == 3
    assert "ConnectionRefused" in report.lost[0].error


def test_its_own_limit_ends_it_and_that_is_told(port: int, tmp_path: Path) -> None:
    with load(port, "example.org", tmp_path / "answers", limit_seconds=1) as running:
        running.process.wait(5)
        with pytest.raises(AssertionError, match="ended by itself, with status 0"):
            running.stop()
    assert len(running.report().records) == REQUESTS_PER_SECOND


def test_percentiles_and_gaps_are_those_of_a_small_table() -> None:
    report = Report(tuple(Record("GET", due / 10, 0.01 * due, 200, "a") for due in range(1, 11)))
    assert (report.seconds(0.5), report.seconds(0.99), report.seconds(1)) == (0.05, 0.1, 0.1)
    assert report.longest_gap == pytest.approx(0.11)
    assert Report(report.records[:1]).longest_gap == float("inf")


def test_requests_of_windows_are_those_that_were_due_in_them() -> None:
    report = Report(tuple(Record("GET", due, 0.5, 200, "a") for due in range(10)))
    assert [each.due for each in report.due((1, 3), (2.5, 4), (9, 99)).records] == [1, 2, 3, 9]


def test_another_rate(port: int, tmp_path: Path) -> None:
    with load(port, "example.org", tmp_path / "answers", limit_seconds=1, rate=2 * REQUESTS_PER_SECOND) as running:
        running.process.wait(5)
    assert len(running.report().records) == 2 * REQUESTS_PER_SECOND


def test_an_answer_that_nobody_named_has_no_release() -> None:
    assert parsed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n") == {
        "status": 200,
        "release": "",
        "retry_after": "",
    }
