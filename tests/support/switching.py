"""A host without systemd on which slots are switched, and what was done there."""

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils import farrier_host, farrier_slot, farrier_target
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_memory import MemoryWatch
from ansible.module_utils.farrier_slot import Slot

from farrier.ansible.modules import farrier_switch
from farrier.ansible.modules.farrier_switch import act

OLD, NEW, OLDER = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


class Systemd:
    """Units that start and stop at once, and a log of who was started, stopped or pointed to."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.active: set[str] = {"notes.socket", "nginx.service"}
        self.broken: set[str] = set()
        self.stale = False
        self.log: list[str] = []

    def run(self, *command: str) -> str:
        verb, *words = command[1:]
        units = [word for word in words if not word.startswith("-")]
        if verb == "show":
            return self.shown(units[-1])
        pointed = self.link.readlink().name if self.link.is_symlink() else "none"
        self.log += [f"{verb} {unit.removesuffix('.service')} ({pointed})" for unit in units]
        self.log += ["daemon-reload"] if verb == "daemon-reload" else []
        if verb == "start":
            for unit in units:
                if unit in self.broken:
                    raise Failure(f"Job for {unit} failed")
                self.active.add(unit)
        if verb == "stop":
            self.active -= set(units)
        return ""

    def shown(self, unit: str) -> str:
        state = "active" if unit in self.active else "failed" if unit in self.broken else "inactive"
        pid = "100" if unit in self.active else "0"
        reload = "yes" if self.stale and "@" in unit else "no"
        return (
            f"ActiveState={state}\nMainPID={pid}\nNRestarts=0\nUnitFileState=enabled\n"
            f"NeedDaemonReload={reload}\nResult={'exit-code' if unit in self.broken else 'success'}\n"
        )


class Host:
    """A host with two releases, a wanted configuration, and slot a serving the old release."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.link = root, root / "srv/active"
        self.ready = [101, 102]
        self.systemd = Systemd(self.link)
        self.params: dict[str, Any] = {
            "application": "notes",
            "release": OLD,
            "home": str(root / "srv"),
            "configuration": None,
            "host": "www.example.org",
            "health_path": "/health/",
            "health_seconds": 1,
            "scheme": "http",
            "strategy": "overlap",
            "boot_seconds": 0,
            "memory_available_mb": None,
            "memory_assumed": False,
            "measure": "farrier measure trial",
            "hidden": ["KEY"],
            "by": "me",
            "coming": [],
        }
        for release in (OLD, NEW):
            self.write(f"srv/releases/{release}/RELEASE.json", '{"venv": "dddddddddddd"}')
        self.params["configuration"] = self.configure()
        self.write("units/notes@.service", "[Service]\n")
        self.said = "[INFO] noise\nTraceback: broken at import\n"
        monkeypatch.setattr(farrier_target, "UNITS", str(root / "units"))
        for module in (farrier_host, farrier_slot, farrier_switch):
            monkeypatch.setattr(module, "run", self.systemd.run)
        monkeypatch.setattr(farrier_slot, "output", lambda *_: "")
        monkeypatch.setattr(farrier_slot, "logged", lambda *_: self.said.split("\n"))
        monkeypatch.setattr(MemoryWatch, "killed", lambda *_: False)
        monkeypatch.setattr(farrier_slot, "SETTLE_SECONDS", 0)
        monkeypatch.setattr(Slot, "ask", lambda _slot, _path: None)
        monkeypatch.setattr(Slot, "workers", lambda slot: self.ready if slot.unit in self.systemd.active else [])

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def configure(self, environment: str = 'KEY="secret"\n', workers: int = 2) -> str:
        """Lays a configuration out, as farrier_configuration does before a switch."""
        files = {"environment": environment, "gunicorn.conf.py": f"workers = {workers}\nbacklog = 64\n"}
        name: str = configurations.lay_out(self.home, {file: text.encode() for file, text in files.items()})
        return name

    def switch(self, **params: Any) -> dict[str, Any]:
        self.systemd.log.clear()
        result: dict[str, Any] = act({**self.params, **params}, False)[1]
        return result

    def roll_back(self, release: str = "previous") -> dict[str, Any]:
        return self.switch(release=release, configuration=None)

    @property
    def home(self) -> str:
        return str(self.root / "srv")

    @property
    def facts(self) -> dict[str, Any]:
        """What the slot that counts was filled with."""
        facts: dict[str, Any] = configurations.slot_facts(self.home, self.slot)
        return facts

    @property
    def environment(self) -> str:
        """What the slot that counts is started with."""
        return (self.link / "environment").read_text()

    def holding(self, text: str) -> list[str]:
        """The files below the application's home that hold a text."""
        files = [path for path in (self.root / "srv").rglob("*") if path.is_file()]
        return [str(path.relative_to(self.root)) for path in files if text in path.read_text()]

    @property
    def slot(self) -> str:
        return self.link.readlink().name
