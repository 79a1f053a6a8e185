"""Releases that are built in a directory of the test, with a pip and a systemd that only note what they are asked for."""

import io
import os
import pwd
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_workplace
from ansible.module_utils.farrier_host import Failure

from farrier.ansible.modules.farrier_release import Builder
from module_runner import run_module

ID = "0123456789ab"
ME = pwd.getpwuid(os.geteuid())


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


class Maker:
    """Builds releases below a temporary home; systemd-run, venv and pip are played by a few lines."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home = root, root / "srv"
        self.calls: list[list[str]] = []
        self.fails = ""
        self.brings: tuple[str, ...] = ()
        monkeypatch.setattr(farrier_workplace, "as_user", self.as_user)
        for name in ("releases", "venvs"):
            (self.home / name).mkdir(parents=True)
        self.params: dict[str, Any] = {
            "home": str(self.home),
            "user": ME.pw_name,
            "python": sys.executable,
            "requirements": "requirements.txt",
            "gunicorn": "gunicorn==27.0.1",
            "pip": None,
            "worker_class": None,
            "static_directory": "static_root",
            "static_command": "collect",
            "environment_file": "/etc/notes/environment",
            "sandbox": ["ProtectSystem=strict"],
            "keep": 3,
            "commit": "v1",
        }

    def as_user(
        self, user: str, properties: list[str], command: list[str], environment: Mapping[str, str] | None = None
    ) -> str:
        assert user == ME.pw_name
        assert "ProtectSystem=strict" in properties
        assert ("PrivateNetwork=yes" in properties) is not ("pip" in command or command[0] in ("collect", "true"))
        assert not environment or "pip" in command
        self.calls.append(command)
        if self.fails and self.fails in " ".join(command):
            raise Failure("no index in reach")
        if "venv" in command:
            python = Path(command[-1], "bin/python")
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
            for each in self.brings:
                Path(command[-1], f"lib/python3.11/site-packages/{each}.dist-info").mkdir(parents=True)
        if "-c" in command or command[0] == "cp":
            subprocess.run(command, check=True)
        if "collect" in command:
            where = Path(next(each for each in properties if each.startswith("WorkingDirectory=")).partition("=")[2])
            (where / "static_root/style.css").write_text("a { color: red }\n")
            self.plants(where / "static_root")
        return ""

    def plants(self, static: Path) -> None:
        """What else the static command leaves behind."""

    def archive(self, release: str = ID, requirements: str = "django==5.2.19\n") -> str:
        source = self.root / f"source-{release}"
        source.mkdir()
        (source / "requirements.txt").write_text(requirements)
        (source / "app.py").write_text("x = 1\n")
        packed = run_module("farrier_source", {"source": str(source), "cache": str(self.root / "cache")})["archive"]
        archive = self.home / "releases" / f"{release}.tar.gz"
        archive.write_bytes(Path(packed).read_bytes())
        return str(archive)

    def build(self, release: str = ID, **params: Any) -> Builder:
        archive = self.archive(release, params.pop("requirements_text", "django==5.2.19\n"))
        builder = Builder({**self.params, "release": release, "archive": archive, **params})
        builder.build()
        return builder


def packed(path: Path, *members: tuple[str, int, bytes | str]) -> str:
    """An archive of files, as mode and content, and of links, as 0 and target."""
    with tarfile.open(path, "w:gz") as tar:
        for name, mode, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_000_000_000
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return str(path)
