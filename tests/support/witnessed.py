"""Plays that are watched task by task, and may be killed after one of them."""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from testbed import COMMAND_SECONDS, PLAY, environment

CALLBACKS = Path(__file__).parent / "callbacks"
NOTES = "witness.jsonl"
OUTPUT = "witnessed.txt"
SWITCH_TASK = "Switch to the release"


@dataclass(frozen=True)
class Task:
    """One task that has ended. Times are the machine's monotonic clock; `seconds` is what the module says of its steps."""

    name: str
    outcome: str
    begun: float
    ended: float
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Played:
    """A play that has ended, and how."""

    status: int
    said: str
    tasks: tuple[Task, ...]

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self.status == -signal.SIGKILL

    @property
    def seconds(self) -> float:
        """From its first task to the end of its last."""
        return self.tasks[-1].ended - self.tasks[0].begun

    def task(self, name: str) -> Task:
        """The task of this name; a task has its role's name before its own."""
        return next(task for task in self.tasks if task.name.rpartition(" : ")[2] == name)

    @property
    def switch(self) -> Task:
        """The task that lets the release serve."""
        return self.task(SWITCH_TASK)

    def require_success(self) -> "Played":
        """Fails with what the play said."""
        assert self.status == 0, self.said
        return self


def start(project: Path, playbook: str, kill_after: int = 0, *arguments: str) -> "subprocess.Popen[bytes]":
    """Begins a play, in a process group of its own."""
    (project / NOTES).write_text("", encoding="utf-8")
    callbacks = {"ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "witness"}
    counted = {"WITNESS": str(project / NOTES), "WITNESS_KILL_AFTER": str(kill_after)}
    # No pipe: what outlives a killed play would keep it open.
    with (project / OUTPUT).open("wb") as output:
        return subprocess.Popen(
            [*PLAY, f"playbooks/{playbook}.yml", *arguments],
            cwd=project,
            env={**environment(), **callbacks, **counted},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(project: Path, process: "subprocess.Popen[bytes]") -> Played:
    """Waits until a play has ended."""
    try:
        status = process.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    said = (project / OUTPUT).read_text(encoding="utf-8")
    return Played(status, said, noted((project / NOTES).read_text(encoding="utf-8").splitlines()))


def played(project: Path, playbook: str, *arguments: str, kill_after: int = 0) -> Played:
    """Runs a play."""
    return finish(project, start(project, playbook, kill_after, *arguments))


def noted(lines: Sequence[str]) -> tuple[Task, ...]:
    """The tasks that a witness wrote down."""
    return tuple(Task(**json.loads(line)) for line in lines)
