"""farrier_status reads what lives on a host: queues out of ss, workers out of /proc, the answer over HTTP."""

from pathlib import Path

from farrier.modules.farrier_status import ask, children, queues

LISTING = """\
u_str LISTEN 0      470                               /run/notes.sock 115739 * 0
u_str LISTEN 0      4096         /run/systemd/private 1234 * 0
u_dgr UNCONN 0      0            /run/systemd/notify 1235 * 0
tcp   LISTEN 3      511    0.0.0.0:80 0.0.0.0:*
tcp   LISTEN 0      128       [::]:22    [::]:*
"""


def test_the_length_of_each_accept_queue_by_address() -> None:
    assert queues(LISTING) == {
        "/run/notes.sock": 470,
        "/run/systemd/private": 4096,
        "0.0.0.0:80": 511,
        "[::]:22": 128,
    }
    assert queues("") == {}


def test_children_of_a_process_whatever_their_names(tmp_path: Path) -> None:
    for pid, parent, name in ((11, 10, "python"), (12, 10, "a) S 99 (b"), (13, 99, "python")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) S {parent} {pid} {pid} 0 -1\n")
    assert children(10, tmp_path) == {11, 12}
    assert children(0, tmp_path) == set()


def test_no_answer_is_a_result_and_not_a_crash() -> None:
    result = ask("www.example.org", "/", tls=True, seconds=0.2)
    assert result["answer"] == 0
    assert result["error"]
