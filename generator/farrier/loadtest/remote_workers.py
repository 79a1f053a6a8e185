"""Locust workers on the hosts of an inventory group: put there, reached through SSH, and removed again, by Ansible."""

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from farrier.ansible.events import Event, Result
from farrier.ansible.render import PACKAGE, render_file, templates_directory
from farrier.ansible.runner import Ansible
from farrier.errors import FarrierError, HostError
from farrier.wording import counted

FILES = ("__init__.py", *(f"loadtest/{name}.py" for name in ("__init__", "job", "samples", "source", "load_generator")))
"""What a worker needs of this package; it has no other dependency than Locust."""

JOIN_SECONDS = 75
"""A worker that loses its master gives up after 60 s at the latest."""

MOST_FAILURES = 20
"""Failures of workers that are shown."""

START_SECONDS = 60.0
"""How long workers may take to connect once they are there."""


def free_port() -> int:
    """A port that nobody has here at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Workers:
    """Workers on all hosts of a group: where they find the generator on their own machine, and how many there are."""

    group: str
    ansible: Ansible
    count: int
    seconds: float
    port: int = field(default_factory=free_port)

    @contextmanager
    def running(self, on_phase: Callable[[str], None]) -> Iterator[None]:
        """Workers while the block runs. HostError when they cannot be put there."""
        with tempfile.TemporaryDirectory(prefix="farrier-loadtest-") as directory:
            place = f".cache/farrier-loadtest-{uuid4().hex[:12]}"
            for phase in ("prepare", "work", "clean"):
                self._write(Path(directory), place, phase)
            try:
                on_phase(f"Locust is put onto {counted(self.count, 'host')} of {self.group}")
                self._play(Path(directory), "prepare")
                working = threading.Thread(target=self._work, args=(Path(directory),), daemon=True)
                working.start()
                try:
                    yield
                finally:
                    working.join(JOIN_SECONDS)
            finally:
                with suppress(FarrierError):
                    self._play(Path(directory), "clean")

    def _write(self, directory: Path, place: str, phase: str) -> None:
        context = {
            "phase": phase,
            "group": self.group,
            "place": place,
            "port": self.port,
            "seconds": round(self.seconds),
            "locust": f"locust=={version('locust')}",
            "files": [{"source": str(PACKAGE / name), "name": f"farrier/{name}"} for name in FILES],
        }
        content = render_file(templates_directory() / "loadtest/workers.yml.tmpl", context)
        (directory / f"{phase}.yml").write_bytes(content)

    def _work(self, directory: Path) -> None:
        # What goes wrong shows in workers that stay away, which the generator reports.
        with suppress(FarrierError):
            self._play(directory, "work")

    def _play(self, directory: Path, phase: str) -> None:
        options: list[str] = []
        if phase == "work":
            # The way back to the generator: through the connection that Ansible has anyway, open to nobody else.
            options = ["--forks", str(self.count)]
            options += [f"--ssh-extra-args=-R 127.0.0.1:{self.port}:127.0.0.1:{self.port}"]
        failures: list[str] = []

        def take(event: Event) -> None:
            failure = event.failure if isinstance(event, Result) else None
            if failure and len(failures) < MOST_FAILURES:
                failures.extend(failure.messages)

        ended = self.ansible.playbook(directory / f"{phase}.yml", take, *options)
        if failures or ended.code:
            raise HostError(*(failures or [ended.cause]))
