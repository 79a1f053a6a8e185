#!/usr/bin/python
"""Watch what a host and its application spend while load comes from elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_beneath import read_json
from ansible.module_utils.farrier_configurations import active_slot
from ansible.module_utils.farrier_host import Failure, children, main_pid, memory_kb
from ansible.module_utils.farrier_slot import ready_workers
from ansible.module_utils.measured_process import columns, cpu_ns, machine_seconds
from ansible.module_utils.measured_services import units_cpu_us

DOCUMENTATION = r"""
module: load_watch
short_description: Watch what a host and its application spend while load comes from elsewhere
description:
  - C(begin) tells what serves, and leaves a process behind that notes CPU times and living workers twice a second.
  - C(end) ends it and returns what it noted. It ends by itself after O(seconds).
options:
  phase: {type: str, required: true, choices: [begin, end], description: What to do.}
  application: {type: str, required: true, description: Name of the application and of its units.}
  home: {type: path, required: true, description: Directory that holds C(active).}
  seconds: {type: float, default: 600, description: How long it may watch at most.}
author: Farrier
"""

EXAMPLES = r"""
- name: Start watching the host
  load_watch: {phase: begin, application: notes, home: /srv/notes}
"""

RETURN = r"""
measured:
  description:
    - slot, workers (ready ones), what they run with, memory_mb of the slot, time (the host's clock), whether NGINX runs.
    - With C(end) also samples, a list for each figure; time, host, slot, nginx, workers (ready ones), main_pid of the slot,
      machine, stolen, services. Those of CPU are seconds since boot or since the begin; services holds them by name.
  returned: success
  type: dict
"""

PLACE = Path("/run/farrier-loadtest")
PERIOD_SECONDS = 0.5
MOST_SAMPLES = 20_000
"""More would not fit into an answer; it is hours of load."""

MOST_SERVICES = 12
"""Other services whose CPU time is noted by name, those that take most."""
NOTICED_SECONDS = 0.02
"""Less CPU time since the begin is nobody's name worth."""
ROOT_V2 = Path("/sys/fs/cgroup/cpu.stat")
ROOTS_V1 = (Path("/sys/fs/cgroup/cpuacct/cpuacct.usage"), Path("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage"))


def host_cpu_seconds() -> float:
    """CPU time of everything on this host; of a container it is what the container used, not its machine."""
    for path in ROOTS_V1:
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text()) / 1e9
    with contextlib.suppress(OSError):
        for used in re.findall(r"^usage_usec (\d+)$", ROOT_V2.read_text(), re.MULTILINE):
            return int(used) / 1e6
    return float(machine_seconds()[0])


def family(main: int) -> list[int]:
    """A process and what it has forked."""
    return [main, *children(main)] if main else []


def main_of(unit: str) -> int:
    """The main process of a unit; 0 also where systemd does not answer."""
    with contextlib.suppress(Failure, OSError):
        return int(main_pid(unit))
    return 0


class Spent:
    """CPU seconds of a family of processes, those included that have ended since."""

    def __init__(self) -> None:
        self.by_pid: dict[int, int] = {}

    def seconds(self, pids: list[int]) -> float:
        """The sum up to now."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self.by_pid[pid] = cpu_ns(pid)
        return sum(self.by_pid.values()) / 1e9


def running(application: str, slot: str, workers: list[int]) -> dict[str, Any]:
    """What the workers run with, as the ready mark of one says; the service's user writes it."""
    for pid in workers:
        found = read_json(f"/run/{application}-{slot}", f"workers/{pid}", 1 << 16)
        if found:
            settings = {key: found.get(key) for key in ("workers", "threads", "worker_connections", "backlog")}
            known = {key: value for key, value in settings.items() if type(value) is int and 0 <= value < 1 << 31}
            return {**known, "worker_class": str(found.get("worker_class"))[:40]}
    return {}


