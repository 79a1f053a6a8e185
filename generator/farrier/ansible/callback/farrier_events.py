# SPDX-License-Identifier: MIT
"""Ansible callback: one JSON line for each play and task that begins and each result, read by `farrier.ansible.events`.

It runs in Ansible's own Python, which may be one without Farrier: what it has to know comes with the environment.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: farrier_events
    type: stdout
    short_description: one JSON line per play, task and result
    description:
      - Writes a line when a play starts, with the hosts it is for, when a task begins, and for each host's result.
"""

MARK = os.environ["FARRIER_EVENT_MARK"]
"""Begins each line; whatever else appears on standard output is not ours, whoever prints it."""

LARGEST_ANSWER = int(os.environ["FARRIER_LARGEST_ANSWER"])
"""Characters of one host's answer as JSON."""

KEYS = ("facts", "measured", "phase", "fault", "output", "msg", "module_stderr", "module_stdout", "stderr")
"""What is told of an answer; the rest, such as its `ansible_facts`, is nobody's concern."""


def problem_of(answer: dict[str, Any]) -> str:
    """Why an answer cannot be a line of JSON; empty where it can."""
    try:
        length = len(json.dumps(answer, default=str))
    except (ValueError, TypeError, RecursionError):
        return "the answer cannot be written as JSON: it is nested too deeply, or holds a number of thousands of digits"
    return (
        f"the answer is of {length:,} characters; at most {LARGEST_ANSWER:,} are taken"
        if length > LARGEST_ANSWER
        else ""
    )


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Turns Ansible's calls into lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "farrier_events"

    def _emit(self, kind: str, **event: Any) -> None:
        self._display.display(MARK + json.dumps({"kind": kind, **event}, default=str))

    def _emit_result(self, kind: str, result: Any) -> None:
        # Before ansible-core 2.19 the names of these had an underscore.
        host = (getattr(result, "host", None) or result._host).get_name()
        content = getattr(result, "result", None) or result._result
        answer = {key: content[key] for key in KEYS if key in content}
        if problem := problem_of(answer):
            kind, answer = "failed", {"msg": problem, "fault": "host"}
        self._emit(kind, host=host, answer=answer)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """The hosts of this run, and those it would be for without --limit."""
        inventory = play.get_variable_manager()._inventory
        names = {
            key: [host.get_name() for host in inventory.get_hosts(play.hosts, ignore_limits=ignore)]
            for key, ignore in (("hosts", False), ("inventory", True))
        }
        self._emit("start", **names)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        self._emit("task", name=task.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._emit_result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A host could be reached, but the task failed there."""
        self._emit_result("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._emit_result("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A host was left out by Ansible."""
        self._emit_result("skipped", result)
