"""A slot: one of the two services, or the preflight, with the directory that it is started from."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import socket
import struct
import threading
import time
from typing import Any, Iterator

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.farrier_host import Failure, logged, main_pid, output, parent, run, show
from ansible.module_utils.farrier_memory import MemoryWatch, told

RUN = "/run"
POLL_SECONDS = 0.05

SETTLE_SECONDS = 10
"""How long an unchanged slot may have fewer workers than planned, because one is just being replaced."""

STOP_LINES = 20_000
"""How much of what a slot says while it stops is read; journald itself lets 10,000 lines pass in half a minute."""

TOLD_LINES = 60
"""How much of what a slot said a failure tells."""


def stand(application: str) -> bool:
    """See that systemd knows the units as written, and that NGINX and the socket run now and after a reboot."""
    running, enabled = [f"{application}.socket", "nginx.service"], [f"{application}-activate.service"]
    slots = [f"{application}@{name}.service" for name in configurations.SLOTS]
    known = {unit: show(unit) for unit in [*running, *enabled, *slots]}
    stale = any(state["NeedDaemonReload"] == "yes" for state in known.values())
    if stale:
        run("systemctl", "daemon-reload")
    off = [unit for unit in running + enabled if known[unit]["UnitFileState"] != "enabled"]
    if off:
        run("systemctl", "enable", "--quiet", *off)
    down = [unit for unit in running if known[unit]["ActiveState"] not in ("active", "reloading")]
    if down:
        run("systemctl", "start", *down)
    return bool(stale or off or down)


def ready_workers(markers: str, master: int, run: str = RUN, proc: str = "/proc") -> list[int]:
    """Workers that have left their mark and live: children of this master, so no leftover of an earlier one.

    The application can write there: whatever it has put in the way, it only has fewer workers.
    """
    with contextlib.suppress(OSError):
        return [pid for pid in beneath.numbers(run, markers) if master and parent(pid, proc) == master]
    return []


def cut_workers(workers: list[int], said: str) -> set[int]:
    """Workers of a stopped slot that had not ended their requests: killed before they left, or gone without them."""
    left = {int(pid) for pid in re.findall(r"Worker exiting \(pid: (\d+)\)", said)}
    return (set(workers) - left) | {int(pid) for pid in re.findall(r"worker (\d+) leaves \d+ requests", said)}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, as NGINX speaks with Gunicorn."""

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
        self.name, self.params, self.home = name, params, str(params["home"])
        self.directory = f"slots/{name}"
        self.unit = f"{app}-preflight.service" if name == "preflight" else f"{app}@{name}.service"
        self.runtime = f"{app}-{name}"
        self.begun = 0
        self.memory = MemoryWatch()
        self.facts = configurations.slot_facts(self.home, name)

    @property
    def running(self) -> bool:
        """Whether systemd has it up or on its way up or down."""
        return show(self.unit)["ActiveState"] in ("active", "activating", "deactivating", "reloading")

    def holds(self) -> tuple[Any, Any]:
        """The release and the configuration that it was filled with."""
        return self.facts.get("release"), self.facts.get("configuration")

    def workers(self) -> list[int]:
        """Its workers that are ready."""
        return ready_workers(f"{self.runtime}/workers", main_pid(self.unit))

    def settled_workers(self, count: int) -> list[int]:
        """Its workers when nothing changes; waits a little, because one may just be replaced."""
        limit = time.monotonic() + SETTLE_SECONDS
        while len(pids := self.workers()) != count and time.monotonic() <= limit:
            time.sleep(POLL_SECONDS)
        return pids

    def cut(self, workers: list[int], since: int) -> int:
        """How many of its workers had not ended their requests when it was stopped."""
        return len(cut_workers(workers, "\n".join(self.logged(since, STOP_LINES))))

    def logged(self, since: int, lines: int) -> list[str]:
        """The last lines that it has logged since a time, once the journal has them all."""
        output("journalctl", "--sync")
        found: list[str] = logged(since, lines, f"--unit={self.unit}")
        return found

    def check_health(self, path: str) -> None:
        """Ask the health path on its socket; where it does not answer as it should, stop it and show its own words."""
        try:
            self.ask(path)
        except (OSError, http.client.HTTPException, Failure) as error:
            release = self.facts["release"]
            raise Failure(f"Release {release} is not healthy: {error}\n{self.abandon()}") from None

    def ask(self, path: str) -> None:
        """Ask the health path on a unix socket, as NGINX would."""
        connection = UnixConnection(path, self.params["health_seconds"])
        forwarded = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": self.params["scheme"]}
        headers = {"Host": self.params["host"], "Connection": "close", **forwarded}
        connection.request("GET", self.params["health_path"], headers=headers)
        response = connection.getresponse()
        body = response.read(2000).decode("utf-8", "replace").strip()
        if not 200 <= response.status < 400:
            raise Failure(f"{self.params['health_path']} answered {response.status} {response.reason}\n{body}")

    def fill(self, wanted: dict[str, Any]) -> None:
        """Lay out what it will run: links and copies, so that it restarts as it was whatever is written later."""
        for part in ("slots", self.directory):
            beneath.make_directory(self.home, part)
            os.chmod(os.path.join(self.home, part), 0o755)  # made under another umask once, perhaps
        for name in ("release", "venv"):
            beneath.link(self.home, f"{self.directory}/{name}", f"../../{name}s/{wanted[name]}")
        source = f"configurations/{wanted['configuration']}"
        for name, text in configurations.content(self.home, source).items():
            beneath.write(self.home, f"{self.directory}/{name}", text, configurations.MODES[name])
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.facts = {**wanted, "slot": self.name, "since": since, "by": self.params["by"]}
        configurations.write_json(self.home, f"{self.directory}/slot.json", self.facts)

    def empty(self) -> None:
        """Leave nothing of what it would have run."""
        shutil.rmtree(os.path.join(self.home, self.directory), ignore_errors=True)
        self.facts = {}

    def start(self, count: int) -> list[int]:
        """Start it and wait until every worker is ready; stop it again and show its own words when that fails."""
        limit = time.monotonic() + self.params["boot_seconds"]
        self.begun = int(time.time())
        with contextlib.suppress(Failure):
            run("systemctl", "reset-failed", self.unit)
        begun = show(self.unit)["NRestarts"]
        try:
            with self.memory_watched():
                run("systemctl", "start", self.unit)
                while True:
                    pids, state = self.workers(), show(self.unit)
                    if len(pids) >= count:
                        return pids
                    if state["ActiveState"] != "active" or state["NRestarts"] != begun:
                        raise Failure("It ended while its workers were starting.")
                    if self.memory.kills:
                        raise Failure("The kernel killed one of its processes while its workers were starting.")
                    if time.monotonic() > limit:
                        late = f"After {self.params['boot_seconds']} s {len(pids)} of {count} workers were ready."
                        raise Failure(late)
                    time.sleep(POLL_SECONDS)
        except Failure as failure:
            result = show(self.unit)["Result"]
            cause = "" if result == "success" else f" ({result})"
            raise Failure(f"{self.unit} did not start{cause}.\n{self.abandon() or failure}") from None

    @contextlib.contextmanager
    def memory_watched(self) -> Iterator[None]:
        """Look at its memory meanwhile: what the kernel tells of it is gone as soon as it has ended."""
        ended = threading.Event()

        def watch() -> None:
            group = ""
            while not ended.wait(POLL_SECONDS):
                with contextlib.suppress(Failure):
                    group = group or show(self.unit)["ControlGroup"]
                self.memory.look(group)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def abandon(self) -> str:
        """Stop it; why it ended, as far as it is known, and the end of what it logged since it was started."""
        state = show(self.unit)
        self.memory.look(state["ControlGroup"])
        with contextlib.suppress(Failure):
            run("systemctl", "stop", self.unit)
        with contextlib.suppress(Failure):
            run("systemctl", "reset-failed", self.unit)
        lines = self.logged(self.begun, 2 * TOLD_LINES)  # more than are told, as some of them are Gunicorn's remarks
        said = "\n".join([line for line in lines if line.strip() and "[INFO]" not in line][-TOLD_LINES:])
        if state["Result"] == "oom-kill" or self.memory.killed(self.unit, self.begun, state["MemoryMax"]):
            assumed, measure = self.params["memory_assumed"], self.params["measure"]
            said = f"{told(self.unit, state['MemoryMax'], self.memory.largest, assumed, measure)}\n{said}"
        return said