class Services:
    """CPU seconds of the services beside the application since the watch began, by unit."""

    def __init__(self, application: str) -> None:
        self.own = re.compile(f"{re.escape(application)}@[ab].service|nginx.service")
        self.begun: dict[str, float] = {}
        self.begun = self.read()

    def read(self) -> dict[str, float]:
        """Since the begin, or since boot when it begins."""
        found: dict[str, float] = {}
        for unit, used_us in units_cpu_us().items():
            if not self.own.fullmatch(unit):
                name = unit[:80]
                found[name] = used_us / 1e6 - self.begun.get(name, 0.0)
        return found

    def noticed(self) -> dict[str, float]:
        """Those that took most, if they took any time worth a name."""
        rows = sorted(self.read().items(), key=lambda row: -row[1])[:MOST_SERVICES]
        return {name: round(used, 4) for name, used in rows if used >= NOTICED_SECONDS}


def look(application: str, home: str) -> dict[str, Any]:
    """What serves right now."""
    slot = active_slot(home)
    main = main_of(f"{application}@{slot}.service") if slot else 0
    workers = ready_workers(f"{application}-{slot}/workers", main)
    return {
        "slot": slot or None,
        "workers": len(workers),
        "running": running(application, slot, workers),
        "machine_cpus": os.cpu_count() or 0,
        "memory_mb": round(memory_kb(family(main)) / 1024, 1),
        "nginx": bool(main_of("nginx.service")),
        "time": time.time(),
    }


def watch(application: str, home: str, seconds: float) -> None:
    """Write a line of samples twice a second until told to stop."""
    until = time.monotonic() + seconds
    slot_cpu, nginx_cpu, services = Spent(), Spent(), Services(application)
    mains = ("", 0, 0)
    looked = 0.0
    with open(PLACE / "samples", "w", encoding="utf-8") as file:
        for number in range(MOST_SAMPLES):
            now = time.monotonic()
            if now > until:
                return
            # systemctl costs more than all the rest: a slot changes seldom.
            if not mains[1] or not Path(f"/proc/{mains[1]}").exists() or now > looked + 10:
                slot = active_slot(home)
                mains = (slot, main_of(f"{application}@{slot}.service") if slot else 0, main_of("nginx.service"))
                looked = now
            machine, stolen = machine_seconds()
            sample = {
                "time": round(time.time(), 3),
                "host": round(host_cpu_seconds(), 4),
                "slot": round(slot_cpu.seconds(family(mains[1])), 4),
                "nginx": round(nginx_cpu.seconds(family(mains[2])), 4),
                "workers": len(ready_workers(f"{application}-{mains[0]}/workers", mains[1])),
                "main_pid": mains[1],
                "machine": round(machine, 3),
                "stolen": round(stolen, 3),
                "services": services.noticed(),
            }
            file.write(json.dumps(sample) + "\n")
            file.flush()
            time.sleep(max(0.0, until - seconds + (number + 1) * PERIOD_SECONDS - time.monotonic()))


def leave_behind(application: str, home: str, seconds: float) -> None:
    """Start watching in a process that outlives this one."""
    PLACE.mkdir(mode=0o700, exist_ok=True)
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(silence, descriptor)
        os.closerange(3, 256)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        (PLACE / "pid").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):
            os.nice(-5)  # a saturated host shall not make the clock of its own measurement late
        watch(application, home, seconds)
    finally:
        os._exit(0)


def stop() -> list[dict[str, Any]]:
    """End the process left behind, and what it noted; nothing when there is none."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((PLACE / "pid").read_text())
        # The number may belong to somebody else by now: only who holds the samples open is ours.
        held = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
        if str(PLACE / "samples") in held:
            os.kill(pid, signal.SIGTERM)
    samples = []
    with contextlib.suppress(OSError):
        for line in (PLACE / "samples").read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                samples.append(json.loads(line))
    for name in ("pid", "samples"):
        with contextlib.suppress(OSError):
            (PLACE / name).unlink()
    with contextlib.suppress(OSError):
        PLACE.rmdir()
    return samples


def main() -> None:
    """Begin or end."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "phase": {**text, "choices": ["begin", "end"]},
            "application": text,
            "home": {"type": "path", "required": True},
            "seconds": {"type": "float", "default": 600.0},
        }
    )
    wish = module.params
    samples = stop()
    watched = look(wish["application"], wish["home"])
    if wish["phase"] == "begin":
        sys.stdout.flush()
        leave_behind(wish["application"], wish["home"], wish["seconds"])
    else:
        watched["samples"] = columns(samples)
    module.exit_json(changed=False, measured=watched)


if __name__ == "__main__":
    main()
