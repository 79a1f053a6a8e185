#!/usr/bin/python
"""Let a release serve: try it on a private socket, start it in the idle slot, then stop the other slot gracefully."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_host import LOCK, Failure, holding, main_pid, memory_kb, run
from ansible.module_utils.farrier_slot import RUN, Slot, stand
from ansible.module_utils.farrier_target import Target, venv_of

DOCUMENTATION = r"""
module: farrier_switch
short_description: Switch the application to a release or a configuration without losing a request
description:
  - Compares what the active slot runs (release, virtual environment, configuration, unit) with what it should.
  - If they differ, the release is tried on a private socket, started in the idle slot, and the old slot is stopped when every
    new worker is ready. If anything fails before that, the old slot goes on serving.
  - One link, C(active), says which slot counts, now and at the next boot.
options:
  application: {type: str, required: true, description: Name of the application and of its units.}
  release: {type: str, required: true, description: "Release to serve, or V(previous) for what served before."}
  configuration: {type: str, description: "As farrier_configuration names it; by default that with which the release served last."}
  home: {type: path, required: true, description: "Directory that holds C(releases), C(venvs), C(configurations) and C(slots)."}
  host: {type: str, required: true, description: Host header of the health request.}
  health_path: {type: str, required: true, description: Path that must answer 2xx or 3xx.}
  health_seconds: {type: int, default: 30, description: How long that answer may take.}
  scheme: {type: str, default: http, choices: [http, https], description: What visitors use.}
  strategy: {type: str, default: overlap, choices: [overlap, stop-start], description: "Stop the old slot after or before the start."}
  boot_seconds: {type: int, default: 120, description: How long a slot may take until all its workers are ready.}
  memory_available_mb: {type: int, description: Memory that the host has left; a second slot is not started without it.}
  memory_assumed: {type: bool, default: false, description: "Whether the plan's memory of a worker was assumed, not measured."}
  measure: {type: str, default: "", description: Command that measures it; part of what is said when the memory ended.}
  hidden: {type: list, elements: str, default: [], description: Variables of the environment whose values are never shown.}
  by: {type: str, default: "", description: Who deploys; noted in C(slot.json).}
  coming: {type: list, elements: path, default: [], description: Files that a play in check mode would have changed before.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

RETURN = r"""
slot: {description: Slot that serves., returned: always, type: str}
release: {description: Release that it serves., returned: always, type: str}
expected: {description: "How many C(workers) and how long a C(backlog) its configuration asks for.", returned: success, type: dict}
reasons: {description: What differed., returned: always, type: list, elements: str}
workers: {description: Process ids of the ready workers., returned: success, type: list, elements: int}
seconds: {description: "How long each step took, and the C(whole) of what was done on the host.", returned: success, type: dict}
cut: {description: Workers of the old slot whose last requests were cut., returned: success, type: int}
"""


class Switch:
    """The switch of one application on this host."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Find out which slot is active and what should be served."""
        self.params, self.home = params, str(params["home"])
        name = configurations.active_slot(self.home)
        self.active = Slot(name, params) if name else None
        self.idle = Slot("b" if name == "a" else "a", params)
        self.seconds: dict[str, float] = {}
        self.cut = 0
        self.target = Target(params, self.now)

    @property
    def now(self) -> dict[str, Any]:
        """What the active slot was filled with."""
        return self.active.facts if self.active else {}

    @contextlib.contextmanager
    def step(self, name: str) -> Any:
        """Time a step."""
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 2)

    def converge(self) -> dict[str, Any]:
        """Bring the host to what is wanted, and tell what was found and done."""
        wanted, count = self.target.wanted(), self.target.workers
        changed = stand(self.params["application"])
        if self.tidy():
            changed = True
            configurations.prune(self.home, keep=self.target.configuration)
        reasons = self.target.differences(self.active, wanted)
        pids: list[int] = []
        if not reasons and self.active:
            if not self.active.running:
                reasons = [f"{self.active.unit} was not running"]
                pids = self.active.start(count)
            else:
                pids = self.active.settled_workers(count)
        if len(pids) != count:
            reasons = reasons or [f"{len(pids)} workers instead of {count}"]
            pids = self.perform(wanted)
            for slot in filter(None, (self.idle, self.active)):
                if slot.facts:
                    release, configuration = slot.holds()
                    configurations.note_served(self.home, configuration, str(release))
            configurations.prune(self.home)
        done = {"reasons": reasons, "workers": pids, "seconds": self.seconds, "cut": self.cut}
        return {"changed": changed or bool(reasons), "expected": self.target.expected, **done}

    def perform(self, wanted: dict[str, Any]) -> list[int]:
        """The switch itself; returns the workers of the slot that serves then."""
        old, new = self.active, self.idle
        pids: list[int]
        tried = old is None or self.check_memory(old)
        if tried:
            with self.step("preflight"):
                self.preflight(wanted)
        try:
            new.fill(wanted)
            if old and self.params["strategy"] == "stop-start":
                pids = self.replace(old, new, tried=tried)
            else:
                with self.step("start"):
                    pids = new.start(self.target.workers)
                self.point_to(new)
                if old:
                    self.stop(old)
        except (Failure, OSError):
            if configurations.active_slot(self.home) != new.name:
                with contextlib.suppress(Failure, OSError):  # what failed first counts
                    self.restore(new)
            raise
        self.active, self.idle = new, old or self.idle
        return pids

    def preflight(self, wanted: dict[str, Any]) -> None:
        """Try the release with its configuration in the service's sandbox, on a socket that no visitor reaches."""
        slot = Slot("preflight", self.params)
        try:
            slot.fill(wanted)
            slot.start(1)
            slot.check_health(f"{RUN}/{slot.runtime}/gunicorn.sock")
            run("systemctl", "stop", slot.unit)
        finally:
            slot.empty()

    def check_memory(self, old: Slot) -> bool:
        """Whether there is room to try the release beside the running slot; overlap needs room for a second one."""
        available = self.params["memory_available_mb"]
        if available is None:
            return True
        processes = [main_pid(old.unit), *old.workers()]
        if self.params["strategy"] == "stop-start":
            processes = processes[:2]
        need: int = memory_kb(processes) // 1024
        if self.params["strategy"] == "stop-start":
            return need <= int(available)
        if need > available:
            raise Failure(
                f"A second slot beside the running one needs about {need} MB, but {available} MB are available. Free "
                "some memory, or let the plan choose stop-start."
            )
        return True

    def replace(self, old: Slot, new: Slot, *, tried: bool) -> list[int]:
        """Stop the old slot, then start the new one, while requests wait in the queue; go back if that fails."""
        pids: list[int]
        # First of all the link, or the activator would bring back the slot that stops.
        self.point_to(new)
        try:
            self.stop(old)
            with self.step("start"):
                pids = new.start(self.target.workers)
                if not tried:  # there was no room for it before, and now nobody else answers on the shared socket
                    new.check_health(f"{RUN}/{self.params['application']}.sock")
        except Failure:
            self.point_to(old)
            # Until now a waiting request made the activator start the new slot again, whatever stopped it.
            try:
                run("systemctl", "stop", f"{self.params['application']}-activate.service")
                run("systemctl", "stop", new.unit)
            finally:
                run("systemctl", "start", "--no-block", old.unit)
            raise
        return pids

    def stop(self, old: Slot) -> None:
        """Stop the slot that has served; count its workers whose requests outlived the grace period."""
        begun, workers = int(time.time()), old.workers()
        with self.step("stop"):
            run("systemctl", "stop", old.unit)
        if self.seconds["stop"] > 1:  # else all requests had ended
            self.cut += old.cut(workers, begun)

    def point_to(self, slot: Slot) -> None:
        """Let a slot count, now and at the next boot."""
        beneath.link(self.home, "active", slot.directory)

    def restore(self, slot: Slot) -> None:
        """Leave nothing in the idle slot of what was not taken: it holds what a rollback goes back to, or nothing."""
        release, configuration = self.now.get("previous"), self.now.get("previous_configuration")
        files = configurations.content(self.home, f"configurations/{configuration}")
        if release and files and os.path.isdir(os.path.join(self.home, "releases", release)):
            venv = venv_of(self.home, release)
            slot.fill({"release": release, "venv": venv, "previous": None, "configuration": configuration})
        else:
            slot.empty()

    def tidy(self) -> bool:
        """Stop what an interrupted switch has left running, and leave nothing of it: the link says which slot counts."""
        preflight = Slot("preflight", self.params)
        left = [slot.unit for slot in (preflight, self.idle) if slot.running]
        if left:
            run("systemctl", "stop", *left)
        filled = os.path.isdir(os.path.join(self.home, preflight.directory))
        if filled:
            preflight.empty()
        before = (self.now.get("previous"), self.now.get("previous_configuration"))
        serving = (self.now.get("release"), self.now.get("configuration"))
        strange = bool(self.idle.facts) and self.idle.holds() not in (before, serving)
        if strange:
            self.restore(self.idle)
        return bool(left) or filled or strange


