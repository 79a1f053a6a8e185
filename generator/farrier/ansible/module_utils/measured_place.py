# SPDX-License-Identifier: MIT
"""Where an application is measured on a host, beside what is live; for `application_measurement`."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils import farrier_host
from ansible.module_utils.farrier_host import locked, output, run

MARK = ".farrier-measurement"
"""Stands in the directory of a measurement, which root owns; one without it is somebody else's, and stays."""

EXPIRY_SECONDS = 900
"""So long after the time for requests all is removed, whatever has become of the control node."""


class MeasurementFailure(farrier_host.Failure):  # type: ignore[misc] # found by Ansible only, on the host
    """What went wrong: a sentence, whose fault it is, and what the application said."""

    def __init__(self, message: str, kind: str = "input", output: str = "") -> None:
        """Keep all three."""
        super().__init__(message)
        self.kind, self.output = kind, output


class Place:
    """Where an application is measured on this host, and what belongs to it."""

    def __init__(self, params: dict[str, Any]) -> None:
        """Derive the names."""
        self.params = params
        self.application: str = params["application"]
        self.unit = f"farrier-measure-{self.application}"
        self.timer = f"farrier-measure:expiry:{self.application}"  # no application's own name can make that
        self.home = Path(f"{params['home']}-measure")
        self.runtime = Path("/run", self.unit)
        self.lock = Path("/run", f"{self.unit}.lock")
        self.log = self.home / "log"

    @contextlib.contextmanager
    def held(self, wait_seconds: float) -> Iterator[None]:
        """Only one at a time; whoever cleans up waits for the one whose Gunicorn was just stopped."""
        with open(self.lock, "a", encoding="utf-8") as file:
            if not locked(file, wait_seconds):
                message = f"{self.application} is being measured on this host by somebody else; wait for it"
                raise MeasurementFailure(message, "host")
            yield

    def require_own(self) -> None:
        """MeasurementFailure when something of this name is there that no measurement has made."""
        if os.path.lexists(self.home) and not self.is_marked():
            message = f"{self.home} is there and belongs to no measurement: rename it, or the application that it is of"
            raise MeasurementFailure(message, "host")
        fragment = output("systemctl", "show", "--value", "-p", "FragmentPath", f"{self.unit}.service").strip()
        if fragment and not fragment.startswith("/run/systemd/transient/"):
            raise MeasurementFailure(
                f"{fragment} is a unit of somebody else's; measurements use this name: rename it", "host"
            )

    def is_marked(self) -> bool:
        """Whether a measurement has made the directory, or it is empty, as one that came no further leaves it."""
        with contextlib.suppress(OSError):
            found = beneath.names(str(self.home))
            return self.home.is_dir() and not self.home.is_symlink() and (MARK in found or not found)
        return False

    def clean(self) -> None:
        """Remove all that a measurement makes, whoever made it."""
        self.require_own()
        output("systemctl", "stop", self.unit)
        with self.held(20):
            output("systemctl", "stop", self.unit, f"{self.timer}.timer")
            output("systemctl", "reset-failed", self.unit, f"{self.timer}.service")
            shutil.rmtree(self.home, ignore_errors=True)
            self.lock.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Make the place, with links to what is live, and a timer that removes it."""
        home, name = self.params["home"], self.application
        try:
            pwd.getpwnam(name)
        except KeyError:
            message = (
                f"{name} has never been deployed here: its user {name} does not exist, and so neither do the packages, the "
                "directory and the migrated database that requests need; run the environment's playbook once, then measure"
            )
            raise MeasurementFailure(message, "host") from None
        if self.lock.exists():
            with self.held(0):
                pass
        self.clean()
        self.home.mkdir(mode=0o755)
        (self.home / MARK).touch(mode=0o600)
        for part in ("releases", "venvs"):
            (self.home / part).mkdir(mode=0o755)
        live = Path(home, "venvs")
        for venv in live.iterdir() if live.is_dir() else []:
            if (venv / ".complete").exists():
                (self.home / "venvs" / venv.name).symlink_to(venv)
        release = Path(home, "releases", self.params["release"])
        venv = beneath.read_json(home, f"releases/{release.name}/RELEASE.json").get("venv")
        if isinstance(venv, str) and os.path.lexists(self.home / "venvs" / os.path.basename(venv)):
            (self.home / "releases" / release.name).symlink_to(release)
        for file, content in (("environment", self.params["environment"]), ("gunicorn.conf.py", self.params["config"])):
            with open(os.open(self.home / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
                target.write(content)
        (self.home / "gunicorn.conf.py").chmod(0o644)
        expiry = f"systemctl stop {self.unit}; rm -rf {self.home} {self.lock}"
        timer = [
            "--quiet",
            "--collect",
            f"--unit={self.timer}",
            f"--on-active={int(self.params['seconds']) + EXPIRY_SECONDS}",
        ]
        run("systemd-run", *timer, "/bin/sh", "-c", expiry)
