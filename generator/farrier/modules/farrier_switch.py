#!/usr/bin/python
"""Let a release serve: try it on a private socket, start it in the idle slot, then stop the other slot gracefully."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_play import Failure, holding

DOCUMENTATION = r"""
module: farrier_switch
short_description: Switch the application to a release or a configuration without losing a request
description:
  - Compares what the active slot runs (release, virtual environment, Gunicorn configuration, environment, unit) with what it should.
  - If they differ, the release is tried on a private socket, started in the idle slot, and the old slot is stopped when every
    new worker is ready. If anything fails before that, the old slot goes on serving.
  - One link, C(active), says which slot counts, now and at the next boot.
options:
  application: {type: str, required: true, description: Name of the application and of its units.}
  release: {type: str, required: true, description: "Release to serve, or V(previous)."}
  home: {type: path, required: true, description: Directory that holds C(releases), C(venvs) and C(slots).}
  config: {type: path, required: true, description: Directory of the wanted C(gunicorn.conf.py) and C(environment).}
  workers: {type: int, required: true, description: Worker processes that must be ready.}
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
  by: {type: str, default: "", description: Who deploys; noted in C(slot.json).}
  coming: {type: list, elements: path, default: [], description: Files that a play in check mode would have changed before.}
  lock: {type: path, description: "The play's lock, as farrier_lock took it; held and renewed while this runs."}
  token: {type: str, description: What proves that the lock is ours.}
author: Farrier
"""

EXAMPLES = r"""
- name: The release serves
  farrier_switch:
    application: notes
    release: previous
    home: /srv/notes
    config: /etc/notes
    workers: 3
    host: www.example.org
    health_path: /health/
"""

RETURN = r"""
slot: {description: Slot that serves., returned: always, type: str}
release: {description: Release that it serves., returned: always, type: str}
reasons: {description: What differed., returned: always, type: list, elements: str}
workers: {description: Process ids of the ready workers., returned: success, type: list, elements: int}
seconds: {description: "How long each step took, and the C(whole) of what was done on the host.", returned: success, type: dict}
cut: {description: Workers of the old slot whose last requests were cut., returned: success, type: int}
"""

CONFIG_FILES = ("gunicorn.conf.py", "environment")
UNITS = Path("/etc/systemd/system")
RUN = Path("/run")
POLL_SECONDS = 0.05
SETTLE_SECONDS = 10
"""How long an unchanged slot may have fewer workers than planned, because one is just being replaced."""


def run(*command: str) -> str:
    """Run a command and return its output; its own words on failure."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def show(unit: str) -> dict[str, str]:
    """What systemd knows about a unit."""
    names = "ActiveState,MainPID,NRestarts,UnitFileState,NeedDaemonReload,Result"
    return dict(line.split("=", 1) for line in run("systemctl", "show", "-p", names, unit).splitlines() if "=" in line)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; nothing when there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def parent(pid: int, proc: Path = Path("/proc")) -> int:
    """The parent of a process; 0 when there is no such process."""
    with contextlib.suppress(OSError):
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def ready_workers(markers: Path, main_pid: int, proc: Path = Path("/proc")) -> list[int]:
    """Workers that have left their mark and live: children of this master, so no leftover of an earlier one."""
    with contextlib.suppress(OSError):
        pids = sorted(int(each.name) for each in markers.iterdir() if each.name.isdigit())
        return [pid for pid in pids if main_pid and parent(pid, proc) == main_pid]
    return []


def memory_mb(pids: list[int]) -> int:
    """Memory of some processes, pages that they share counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found.group(1)) if found else 0
    return total // 1024


def cut_workers(workers: list[int], said: str) -> set[int]:
    """Workers of a stopped slot that had not ended their requests: killed before they left, or gone without them."""
    left = {int(pid) for pid in re.findall(r"Worker exiting \(pid: (\d+)\)", said)}
    return (set(workers) - left) | {int(pid) for pid in re.findall(r"worker (\d+) leaves \d+ requests", said)}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: int) -> None:
        """Remember the socket's path."""
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the path instead of a host; while its queue is full, wait for room."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", self.timeout, 0))
        self.sock.connect(self.path)
        self.sock.settimeout(self.timeout)


