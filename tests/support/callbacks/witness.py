"""Notes each task of a play when it has ended, and kills the play after one of them, as a control node that dies would.

For tests: `WITNESS` names the file to write a line of JSON per task into; `WITNESS_KILL_AFTER` counts tasks from 1.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc] # ansible ships no types
    """Times are the machine's monotonic clock, so that they can be compared with those of other processes."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "witness"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(os.environ["WITNESS"])
        self.last = int(os.environ.get("WITNESS_KILL_AFTER", "0"))
        self.count = 0
        self.begun = 0.0

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.begun = time.monotonic()

    def ended(self, result: Any, outcome: str) -> None:
        self.count += 1
        name = result._task.get_name()
        task = {"name": name, "outcome": outcome, "begun": self.begun, "ended": time.monotonic()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**task, "seconds": result._result.get("seconds", {})}) + "\n")
        if self.count == self.last:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def v2_runner_on_ok(self, result: Any) -> None:
        self.ended(result, "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self.ended(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.ended(result, "failed")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.ended(result, "unreachable")
