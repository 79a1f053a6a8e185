# SPDX-License-Identifier: MIT
"""Ansible callback: one JSON line for each task that begins and each result, for `farrier.measure.run`."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: farrier_steps
    type: stdout
    short_description: one JSON line per task and result
    description:
      - Writes a line when the play starts, when a task begins, and for each host's result.
"""

MARK = os.environ.get("FARRIER_EVENT_MARK", "farrier-event ")
"""Begins each line; whatever else appears on standard output is not ours, whoever prints it."""

LARGEST_ANSWER = 8_000_000
"""Characters of one host's answer as JSON; samples of hours of load take two million."""

KEYS = ("measured", "phase", "fault", "output", "msg", "module_stderr", "module_stdout", "stderr")


def bounded(answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A host's answer where it can be a line of JSON; else what is wrong with it, as the message of a failure."""
    try:
        length = len(json.dumps(answer, default=str))
    except (ValueError, TypeError, RecursionError):
        return {}, {
            "msg": "the answer cannot be written as JSON: it is nested too deeply, or holds a number of thousands of digits"
        }
    if length > LARGEST_ANSWER:
        return {}, {"msg": f"the answer is of {length:,} characters; at most {LARGEST_ANSWER:,} are taken"}
    return answer, {}


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Turns Ansible's calls into lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "farrier_steps"

    def _emit(self, kind: str, **event: Any) -> None:
        self._display.display(MARK + json.dumps({"kind": kind, **event}, default=str))

    def _emit_result(self, kind: str, result: Any) -> None:
        # Before ansible-core 2.19 the names of these had an underscore.
        host = (getattr(result, "host", None) or result._host).get_name()
        content = getattr(result, "result", None) or result._result
        answer, problem = bounded({key: content[key] for key in KEYS if key in content})
        self._emit("failed" if problem else kind, host=host, **{**answer, **problem})

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """The hosts of this run."""
        inventory = play.get_variable_manager()._inventory
        self._emit("start", hosts=[host.get_name() for host in inventory.get_hosts(play.hosts)])

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        self._emit("task", name=task.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._emit_result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        self._emit_result("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """The host could not be reached."""
        self._emit_result("unreachable", result)