class Slot:
    """One of the two services, or the preflight, and the directory it is started from."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        """Derive its names."""
        app = params["application"]
        self.name, self.params = name, params
        self.directory = Path(params["home"], "slots", name)
        self.unit = f"{app}-preflight.service" if name == "preflight" else f"{app}@{name}.service"
        self.runtime = RUN / f"{app}-{name}"
        self.begun = 0
        self.facts = read_json(self.directory / "slot.json")

    @property
    def running(self) -> bool:
        """Whether systemd has it up or on its way up or down."""
        return show(self.unit)["ActiveState"] in ("active", "activating", "deactivating", "reloading")

    def workers(self) -> list[int]:
        """Its workers that are ready."""
        return ready_workers(self.runtime / "workers", int(show(self.unit)["MainPID"]))

    def fill(self, wanted: dict[str, Any]) -> None:
        """Lay out what it will run: links and copies, so that it restarts as it was whatever is written later."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in ("release", "venv"):
            swing(self.directory / name, f"../../{name}s/{wanted[name]}")
        for name in CONFIG_FILES:
            source = Path(self.params["config"], name)
            copy = self.directory / f".{name}.new"
            copy.unlink(missing_ok=True)
            with open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(source.read_bytes())
            shutil.copymode(source, copy)
            copy.replace(self.directory / name)
        facts = {**wanted, "slot": self.name, "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        text = json.dumps({**facts, "by": self.params["by"]}, indent=2, sort_keys=True) + "\n"
        (self.directory / ".slot.new").write_text(text, encoding="utf-8")
        (self.directory / ".slot.new").replace(self.directory / "slot.json")

    def start(self, count: int) -> list[int]:
        """Start it and wait until every worker is ready; stop it again and show its own words when that fails."""
        limit = time.monotonic() + self.params["boot_seconds"]
        self.begun = int(time.time())
        with contextlib.suppress(Failure):
            run("systemctl", "reset-failed", self.unit)
        begun = show(self.unit)["NRestarts"]
        try:
            run("systemctl", "start", self.unit)
            while True:
                pids, state = self.workers(), show(self.unit)
                if len(pids) >= count:
                    return pids
                if state["ActiveState"] != "active" or state["NRestarts"] != begun:
                    raise Failure("It ended while its workers were starting.")
                if time.monotonic() > limit:
                    late = f"After {self.params['boot_seconds']} s {len(pids)} of {count} workers were ready."
                    raise Failure(late)
                time.sleep(POLL_SECONDS)
        except Failure as failure:
            result = show(self.unit)["Result"]
            cause = "" if result == "success" else f" ({result})"
            raise Failure(f"{self.unit} did not start{cause}.\n{self.abandon() or failure}") from None

    def abandon(self) -> str:
        """Stop it, and return the end of what it logged since it was started; it may have been started again since."""
        with contextlib.suppress(Failure):
            run("systemctl", "stop", self.unit)
        with contextlib.suppress(Failure):
            run("systemctl", "reset-failed", self.unit)
        run("journalctl", "--sync")
        text = run(
            *("journalctl", "--unit", self.unit, f"--since=@{self.begun}"),
            *("--no-pager", "--quiet", "--output=cat", "--lines=60"),
        )
        return "\n".join(line for line in text.splitlines() if line.strip() and "[INFO]" not in line)


def swing(link: Path, target: str) -> None:
    """Point a link at another target; there is no moment without it."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


class Switch:
    """The switch of one application on this host."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Find out which slot is active and what should be served."""
        self.params = params
        self.link = Path(params["home"], "active")
        name = os.path.basename(os.readlink(self.link)) if self.link.is_symlink() else ""
        self.active = Slot(name, params) if name in ("a", "b") else None
        self.idle = Slot("b" if name == "a" else "a", params)
        self.seconds: dict[str, float] = {}
        self.cut = 0
        self.release = self.resolve(params["release"])

    def resolve(self, release: str) -> str:
        """The release that is meant; `previous` is what the active slot replaced."""
        now = self.active.facts if self.active else {}
        if release == "previous":
            if not now.get("previous"):
                raise Failure("There is no previous release to go back to.")
            release = str(now["previous"])
        if not re.fullmatch(r"[0-9a-f]{12}", release):
            raise Failure(f"{release}: not the name of a release, which has 12 hex digits")
        return release

    def wanted(self) -> dict[str, Any]:
        """What the active slot should run."""
        directory = Path(self.params["home"], "releases", self.release)
        if not directory.is_dir():
            there = ", ".join(sorted(each.name for each in directory.parent.glob("?" * 12))) or "none"
            raise Failure(f"Release {self.release} is not on this host; there: {there}.")
        now = self.active.facts if self.active else {}
        same = now.get("release") == self.release
        unit = (UNITS / f"{self.params['application']}@.service").read_bytes()
        return {
            "release": self.release,
            "venv": read_json(directory / "RELEASE.json").get("venv"),
            "previous": now.get("previous") if same else now.get("release"),
            "unit_sha256": hashlib.sha256(unit).hexdigest(),
        }

    def reasons(self, wanted: dict[str, Any]) -> list[str]:
        """Why the active slot is not what it should be, each in a few words and without any value of a secret."""
        if not self.active:
            return ["nothing is served yet"]
        found, slot = [], self.active
        for key, name in (("release", "release"), ("venv", "virtual environment")):
            if slot.facts.get(key) != wanted[key]:
                found.append(f"{name} {slot.facts.get(key)} -> {wanted[key]}")
        if slot.facts.get("unit_sha256") != wanted["unit_sha256"]:
            found.append("the unit file changed")
        for name in CONFIG_FILES:
            copy, new = slot.directory / name, Path(self.params["config"], name)
            if not copy.is_file() or copy.read_bytes() != new.read_bytes():
                found.append(f"{name} changed")
        return found

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
        slot.fill(wanted)
        slot.start(1)
        try:
            self.ask(slot.runtime / "gunicorn.sock")
        except (OSError, http.client.HTTPException, Failure) as error:
            raise Failure(f"Release {self.release} is not healthy: {error}\n{slot.abandon()}") from None
        run("systemctl", "stop", slot.unit)

    def ask(self, path: Path) -> None:
        """Ask the health path on a unix socket, as NGINX would."""
        connection = UnixConnection(str(path), self.params["health_seconds"])
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
        processes = [int(show(old.unit)["MainPID"]), *old.workers()]
        if self.params["strategy"] == "stop-start":
            return memory_mb(processes[:2]) <= int(available)
        need = memory_mb(processes)
        if need > available:
            raise Failure(
                f"A second slot beside the running one takes about {need} MB, and {available} MB are available. Free "
                "some memory, or let the plan choose stop-start."
            )
        return True

    def perform(self, wanted: dict[str, Any]) -> list[int]:
        """The switch itself; returns the workers of the slot that serves then."""
        old, new = self.active, self.idle
        tried = old is None or self.check_memory(old)
        if tried:
            with self.step("preflight"):
                self.preflight(wanted)
        new.fill(wanted)
        if old and self.params["strategy"] == "stop-start":
            pids = self.replace(old, new, tried=tried)
        else:
            with self.step("start"):
                pids = new.start(self.params["workers"])
            swing(self.link, f"slots/{new.name}")
            if old:
                self.stop(old)
        self.active, self.idle = new, old or self.idle
        return pids

    def replace(self, old: Slot, new: Slot, *, tried: bool) -> list[int]:
        """Stop the old slot, then start the new one, while requests wait in the queue; go back if that fails."""
        # First of all the link, or the activator would bring back the slot that stops.
        swing(self.link, f"slots/{new.name}")
        try:
            self.stop(old)
            with self.step("start"):
                pids = new.start(self.params["workers"])
                if not tried:  # there was no room for it before, and now nobody else answers on the shared socket
                    self.try_alone(new)
        except Failure:
            swing(self.link, f"slots/{old.name}")
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
            run("journalctl", "--sync")
            said = run("journalctl", f"--unit={old.unit}", f"--since=@{begun}", "--quiet", "--output=cat")
            self.cut += len(cut_workers(workers, said))

    def try_alone(self, slot: Slot) -> None:
        """Ask the health path of the only slot that runs."""
        try:
            self.ask(RUN / f"{self.params['application']}.sock")
        except (OSError, http.client.HTTPException, Failure) as error:
            raise Failure(f"Release {self.release} is not healthy: {error}\n{slot.abandon()}") from None

    def tidy(self) -> bool:
        """Stop what an interrupted switch has left running: the link says which slot counts."""
        left = [slot.unit for slot in (Slot("preflight", self.params), self.idle) if slot.running]
        if left:
            run("systemctl", "stop", *left)
        return bool(left)

    def settled_workers(self, slot: Slot) -> list[int]:
        """Workers of an unchanged slot; waits a little, because one may just be replaced."""
        limit = time.monotonic() + SETTLE_SECONDS
        while True:
            pids = slot.workers()
            if len(pids) == self.params["workers"] or time.monotonic() > limit:
                return pids
            time.sleep(POLL_SECONDS)

    def foresee(self) -> list[str]:
        """What would be switched and why, in check mode, where files that come first may not have been written."""
        unit = f"{self.params['application']}@.service"
        coming = [Path(path).name for path in self.params["coming"]]
        coming = [name for name in coming if name in (*CONFIG_FILES, unit)]
        if not coming and Path(self.params["home"], "releases", self.release).is_dir():
            return self.reasons(self.wanted())
        now = self.active.facts.get("release") if self.active else None
        new = [f"release {now} -> {self.release}"] if now != self.release else []
        return new + [f"{name} changed" for name in coming]

    def converge(self) -> dict[str, Any]:
        """Bring the host to what is wanted, and tell what was found and done."""
        wanted = self.wanted()
        changed = self.stand()
        changed |= self.tidy()
        reasons = self.reasons(wanted)
        pids: list[int] = []
        if not reasons and self.active:
            if not self.active.running:
                reasons = [f"{self.active.unit} was not running"]
                pids = self.active.start(self.params["workers"])
            else:
                pids = self.settled_workers(self.active)
        if len(pids) != self.params["workers"]:
            reasons = reasons or [f"{len(pids)} workers instead of {self.params['workers']}"]
            pids = self.perform(wanted)
        done = {"reasons": reasons, "workers": pids, "seconds": self.seconds, "cut": self.cut}
        return {"changed": changed or bool(reasons), **done}


def main() -> None:
    """Compare and, unless in check mode, switch."""
    text: dict[str, Any] = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "application": text,
            "release": text,
            "home": {"type": "path", "required": True},
            "config": {"type": "path", "required": True},
            "workers": {"type": "int", "required": True},
            "host": text,
            "health_path": text,
            "health_seconds": {"type": "int", "default": 30},
            "scheme": {"type": "str", "default": "http", "choices": ["http", "https"]},
            "strategy": {"type": "str", "default": "overlap", "choices": ["overlap", "stop-start"]},
            "boot_seconds": {"type": "int", "default": 120},
            "memory_available_mb": {"type": "int"},
            "by": {"type": "str", "default": ""},
            "coming": {"type": "list", "elements": "path", "default": []},
            "lock": {"type": "path"},
            "token": {"type": "str", "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        switch = Switch(module.params)
        if module.check_mode:
            reasons = switch.foresee()
            result: dict[str, Any] = {"changed": bool(reasons), "reasons": reasons}
        else:
            with holding(module.params["lock"], module.params["token"]), switch.step("whole"):
                result = switch.converge()
    except (Failure, OSError) as failure:
        module.fail_json(msg=str(failure))
    if switch.cut:
        module.warn(f"{switch.cut} of the old slot's workers had requests that outlived graceful_timeout and were cut.")
    slot = switch.active or switch.idle
    diff = {"before": "", "after": "".join(f"{reason}\n" for reason in result["reasons"])}
    module.exit_json(slot=slot.name, release=switch.release, diff=diff, **result)


if __name__ == "__main__":
    main()
