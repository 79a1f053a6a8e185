# SPDX-License-Identifier: MIT
"""Ansible callback: one JSON line for each host as soon as its result is known, for `farrier.facts.gather`."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: farrier_events
    type: stdout
    short_description: one JSON line per host
    description:
      - Writes a line when the run starts, with the hosts it is for, and one for each host's result.
"""

MARK = os.environ.get("FARRIER_EVENT_MARK", "farrier-event ")
"""Begins each line; whatever else appears on standard output is not ours, whoever prints it."""

LARGEST_ANSWER = 1_000_000
"""Characters of one host's answer as JSON; facts take a few thousand."""


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
    CALLBACK_NAME = "farrier_events"

    def _emit(self, event: dict[str, Any]) -> None:
        self._display.display(MARK + json.dumps(event, default=str))

    def _emit_result(self, kind: str, result: Any) -> None:
        # Before ansible-core 2.19 the names of these had an underscore.
        host = (getattr(result, "host", None) or result._host).get_name()
        content = getattr(result, "result", None) or result._result
        keys = ("facts", "msg", "module_stderr", "module_stdout")
        answer, problem = bounded({key: content[key] for key in keys if key in content})
        self._emit({"kind": "failed" if problem else kind, "host": host, **answer, **problem})

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """The hosts of this run, and those it would be for without --limit."""
        inventory = play.get_variable_manager()._inventory
        names = {
            key: [host.get_name() for host in inventory.get_hosts(play.hosts, ignore_limits=ignore)]
            for key, ignore in (("hosts", False), ("inventory", True))
        }
        self._emit({"kind": "start", **names})

    def v2_runner_on_ok(self, result: Any) -> None:
        """A host answered."""
        self._emit_result("gathered", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A host could be reached, but the module failed there."""
        self._emit_result("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._emit_result("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A host was left out by Ansible."""
        self._emit_result("failed", result)
