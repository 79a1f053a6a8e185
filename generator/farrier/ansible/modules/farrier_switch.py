#!/usr/bin/python
"""Let a release serve: try it on a private socket, start it in the idle slot, then stop the other slot gracefully."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import time
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils import farrier_journal as journal
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_http import UnixConnection
from ansible.module_utils.farrier_play import Failure, holding
from ansible.module_utils.farrier_slot import POLL_SECONDS, RUN, Slot, main_pid, memory_mb, run, show

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
  release:
    description: Release to serve, or V(previous) for the release and the configuration that served before.
    type: str
    required: true
  configuration:
    description: Configuration to serve with, as farrier_configuration names it. Without it the one with which the release served last.
    type: str
  home: {type: path, required: true, description: "Directory that holds C(releases), C(venvs), C(configurations) and C(slots)."}
  host: {type: str, required: true, description: Host header of the health request.}
  health_path: {type: str, required: true, description: Path that must answer 2xx or 3xx.}
  health_seconds: {type: int, default: 30, description: How long that answer may take.}
  scheme: {type: str, default: http, choices: [http, https], description: What visitors use.}
  strategy:
    description: Start the new slot beside the old one, or stop the old one first while requests wait in the queue.
    type: str
    default: overlap
    choices: [overlap, stop-start]
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

EXAMPLES = r"""
- name: Switch to the previous release
  farrier_switch:
    application: notes
    release: previous
    home: /srv/notes
    host: www.example.org
    health_path: /health/
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

UNITS = "/etc/systemd/system"
SETTLE_SECONDS = 10
"""How long an unchanged slot may have fewer workers than planned, because one is just being replaced."""


STOP_LINES = 20_000
"""How much of what a slot says while it stops is read; journald itself lets 10,000 lines pass in half a minute."""


