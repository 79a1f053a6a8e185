"""The directory in which test hosts are remembered: their records, their key, what they share."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class State:
    """One state directory; hosts of different ones know nothing of each other."""

    directory: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory, so that hosts started side by side share one image, one key and no port.

        Git ignores it, whatever the project says: it holds a private key, and is no part of a release.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / ".gitignore").write_text("*\n")
        with (self.directory / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def record(self, name: str) -> Path:
        """Return the file that says how a host is reached."""
        return self.directory / "up" / f"{name}.json"

    def container(self, name: str) -> str:
        """Return the name of a host's container; the engine knows those of all state directories."""
        return f"{name}-{hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]}"

    def names(self) -> list[str]:
        """Return the names of all hosts on record."""
        return sorted(path.stem for path in self.record("*").parent.glob("*.json"))

    def private_key(self) -> Path:
        """Return the key that opens the hosts, made at first use."""
        path = self.directory / "id_ed25519"
        if not path.exists():
            command = [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "farrier test hosts",
                "-f",
                str(path),
            ]
            subprocess.run(command, check=True)
        return path

    def caches(self, system: str) -> list[Path]:
        """Return the directories in which hosts of one system leave fetched packages for each other."""
        found = [self.directory / "cache" / system / what for what in ("apt", "pip")]
        for path in found:
            path.mkdir(parents=True, exist_ok=True)
        return found


def state_of_project() -> State:
    """Return the state directory of the project around the working directory, `.cache/hosts`."""
    here = Path.cwd()
    marks = ("farrier.yml", ".git")
    around = (each for each in (here, *here.parents) if any((each / mark).exists() for mark in marks))
    return State(next(around, here) / ".cache" / "hosts")
