# SPDX-License-Identifier: MIT
"""Gunicorn in a transient unit: how it starts, what it logs, and why it ended; for `application_measurement`."""

from __future__ import annotations

import json
import math
import os
import re
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_host import main_pid, output, parent, run
from ansible.module_utils.measured_place import MeasurementFailure, Place
from ansible.module_utils.measured_process import vanished

if TYPE_CHECKING:
    from typing import Self  # hosts may have an older Python

BOOTS = 3
"""Boots that are timed, each of one worker alone."""

NOISE = re.compile(r'\[INFO\]|^  File "[^"]*(gunicorn|/usr/lib/python|<frozen)[^"]*", line \d+ in ')
"""Gunicorn's own progress, and what is not the application's own in a dump of where it stands."""

LAST_LINES = 40
LOG_BYTES = 1 << 18
"""The end of the log that is looked at: an application may write without end."""

MARK = re.compile(r"worker-([1-9][0-9]{0,6})")
"""What a worker leaves when it is ready; anything may lie beside it, as the directory is the application's."""

POLL_SECONDS = 0.02
BOOT_MARGIN_SECONDS = 5
"""How much longer than a worker may take is waited for one: Gunicorn's own abort shows a traceback."""


KILLED = "was sent SIGKILL"
"""What Gunicorn's master logs of a worker that the kernel killed for memory,"""

MASTER_LOOKS_SECONDS = 1.2
"""... and how long after that at the latest: it looks once a second."""


class Unit:
    """Gunicorn with some workers in its transient unit, as long as this is entered."""

    def __init__(self, place: Place, workers: int, threads: int, *, preload: bool) -> None:
        """Say how it is to run."""
        self.place, self.params = place, place.params
        self.workers, self.threads, self.preload = workers, threads, preload
        self.socket = place.runtime / "gunicorn.sock"

    def __enter__(self) -> Self:
        """Start it and wait for its workers."""
        place, params = self.place, self.params
        if not any(each.startswith("User=") and each != "User=root" for each in params["sandbox"]):
            raise MeasurementFailure(
                "the sandbox names no user of the application's own, and root runs nothing of it", "host"
            )
        place.log.unlink(missing_ok=True)
        os.close(os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        release = place.home / "releases" / params["release"]
        settings = [
            *params["sandbox"],
            "Type=exec",
            f"RuntimeDirectory={place.unit}",
            "RuntimeDirectoryMode=0700",
            f"WorkingDirectory={release}",
            f"Environment=PATH={params['venv']}/bin:/usr/local/bin:/usr/bin:/bin",
            f"EnvironmentFile={place.home}/environment",
            "SystemCallFilter=@chown",
            f"RuntimeMaxSec={int(params['seconds']) + (BOOTS + 2) * params['boot_seconds'] + 60}",
            "TimeoutStopSec=5",
            "CPUWeight=20",
            f"MemoryMax={params['memory_mb']}M",
            "MemorySwapMax=0",
            "OOMPolicy=continue",
            "TasksMax=1024",
            f"StandardOutput=append:{place.log}",
            "StandardError=inherit",
        ]
        program = [f"{params['venv']}/bin/python", "-m", "gunicorn", f"--config={place.home}/gunicorn.conf.py"]
        program += [f"--workers={self.workers}", f"--threads={self.threads}", f"--worker-connections={self.threads}"]
        program += [f"--bind=unix:{self.socket}", *(["--preload"] if self.preload else []), params["wsgi"]]
        unit = ["--quiet", f"--unit={place.unit}", *(f"--property={each}" for each in settings)]
        output("systemctl", "reset-failed", place.unit)
        try:
            run("systemd-run", *unit, "--", *program)
            self.ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Stop it; where a worker was gone that was to be asked or looked at, say why."""
        try:
            if vanished(error):
                raise self.gone() from None
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop it, and forget how it ended."""
        output("systemctl", "stop", self.place.unit)
        output("systemctl", "reset-failed", self.place.unit)

    @property
    def master(self) -> int:
        """Its process id; 0 when it has ended."""
        return int(main_pid(self.place.unit))

    def marks(self) -> dict[int, float]:
        """Boot seconds of the workers that are ready: of processes that are the master's own, whatever else is named so."""
        found: dict[int, float] = {}
        master = self.master
        for name in beneath.names(str(self.place.runtime)):
            mark = MARK.fullmatch(name)
            if mark and master and parent(int(mark[1])) == master:
                seconds = beneath.read_json(str(self.place.runtime), name).get("boot_seconds")
                if isinstance(seconds, float) and math.isfinite(seconds) and seconds >= 0:
                    found[int(mark[1])] = seconds
        return found

    def of_master(self) -> dict[str, Any]:
        """What the master has left when it was complete; empty before. Refused or MeasurementFailure when it is something else."""
        try:
            found = json.loads(beneath.read(str(self.place.runtime), "master"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise MeasurementFailure(
                f"the application overwrites {self.place.runtime}/master, where Gunicorn's master leaves a note"
            )
        return found

    def ready(self) -> dict[int, float]:
        """Wait until all workers can answer."""
        limit = time.monotonic() + self.params["boot_seconds"] + BOOT_MARGIN_SECONDS
        while len(marks := self.marks()) < self.workers or not self.of_master():
            if not self.master:
                raise MeasurementFailure("the application does not start", output=self.said())
            if KILLED in self.log():
                raise self.gone()
            if "[CRITICAL] WORKER TIMEOUT" in self.log() or time.monotonic() > limit:
                time.sleep(1)  # It is just saying where it stands.
                raise MeasurementFailure(
                    f"the application hangs while it starts: no worker is ready within {self.params['boot_seconds']} s",
                    output=self.said(),
                )
            time.sleep(POLL_SECONDS)
        return marks

    def settle(self) -> None:
        """Wait for workers in place of those that ended; MeasurementFailure when the master is gone too, or memory was the reason."""
        time.sleep(MASTER_LOOKS_SECONDS)
        if not self.master or KILLED in self.log():
            raise self.gone()
        self.ready()

    def log(self) -> str:
        """The end of what it has logged."""
        try:
            with open(self.place.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                return file.read(LOG_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""

    def said(self) -> str:
        """The end of what it logged, without Gunicorn's own progress."""
        lines = [line for line in self.log().splitlines() if line.strip() and not NOISE.search(line)]
        return "\n".join(lines[-LAST_LINES:])

    def gone(self) -> MeasurementFailure:
        """Why a worker, or all of them, are no longer there."""
        time.sleep(MASTER_LOOKS_SECONDS)
        memory = KILLED in self.log() or "oom" in output(
            "systemctl", "show", "--value", "-p", "Result", self.place.unit
        )
        if memory:
            many = "it does" if self.workers == 1 else f"{self.workers} of them do"
            return MeasurementFailure(
                f"a worker was killed for memory: {many} not fit into the {self.params['memory_mb']} MB that are free on this "
                "host beside what is live; measure on a larger host with --host",
                "fit",
                self.said(),
            )
        return MeasurementFailure("a worker died while it was measured", output=self.said())

    def pids(self) -> list[int]:
        """The workers that are ready; MeasurementFailure when one is missing, or stands in place of one that was killed for memory."""
        found = sorted(self.marks())
        if len(found) != self.workers or KILLED in self.log() or not self.master:
            raise self.gone()
        return found
