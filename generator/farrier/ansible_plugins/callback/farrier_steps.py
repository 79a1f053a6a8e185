# SPDX-License-Identifier: MIT
"""Ansible callback: one JSON line for each task that begins and each result, for `farrier.measure`."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: farrier_steps
    type: stdout
    short_description: one JSON line per task and result
    description:
      - Writes a line when the play starts, when a task begins, and for each host's result.
"""

MARK = "farrier-event "
"""Begins each line; whatever else appears on standard output is not ours."""

KEYS = ("measured", "phase", "fault", "output", "msg", "module_stderr", "module_stdout", "stderr")


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Turns Ansible's calls into lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "farrier_steps"

    def _emit(self, kind: str, **event: Any) -> None:
        self._display.display(MARK + json.dumps({"kind": kind, **event}, default=str))

    def _emit_result(self, kind: str, result: Any) -> None:
        # Before ansible-core 2.19 the names of these had an underscore.
        host = getattr(result, "host", None) or result._host
        content = getattr(result, "result", None) or result._result
        self._emit(kind, host=host.get_name(), **{key: content[key] for key in KEYS if key in content})

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
