"""How programs of Ansible are run: what they print besides events is bounded, and who is interrupted ends them."""

import os
import sys
from pathlib import Path

import pytest

from farrier.ansible import runner
from farrier.ansible.events import LONGEST_TEXT, Event, Start
from farrier.ansible.runner import MOST_NOTES, Ended, run

START = """print(os.environ["FARRIER_EVENT_MARK"] + '{"kind": "start", "hosts": ["web1"], "inventory": ["web1"]}', flush=True)"""


def program(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(["import os, sys, time, signal", *lines])]


def test_events_are_handed_over_and_all_else_is_kept_within_bounds(tmp_path: Path) -> None:
    events: list[Event] = []
    lines = [f"print('o' * {2 * LONGEST_TEXT})", f"for _ in range({2 * MOST_NOTES}): print('more')"]
    errors = [f"for _ in range({2 * MOST_NOTES}): print('error', file=sys.stderr)", "sys.exit(3)"]
    ended = run(program(START, *lines, *errors), tmp_path, events.append)
    assert events == [Start(["web1"], ["web1"])]
    assert ended.code == 3
    assert len(ended.notes) == 2 * MOST_NOTES
    assert ended.notes[MOST_NOTES - 1 : MOST_NOTES + 1] == ("error", "o" * LONGEST_TEXT)


@pytest.mark.parametrize("deaf", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_who_is_interrupted_ends_ansible(deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "INTERRUPT_SECONDS", 1)

    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    say = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    with pytest.raises(KeyboardInterrupt):
        run(program(deaf, say, START, "time.sleep(60)"), tmp_path, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("notes", "cause"),
    [
        ((), "it gives no reason"),
        (("one", "the last"), "the last"),
        (("[WARNING]: old", "[ERROR]: no\x1b host", "bye"), "no? host"),
        (("usage", "ansible-playbook: error: unrecognized arguments: --x", "bye"),
         "ansible-playbook: error: unrecognized arguments: --x"),
        (("[ERROR]: later", "[WARNING]: Unable to parse inventory"), "Unable to parse inventory"),
    ],
)  # fmt: skip
def test_why_it_ended_is_its_first_error_or_the_last_it_said(notes: tuple[str, ...], cause: str) -> None:
    assert Ended(1, notes).cause == cause