def cut_workers(workers: list[int], said: str) -> set[int]:
    """Workers of a stopped slot that had not ended their requests: killed before they left, or gone without them."""
    left = {int(pid) for pid in re.findall(r"Worker exiting \(pid: (\d+)\)", said)}
    return (set(workers) - left) | {int(pid) for pid in re.findall(r"worker (\d+) leaves \d+ requests", said)}


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
        self.expected: dict[str, int] = {}
        self.release, self.configuration = self.resolve(params["release"], params["configuration"])

    @property
    def now(self) -> dict[str, Any]:
        """What the active slot was filled with."""
        return self.active.facts if self.active else {}

    def resolve(self, release: str, configuration: str | None) -> tuple[str, str | None]:
        """The release and the configuration that are meant; `previous` is what the active slot replaced."""
        if release == "previous":
            if not self.now.get("previous"):
                raise Failure("There is no previous release to go back to.")
            release, configuration = str(self.now["previous"]), self.now.get("previous_configuration")
        for name, kind in ((release, "release"), (configuration, "configuration")):
            if name is not None and not configurations.is_id(name):
                raise Failure(f"{name}: not the name of a {kind}, which has 12 hex digits")
        last = configurations.last_of(release, configurations.served(self.home))
        return release, configuration or last or self.now.get("configuration")

    def wanted(self) -> dict[str, Any]:
        """What the active slot should run."""
        if not os.path.isdir(os.path.join(self.home, "releases", self.release)):
            whole = filter(configurations.is_id, beneath.names(self.home, "releases"))
            raise Failure(f"Release {self.release} is not on this host; available: {', '.join(whole) or 'none'}.")
        files = configurations.content(self.home, f"configurations/{self.configuration}")
        if len(files) != len(configurations.MODES):
            raise Failure(
                f"Configuration {self.configuration} of release {self.release} is not on this host; deploy it."
            )
        with open(os.path.join(UNITS, f"{self.params['application']}@.service"), "rb") as unit:
            unit_sha256 = hashlib.sha256(unit.read()).hexdigest()
        pair = (self.now.get("release"), self.now.get("configuration"))
        same = pair == (self.release, self.configuration)
        before = (self.now.get("previous"), self.now.get("previous_configuration")) if same else pair
        self.expected = configurations.planned(files)
        return {
            "release": self.release,
            "venv": self.venv(self.release),
            "configuration": self.configuration,
            "previous": before[0],
            "previous_configuration": before[1],
            "unit_sha256": unit_sha256,
            **self.expected,
        }

    def venv(self, release: str) -> Any:
        """The virtual environment that a release was made with."""
        found = beneath.read_json(self.home, f"releases/{release}/RELEASE.json").get("venv")
        if found is not None and not configurations.is_id(found):
            raise Failure(f"Release {release} has no known virtual environment; deploy it again.")
        return found

    @property
    def workers(self) -> int:
        """How many workers the configuration asks for."""
        return self.expected.get("workers", 1)

    def reasons(self, wanted: dict[str, Any]) -> list[str]:
        """Why the active slot is not what it should be, each in a few words and without any value of a secret."""
        if not self.active:
            return ["nothing is served yet"]
        found, facts = [], self.active.facts
        for key, name in (("release", "release"), ("venv", "virtual environment")):
            if facts.get(key) != wanted[key]:
                found.append(f"{name} {facts.get(key)} -> {wanted[key]}")
        if facts.get("unit_sha256") != wanted["unit_sha256"]:
            found.append("the unit file changed")
        new = configurations.content(self.home, f"configurations/{wanted['configuration']}")
        running = configurations.content(self.home, self.active.directory)
        return found + [f"{name} changed" for name in configurations.differing(running, new)]

    @contextlib.contextmanager
    def step(self, name: str) -> Any:
        """Time a step."""
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 2)

    def stand(self) -> bool:
        """See that systemd knows the units as written, and that NGINX and the socket run now and after a reboot."""
        app = self.params["application"]
        running, enabled = [f"{app}.socket", "nginx.service"], [f"{app}-activate.service"]
        known = {unit: show(unit) for unit in [*running, *enabled, f"{app}@a.service", f"{app}@b.service"]}
        changed = False
        if any(state["NeedDaemonReload"] == "yes" for state in known.values()):
            run("systemctl", "daemon-reload")
            changed = True
        off = [unit for unit in running + enabled if known[unit]["UnitFileState"] != "enabled"]
        if off:
            run("systemctl", "enable", "--quiet", *off)
        down = [unit for unit in running if known[unit]["ActiveState"] not in ("active", "reloading")]
        if down:
            run("systemctl", "start", *down)
        return bool(changed or off or down)

    def preflight(self, wanted: dict[str, Any]) -> None:
        """Try the release with its configuration in the service's sandbox, on a socket that no visitor reaches."""
        slot = Slot("preflight", self.params)
        try:
            slot.fill(wanted)
            slot.start(1)
            try:
                self.ask(f"{RUN}/{slot.runtime}/gunicorn.sock")
            except (OSError, http.client.HTTPException, Failure) as error:
                raise Failure(f"Release {self.release} is not healthy: {error}\n{slot.abandon()}") from None
            run("systemctl", "stop", slot.unit)
        finally:
            slot.empty()

    def ask(self, path: str) -> None:
        """Ask the health path on a unix socket, as NGINX would."""
        connection = UnixConnection(path, self.params["health_seconds"])
        forwarded = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": self.params["scheme"]}
        headers = {"Host": self.params["host"], "Connection": "close", **forwarded}
        connection.request("GET", self.params["health_path"], headers=headers)
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace").strip()
        if not 200 <= answer.status < 400:
            raise Failure(f"{self.params['health_path']} answered {answer.status} {answer.reason}\n{body}")

    def check_memory(self, old: Slot) -> bool:
        """Whether there is room to try the release beside the running slot; overlap needs room for a second one."""
        available = self.params["memory_available_mb"]
        if available is None:
            return True
        processes = [main_pid(old.unit), *old.workers()]
        if self.params["strategy"] == "stop-start":
            processes = processes[:2]
        need: int = memory_mb(processes)
        if self.params["strategy"] == "stop-start":
            return need <= int(available)
        if need > available:
            raise Failure(
                f"A second slot beside the running one needs about {need} MB, but {available} MB are available. Free "
                "some memory, or let the plan choose stop-start."
            )
        return True

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
                    pids = new.start(self.workers)
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

    def point_to(self, slot: Slot) -> None:
        """Let a slot count, now and at the next boot."""
        beneath.link(self.home, "active", slot.directory)

    def restore(self, slot: Slot) -> None:
        """Leave nothing in the idle slot of what was not taken: it holds what a rollback goes back to, or nothing."""
        release, configuration = self.now.get("previous"), self.now.get("previous_configuration")
        files = configurations.content(self.home, f"configurations/{configuration}")
        if release and files and os.path.isdir(os.path.join(self.home, "releases", release)):
            venv = self.venv(release)
            slot.fill({"release": release, "venv": venv, "previous": None, "configuration": configuration})
        else:
            slot.empty()

    def replace(self, old: Slot, new: Slot, *, tried: bool) -> list[int]:
        """Stop the old slot, then start the new one, while requests wait in the queue; go back if that fails."""
        pids: list[int]
        # First of all the link, or the activator would bring back the slot that stops.
        self.point_to(new)
        try:
            self.stop(old)
            with self.step("start"):
                pids = new.start(self.workers)
                if not tried:  # there was no room for it before, and now nobody else answers on the shared socket
                    self.try_alone(new)
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
        """Stop the slot that has served; count its workers that had not ended their requests within the grace period."""
        begun, workers = int(time.time()), old.workers()
        with self.step("stop"):
            run("systemctl", "stop", old.unit)
        if self.seconds["stop"] > 1:  # else all requests had ended
            journal.sync()
            said = journal.latest(begun, STOP_LINES, f"--unit={old.unit}")
            self.cut += len(cut_workers(workers, "\n".join(said)))

    def try_alone(self, slot: Slot) -> None:
        """Ask the health path of the only slot that runs."""
        try:
            self.ask(f"{RUN}/{self.params['application']}.sock")
        except (OSError, http.client.HTTPException, Failure) as error:
            raise Failure(f"Release {self.release} is not healthy: {error}\n{slot.abandon()}") from None

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

    def settled_workers(self, slot: Slot) -> list[int]:
        """Workers of an unchanged slot; waits a little, because one may just be replaced."""
        limit = time.monotonic() + SETTLE_SECONDS
        while True:
            pids: list[int] = slot.workers()
            if len(pids) == self.workers or time.monotonic() > limit:
                return pids
            time.sleep(POLL_SECONDS)

    def foresee(self) -> list[str]:
        """What would be switched and why, in check mode, where what comes first may not have been written."""
        unit = f"{self.params['application']}@.service"
        coming = [os.path.basename(path) for path in self.params["coming"]]
        coming = [name for name in coming if name in (*configurations.MODES, unit)]
        known = self.active and "configuration" in self.now
        if known and not coming and os.path.isdir(os.path.join(self.home, "releases", self.release)):
            return self.reasons(self.wanted())
        now = self.now.get("release")
        new = [f"release {now} -> {self.release}"] if now != self.release else []
        return new + [f"{name} changed" for name in coming]

    def converge(self) -> dict[str, Any]:
        """Bring the host to what is wanted, and tell what was found and done."""
        wanted = self.wanted()
        changed = self.stand()
        if self.tidy():
            changed = True
            configurations.prune(self.home, keep=self.configuration)
        reasons = self.reasons(wanted)
        pids: list[int] = []
        if not reasons and self.active:
            if not self.active.running:
                reasons = [f"{self.active.unit} was not running"]
                pids = self.active.start(self.workers)
            else:
                pids = self.settled_workers(self.active)
        if len(pids) != self.workers:
            reasons = reasons or [f"{len(pids)} workers instead of {self.workers}"]
            pids = self.perform(wanted)
            for slot in (self.idle, self.active):
                if slot and slot.facts:
                    configurations.note_served(
                        self.home, slot.facts.get("configuration"), str(slot.facts.get("release"))
                    )
            configurations.prune(self.home)
        done = {"reasons": reasons, "workers": pids, "seconds": self.seconds, "cut": self.cut}
        return {"changed": changed or bool(reasons), "expected": self.expected, **done}

    def shown(self, text: str) -> str:
        """A failure's words without the values of secrets, whatever the application has logged or answered."""
        names, found = self.params["hidden"], []
        for name in {self.configuration, self.now.get("configuration")}:
            files = configurations.content(self.home, f"configurations/{name}")
            found += journal.values(files.get("environment", b""), names)
        shown: str = journal.printable(journal.masked(text, found))
        return shown


def act(params: dict[str, Any], check: bool) -> tuple[Switch, dict[str, Any]]:
    """Compare and, unless in check mode, switch; a failure tells no secret."""
    if not check:
        configurations.take_over(params["home"])
    switch = Switch(params)
    try:
        if check:
            reasons = switch.foresee()
            return switch, {"changed": bool(reasons), "reasons": reasons}
        with switch.step("whole"):
            result = switch.converge()
    except (Failure, OSError) as failure:
        raise Failure(switch.shown(str(failure))) from None
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
            "lock": {"type": "path"},
            "token": {"type": "str", "no_log": False},
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
        module.warn(
            f"{switch.cut} of the old slot's workers had requests that exceeded graceful_timeout and were cut off."
        )
    slot = switch.active or switch.idle
    diff = {"before": "", "after": "".join(f"{reason}\n" for reason in result["reasons"])}
    module.exit_json(slot=slot.name, release=switch.release, diff=diff, **result)


if __name__ == "__main__":
    main()
