"""What is told of a unit that failed: the end of its journal, without secrets, and that its memory ended."""

from pathlib import Path

import pytest
from ansible.module_utils import farrier_memory
from ansible.module_utils.farrier_configurations import values
from ansible.module_utils.farrier_memory import MemoryWatch, told
from ansible.module_utils.farrier_text import excerpt, masked


def test_values_are_read_as_the_role_writes_them() -> None:
    environment = b'# a comment\nA="first"\nB="it\\"s \\$HOME \\\\ \\`so\\`"\nC="one\ntwo"\nD="not asked"\n'
    assert values(environment, ["A", "B", "C"]) == ["first", 'it"s $HOME \\ `so`', "one\ntwo"]


@pytest.mark.parametrize(
    ("text", "secret", "shown"),
    [
        ("password 'hunter22' is wrong", "hunter22", "password '********' is wrong"),
        ("KEY=BEGIN\nline two", "BEGIN\nline two", "KEY=********"),
        ("it said line two", "BEGIN\nline two", "it said ********"),
        (r"b'a\nb\x00c'", "a\nb\x00c", "b'********'"),
        ("one of 12", "12", "one of 12"),
    ],
)
def test_no_secret_is_shown(text: str, secret: str, shown: str) -> None:
    assert masked(text, [secret]) == shown


def test_what_is_shown_is_bounded_and_its_end_is_kept() -> None:
    assert excerpt("x" * 600) == "x" * 500 + "..."
    shown = excerpt("\n".join(f"line {number} {'x' * 100}" for number in range(1000)))
    assert len(shown) == 10_003
    assert shown.endswith(f"line 999 {'x' * 100}")
    assert excerpt("\x1b]0;title\x07 tab\there\r\ud800 größer") == "\\x1b]0;title\\x07 tab\there\\r\\ud800 größer"


@pytest.mark.parametrize(
    ("events", "content", "kills"),
    [
        ("notes@a.service/memory.events", "low 0\nhigh 7\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n", 2),
        ("memory/notes@a.service/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1),
        ("memory/notes@a.service/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", 0),
        ("elsewhere", "oom_kill 9\n", 0),
    ],
)
def test_the_kernel_counts_what_it_killed(tmp_path: Path, events: str, content: str, kills: int) -> None:
    path = tmp_path / events
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    (path.parent / "cgroup.procs").write_text("11\n12\n13\n")
    for pid, size in (("11", 30), ("12", 190)):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "status").write_text(f"Name:\tpython\nVmHWM:\t  {size * 1024} kB\n")
    memory = MemoryWatch()
    memory.look("/notes@a.service", str(tmp_path), str(tmp_path / "proc"))
    assert memory.kills == kills
    assert memory.largest == (0 if events == "elsewhere" else 190 << 20)
    memory.look("", str(tmp_path), str(tmp_path / "proc"))
    assert memory.kills == kills, "its group is gone; what it told is remembered"


@pytest.mark.parametrize(
    ("said", "peak_mb", "killed"),
    [
        ("notes@a.service: A process of this unit has been killed by the OOM killer.", 0, True),
        ("notes@a.service: Main process exited, code=killed, status=9/KILL", 190, True),
        ("notes@a.service: Control process exited, code=killed, status=9/KILL", 190, True),
        ("notes@a.service: Main process exited, code=killed, status=9/KILL", 20, False),
        ("notes@a.service: Main process exited, code=exited, status=1/FAILURE", 200, False),
    ],
)
def test_when_its_group_is_gone_systemd_says_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, said: str, peak_mb: int, killed: bool
) -> None:
    monkeypatch.setattr(farrier_memory, "logged", lambda *_: ["Starting notes", said])
    memory = MemoryWatch()
    memory.peak = peak_mb << 20
    assert memory.killed("notes@a.service", 0, str(200 << 20)) is killed


def test_an_oom_kill_is_told_with_its_figures_and_what_to_do() -> None:
    assert told("notes@b.service", str(200 << 20), 190 << 20, True, "farrier measure trial") == (
        "notes@b.service ran out of memory: the kernel killed a process of it at its limit of 200 MB (MemoryMax). One of its "
        "processes alone had taken 190 MB. What a worker takes was assumed for the plan, not measured. Measure it with "
        "`farrier measure trial`, or state workload.memory_private_mb in farrier.yml, generate the role again and deploy."
    )
    assert told("notes@b.service", "infinity", 0, False, "") == (
        "notes@b.service ran out of memory: the kernel killed a process of it at the host's memory. State "
        "workload.memory_private_mb in farrier.yml, generate the role again and deploy."
    )
