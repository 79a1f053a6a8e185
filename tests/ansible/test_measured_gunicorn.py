"""What `application_measurement` sends to Gunicorn and makes of the responses, against a unix socket of the test's own."""

import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import measured_gunicorn
from ansible.module_utils.measured_gunicorn import Gunicorn
from ansible.module_utils.measured_place import MeasurementFailure, Place

RESPONSES = {
    b"/": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"/moved/": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /\r\n\r\n",
    b"/missing/": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"/cut/": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    b"/nothing/": b"",
    b"/hang/": b"",
}


def request(
    path: str, weight: float = 1.0, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    encoded = base64.b64encode(body).decode()
    return {"name": path, "method": method, "path": path, "weight": weight, "headers": headers or {}, "body": encoded}


class Listening(Gunicorn):  # type: ignore[misc] # found by Ansible only
    """Gunicorn whose master and only worker are this process; what it would wait for has happened."""

    master = 0

    def settle(self) -> None:
        """Nothing has ended."""

    def said(self) -> str:
        return "its last words"

    def pids(self) -> list[int]:
        return [os.getpid()]


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    """A function that makes one that is to be sent these requests."""
    hold = threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "gunicorn.sock"))
    listener.listen(100)

    def respond(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # who asked may be gone
            received = connection.recv(65_536)
            path = received.split(b" ")[1] if received else b"/nothing/"
            if path == b"/hang/":
                hold.wait(10)
            connection.sendall(RESPONSES[path])

    def serve() -> None:
        while not hold.is_set():
            connection, _ = listener.accept()
            threading.Thread(target=respond, args=(connection,), daemon=True).start()

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()

    def made(*requests: dict[str, Any]) -> Listening:
        params = {"application": "notes", "home": str(tmp_path / "notes"), "host": "www.example.org", "scheme": "https"}
        place = Place({**params, "requests": json.dumps(requests)})
        place.runtime = tmp_path
        return Listening(place, 1, 1, preload=False)

    yield made
    hold.set()
    with socket.socket(socket.AF_UNIX) as last:
        last.connect(str(tmp_path / "gunicorn.sock"))
    serving.join(10)
    listener.close()


def test_a_request_is_sent_as_nginx_would(gunicorn: Callable[..., Listening]) -> None:
    planted = {"Host": "evil", "X-Forwarded-Proto": "gopher", "Accept": "text/html", "Connection": "keep-alive"}
    content = gunicorn(request("/", method="POST", body=b"a=b", headers=planted)).asked[0]["content"]
    head, body = content.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert {
        b"Host: www.example.org", b"Connection: close", b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: https",
        b"User-Agent: farrier-measure", b"Accept: text/html", b"Content-Length: 3",
    } <= set(lines)  # fmt: skip
    assert not [line for line in lines if b"evil" in line or b"gopher" in line or b"keep-alive" in line]
    assert body == b"a=b"


def test_each_path_is_probed_and_only_those_with_a_good_response_go_on(
    gunicorn: Callable[..., Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_gunicorn, "ANSWER_SECONDS", 0.3)
    paths = ("/", "/moved/", "/missing/", "/cut/", "/nothing/", "/hang/")
    measured = gunicorn(*(request(path) for path in paths), request("/", method="POST"))
    probes = measured.probe()
    assert [(each["path"], each["status"]) for each in probes] == [
        ("/", 200), ("/moved/", 302), ("/missing/", 404), ("/cut/", 0), ("/nothing/", 0), ("/hang/", 0), ("POST /", 200),
    ]  # fmt: skip
    assert probes[2]["error"] == ""
    assert probes[3]["error"].startswith("gives no answer: ")
    assert probes[5]["error"] == "does not answer within 0.3 s"
    measured.only(probes)
    assert [each["path"] for each in measured.asked] == ["/", "/moved/", "/"]
    assert [next(measured.turn) for _ in range(3)] == [0, 1, 2]


def test_without_any_good_response_each_path_is_named(gunicorn: Callable[..., Listening]) -> None:
    measured = gunicorn(request("/missing/"), request("/hang/"))
    probes = [
        {"path": "/missing/", "status": 404, "error": ""},
        {"path": "/hang/", "status": 0, "error": "does not answer within 10 s"},
    ]
    with pytest.raises(MeasurementFailure) as caught:
        measured.only(probes)
    assert str(caught.value) == ("no URL answers 2xx or 3xx: /missing/ answers 404; /hang/ does not answer within 10 s")
    assert (caught.value.kind, caught.value.output) == ("input", "its last words")


def test_a_response_is_read_to_its_end(gunicorn: Callable[..., Listening]) -> None:
    measured = gunicorn(request("/"))
    assert measured.ask(measured.asked[0]) == (200, 5)


def test_several_clients_share_one_turn_and_count_good_and_bad_responses(gunicorn: Callable[..., Listening]) -> None:
    measured = gunicorn(request("/", 3.0), request("/missing/", 1.0))
    responses, bad = measured.warm(0.3, 4)
    assert responses > 20
    assert bad == pytest.approx(responses / 4, abs=5)  # one of four, but for those under way at the end
    cost = measured.cost(0.1, 1, measured.in_turn())
    assert set(cost) == {"requests", "bad", "cpu_us"}
    assert 0 < cost["bad"] <= cost["requests"] / 4 + 1


def test_what_the_master_notes_is_bounded_and_one_line_each(
    gunicorn: Callable[..., Listening], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_gunicorn, "native_threads", lambda _pid: ["python"])
    monkeypatch.setattr(measured_gunicorn, "sockets", lambda _pid: [])
    measured = gunicorn(request("/"))
    for left, threads in (({"threads": ["a\nb"] * 200}, ["a\\nb"] * 100), ({"threads": "none"}, []), ({}, [])):
        monkeypatch.setattr(measured, "of_master", lambda left=left: left)
        held = measured.held_by_master()
        assert (held["threads"], held["native"], held["sockets"]) == (threads, ["python"], [])
