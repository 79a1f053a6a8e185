"""A load test of a target that nobody listens at ends at its first connection: nothing is watched, nothing is sent."""

import socket
from pathlib import Path

import pytest

from farrier.errors import HostError
from farrier.loadtest import run
from farrier.loadtest.run import LoadtestOptions, require_reachable, run_loadtest
from test_load_report import INVENTORY, PROJECT, TOLD


def test_a_refused_first_connection_ends_the_load_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts.yml").touch()
    monkeypatch.setattr(run, "look", lambda *_: INVENTORY.model_copy(update={"address": "127.0.0.1"}))
    events: list[object] = []
    with socket.socket() as bound:  # a port that is taken, so that nobody else listens there, and refuses
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        options = LoadtestOptions(f"http://127.0.0.1:{port}", foreign=True)
        with pytest.raises(HostError) as caught:
            run_loadtest(
                PROJECT,
                "production",
                tmp_path,
                TOLD,
                timeout_seconds=1,
                options=options,
                extra=(),
                on_event=events.append,
            )
    assert caught.value.messages == (
        f"http://127.0.0.1:{port} cannot be reached: connection refused; nothing was sent",
    )
    assert caught.value.exit_code == 4
    assert events == []


def test_who_listens_is_left_a_closed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "url", ["http://web..example.org", f"http://{'a' * 70}.example.org", "http://[web1.example.org:2222]"]
)
def test_a_name_that_no_resolver_takes_is_one_line(url: str) -> None:
    with pytest.raises(HostError, match=r"cannot be reached: .*; nothing was sent"):
        require_reachable(url)
