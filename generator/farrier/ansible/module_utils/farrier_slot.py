"""A slot: one of the two services, or the preflight, with the directory that it is started from."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from typing import Any, Iterator

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils import farrier_journal as journal
from ansible.module_utils.farrier_memory import Memory, told
from ansible.module_utils.farrier_play import Failure

RUN = "/run"
POLL_SECONDS = 0.05
SHOWN = "ActiveState,MainPID,NRestarts,UnitFileState,NeedDaemonReload,Result,ControlGroup,MemoryMax"


def run(*command: str) -> str:
    """Run a command and return its output; its own words on failure."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def show(unit: str) -> dict[str, str]:
    """What systemd knows about a unit."""
    known = dict.fromkeys(SHOWN.split(","), "")
    said = run("systemctl", "show", "-p", SHOWN, unit)
    for line in said.splitlines():
        name, _, value = line.partition("=")
        known[name] = value
    return known


def main_pid(unit: str) -> int:
    """The main process of a unit; 0 when it has none."""
    found = show(unit)["MainPID"]
    return int(found) if re.fullmatch("[0-9]+", found) else 0


def parent(pid: int, proc: str = "/proc") -> int:
    """The parent of a living process; 0 when there is no such process."""
    with (
        contextlib.suppress(OSError, ValueError),
        open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file,
    ):
        state, found = file.read().rpartition(")")[2].split()[:2]
        return 0 if state in ("Z", "X") else int(found)  # one that has ended stays until its parent asks how
    return 0


def children(master: int, proc: str = "/proc") -> list[int]:
    """The living children of a process."""
    return [pid for pid in beneath.numbers(proc) if master and parent(pid, proc) == master]


def ready_workers(markers: str, master: int, run: str = RUN, proc: str = "/proc") -> list[int]:
    """Workers that have left their mark and live: children of this master, so no leftover of an earlier one.

    The application can write there: whatever it has put in the way, it only has fewer workers.
    """
    with contextlib.suppress(OSError):
        return [pid for pid in beneath.numbers(run, markers) if master and parent(pid, proc) == master]
    return []


def memory_mb(pids: list[int]) -> int:
    """Memory of some processes, pages that they share counted once."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            found = re.search(r"^Pss:\s+(\d+)", file.read(), re.MULTILINE)
            total += int(found.group(1)) if found else 0
    return total // 1024


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
        self.memory = Memory()
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
        said: str = journal.tail(self.unit, self.begun)
        if state["Result"] == "oom-kill" or self.memory.killed(self.unit, self.begun, state["MemoryMax"]):
            assumed, measure = self.params["memory_assumed"], self.params["measure"]
            said = f"{told(self.unit, state['MemoryMax'], self.memory.largest, assumed, measure)}\n{said}"
        return said