def act(params: dict[str, Any], check: bool) -> tuple[Switch, dict[str, Any]]:
    """Compare and, unless in check mode, switch; a failure tells no secret."""
    if not check:
        configurations.take_over(params["home"])
    switch = Switch(params)
    try:
        if check:
            reasons = switch.target.foresee(switch.active)
            return switch, {"changed": bool(reasons), "reasons": reasons}
        with switch.step("whole"):
            result = switch.converge()
    except (Failure, OSError) as failure:
        raise Failure(switch.target.shown(str(failure))) from None
    return switch, result


def main() -> None:
    """Compare and, unless in check mode, switch."""
    text: dict[str, Any] = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "application": text,
            "release": text,
            "configuration": {"type": "str"},
            "home": {"type": "path", "required": True},
            "host": text,
            "health_path": text,
            "health_seconds": {"type": "int", "default": 30},
            "scheme": {"type": "str", "default": "http", "choices": ["http", "https"]},
            "strategy": {"type": "str", "default": "overlap", "choices": ["overlap", "stop-start"]},
            "boot_seconds": {"type": "int", "default": 120},
            "memory_available_mb": {"type": "int"},
            "memory_assumed": {"type": "bool", "default": False},
            "measure": {"type": "str", "default": ""},
            "hidden": {"type": "list", "elements": "str", "default": []},
            "by": {"type": "str", "default": ""},
            "coming": {"type": "list", "elements": "path", "default": []},
            **LOCK,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    try:
        with holding(None if module.check_mode else module.params["lock"], module.params["token"]):
            switch, result = act(module.params, module.check_mode)
    except (Failure, OSError) as failure:
        module.fail_json(msg=str(failure))
    if switch.cut:
        module.warn(f"{switch.cut} of the old slot's workers had requests beyond graceful_timeout and were cut off.")
    slot = switch.active or switch.idle
    diff = {"before": "", "after": "".join(f"{reason}\n" for reason in result["reasons"])}
    module.exit_json(slot=slot.name, release=switch.target.release, diff=diff, **result)


if __name__ == "__main__":
    main()
