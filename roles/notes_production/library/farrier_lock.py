#!/usr/bin/python
"""See that one play at a time changes this host: take the lock, or say who has it; give it back."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_host import locked

DOCUMENTATION = r"""
module: farrier_lock
short_description: Let one play at a time change this host
description:
  - The lock is a file that says who has it; empty, it is free. It lies below C(/run), so that a reboot frees it.
  - Each step of the play that changes much holds the file (flock) while it runs, and renews it. While one runs, nobody takes the lock.
  - It is stale, and taken over, when the play that took it has ended on the machine that now asks, or when it was not renewed for
    O(lease_seconds).
options:
  path: {type: path, required: true, description: File that is the lock.}
  state: {type: str, choices: [taken, free], default: taken, description: Take it, or give it back.}
  token: {type: str, default: "", description: "What proves that the lock is ours, to give it back."}
  by: {type: str, default: "", description: Who asks.}
  doing: {type: str, default: deploy, description: What for.}
  controller:
    description:
      - "Lines: name of the machine that runs the play, a word for its boot and user, the play's process."
      - Only the first is needed. Without the others a play that was killed keeps its lock until it is stale by age.
    type: str
    default: ""
  living: {type: str, default: "", description: "All processes of that machine; neither logged nor shown."}
  take: {type: bool, default: false, description: Take it although somebody has it.}
  hint: {type: str, default: "", description: How to ask for O(take); part of a refusal.}
  lease_seconds: {type: int, default: 900, description: "How long the lock is valid without being renewed."}
author: Farrier
"""

RETURN = r"""
token: {description: What proves that the lock is ours., returned: when taken, type: str}
"""


class Controller:
    """The machine that runs a play, as far as it told: its name, its boot and user, the play's process, and all processes."""

    def __init__(self, text: str, living: str) -> None:
        """Read the lines; what is missing is empty."""
        lines = [*text.splitlines(), "", "", ""]
        self.name, self.identity, self.process = (line.strip() for line in lines[:3])
        self.living = set(living.split())

    def knows_dead(self, holder: dict[str, Any]) -> bool:
        """Whether the holder's play ran here and has ended; False as well when that cannot be known."""
        here = bool(self.identity) and holder.get("controller") == self.identity
        return here and bool(self.living) and holder.get("process") not in self.living


def read(file: Any) -> dict[str, Any]:
    """Who has the lock; nothing when it is free. What cannot be read was written by somebody unknown."""
    file.seek(0)
    text = file.read()
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) and found else {"by": "somebody unknown"}


def write(file: Any, holder: dict[str, Any]) -> None:
    """Note who has the lock; an empty holder frees it."""
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder, sort_keys=True) + "\n" if holder else "")
    file.flush()


def ago(seconds: float) -> str:
    """A time span in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def described(holder: dict[str, Any], idle_seconds: float) -> str:
    """Who has the lock, since when, and when it last showed life."""
    place = f" on {holder['from']}" if holder.get("from") else ""
    return (
        f"{holder.get('by') or 'somebody'}{place} has the lock for a {holder.get('doing', 'change')} since "
        f"{holder.get('since', 'an unknown time')} (last sign of life {ago(idle_seconds)} ago)"
    )


def refusal(
    wish: dict[str, Any], holder: dict[str, Any], idle_seconds: float, running: bool, asking: Controller
) -> str:
    """Why the lock cannot be taken now; nothing when it can."""
    who = described(holder, idle_seconds)
    if running:
        return (
            f"{who}, and one of its steps is running on this host right now. Try again when it has finished; the lock "
            "cannot be taken before that."
        )
    if not holder or wish["take"] or asking.knows_dead(holder) or idle_seconds > wish["lease_seconds"]:
        return ""
    left = ago(max(1.0, wish["lease_seconds"] - idle_seconds))
    return (
        f"{who}. Wait until it has finished. If it has died, its lock expires in {left}; to take it now: {wish['hint']}"
    )


def take(file: Any, wish: dict[str, Any], running: bool) -> tuple[str, str, str]:
    """Take the lock. Returns the token, or why not; and whose lock was taken over."""
    holder, idle = read(file), max(0.0, time.time() - os.fstat(file.fileno()).st_mtime)
    asking = Controller(wish["controller"], wish["living"])
    problem = refusal(wish, holder, idle, running, asking)
    if problem:
        return "", problem, ""
    token = uuid.uuid4().hex
    mine = {"by": wish["by"], "from": asking.name, "doing": wish["doing"], "token": token}
    mine.update(controller=asking.identity, process=asking.process)
    write(file, {**mine, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    return token, "", described(holder, idle) if holder else ""


def main() -> None:
    """Take the lock or give it back."""
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["taken", "free"], "default": "taken"},
            "token": {"type": "str", "default": "", "no_log": False},
            "by": text,
            "doing": {"type": "str", "default": "deploy"},
            "controller": text,
            "living": {**text, "no_log": True},  # else it would stand in the host's journal
            "take": {"type": "bool", "default": False},
            "hint": text,
            "lease_seconds": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    wish = module.params
    if module.check_mode:
        module.exit_json(changed=False)
    # Only root may hold the file, or anybody could keep everybody out.
    with open(os.open(wish["path"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="utf-8") as file:
        running = not locked(file, 0.5)  # a step of a play holds it for longer
        if wish["state"] == "free":
            if read(file).get("token") == wish["token"] and not running:
                write(file, {})
            module.exit_json(changed=False)
        token, problem, before = take(file, wish, running)
    if problem:
        module.fail_json(msg=problem)
    if before:
        module.warn(f"A stale or claimed lock was taken over: {before}.")
    module.exit_json(changed=False, token=token)


if __name__ == "__main__":
    main()
