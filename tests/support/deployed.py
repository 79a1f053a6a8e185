"""The example application, deployed to a throw-away host as a user would deploy it."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import testbed
from testbed import DOMAIN, ENVIRONMENT, PLAY, ROOT, Host, farrier, run
from tricky import TRICKY

PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """One answer through NGINX, and when it came; times are those of the monotonic clock."""

    status: int
    headers: Mapping[str, str]
    body: str
    asked: float
    answered: float

    @property
    def seconds(self) -> float:
        """How long the client waited."""
        return self.answered - self.asked


@dataclass(frozen=True, kw_only=True)
class Deployed(Host):
    """The running stack, seen from a client and from an operator's shell."""

    project: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    def get(self, path: str, connection: http.client.HTTPConnection | None = None) -> Answer:
        """Asks NGINX for a page, on the given connection or on one of its own."""
        return self.ask("GET", path, connection=connection)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Answer:
        """Sends one request to NGINX and waits for the whole answer."""
        connection = connection or self.connect()
        asked = time.monotonic()
        try:
            # A body may be refused before all of it was sent; the answer is there all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                sent = {"Host": DOMAIN, "Connection": "close", **(headers or {})}
                connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            received = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, received, text, asked, time.monotonic())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        """A connection to NGINX on which nothing has been asked yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE_SECONDS)
        connection.connect()
        return connection

    def play(self, *arguments: str) -> str:
        """Runs the generated playbook."""
        return run([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments], self.project)


@contextmanager
def deployed(
    name: str,
    project: Path,
    workload: Mapping[str, Any],
    overrides: Mapping[str, Any],
    memory_mb: int = 768,
    prepare: Callable[[Deployed], object] = lambda _stack: None,
) -> Iterator[Deployed]:
    """The example application on a host of its own, which is gone afterwards; `prepare` may change the project first."""
    with testbed.host(name, cpus=1, memory_mb=memory_mb) as host:
        testbed.write_notes(project, [host], workload, overrides, TRICKY)
        stack = Deployed(**vars(host), project=project)
        prepare(stack)
        farrier(project, "facts", ENVIRONMENT)
        farrier(project, "generate", ENVIRONMENT)
        plan = json.loads(farrier(project, "plan", ENVIRONMENT, "--json"))
        settings = {key: setting["value"] for key, setting in plan["hosts"][name]["settings"].items()}
        stack = replace(stack, settings=settings)
        stack.play()
        yield stack


def one_module(name: str, arguments: str) -> list[str]:
    """The call of one of the role's modules by itself, or of one that only Farrier has."""
    role = f"roles/notes_{ENVIRONMENT}"
    library = f"ANSIBLE_LIBRARY={role}/library:{ROOT}/generator/farrier/ansible/modules"
    found = ["env", f"ANSIBLE_MODULE_UTILS={role}/module_utils", library]
    return [*found, "ansible", "all", "-i", "inventory.yml", "-b", "-m", name, "-a", arguments]


def started(stack: Deployed, *words: str) -> subprocess.Popen[str]:
    """A `farrier` command in the project, in a session of its own so that a signal can reach all of it."""
    scripts = Path(sys.executable).parent
    return subprocess.Popen(
        [sys.executable, "-m", "farrier", *words],
        cwd=stack.project,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, result and progress of a command that was started."""
    with process:
        said, progress = process.communicate(timeout=180)
    return process.returncode, said, progress
