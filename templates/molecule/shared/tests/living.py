"""What a host does at this moment: asked of the kernel, of systemd, of running processes, and over HTTP."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nginx_conf

HERE = Path(__file__).parent
# More silent connections than there are slots, so that some must stay in the kernel's queue.
SURPLUS = 3


@dataclass(frozen=True)
class Answer:
    """What came back for one request; `status` is None where the connection ended without an answer."""

    status: int | None
    headers: Mapping[str, str]
    body: str
    seconds: float
    error: str = ""


class Living:
    """One host, looked at from inside; everything is read once and kept, `Living(...)` again reads again."""

    def __init__(self, host: Any, expect: Mapping[str, Any]) -> None:
        """`host` is Testinfra's; `expect` what the generator knows of the application (expect.json)."""
        self.host = host
        self.expect = expect
        self.app: str = expect["app"]

    @cached_property
    def is_root(self) -> bool:
        """Whether the connection needs no sudo."""
        return bool(self.host.user().name == "root")

    def as_root(self) -> AbstractContextManager[Any]:
        """Commands within run as root."""
        return nullcontext() if self.is_root else self.host.sudo()

    def python(self, script: str, *arguments: str) -> Any:
        """Runs one of the `on_host_` scripts on the host as root; answers its JSON."""
        source = (HERE / script).read_text(encoding="utf-8")
        with self.as_root():
            result = self.host.run("python3 -c %s " + "%s " * len(arguments), source, *arguments)
        assert result.succeeded, f"{script} failed on the host: {result.stderr}"
        return json.loads(result.stdout)

    def ask(self, *requests: Mapping[str, Any]) -> list[Answer]:
        """Sends requests from the host to its own NGINX, under the application's first domain."""
        common = {"host": self.expect["domain"], "tls": self.expect.get("tls", False)}
        answers = self.python("on_host_ask.py", json.dumps([{**common, **request} for request in requests]))
        return [Answer(**answer) for answer in answers]

    @cached_property
    def stack(self) -> dict[str, Any]:
        """The stack as it stands (see on_host_stack.py)."""
        found: dict[str, Any] = self.python("on_host_stack.py", self.app, "look")
        return found

    @cached_property
    def busy_stack(self) -> dict[str, Any]:
        """The stack while each of its slots holds a connection, and SURPLUS more wait."""
        first = self.workers[0]["configuration"]
        held = len(self.workers) * (1 if first["worker_class"] == "sync" else first["worker_connections"]) + SURPLUS
        found: dict[str, Any] = self.python("on_host_stack.py", self.app, "hold", str(held))
        return found

    @property
    def slot(self) -> dict[str, Any]:
        """The slot that serves."""
        running = [slot for slot in self.stack["slots"].values() if slot["main"]]
        assert len(running) == 1, f"{len(running)} slots are running"
        found: dict[str, Any] = running[0]
        return found

    @property
    def workers(self) -> list[dict[str, Any]]:
        """The Gunicorn workers of the slot that serves."""
        found: list[dict[str, Any]] = self.slot["workers"]
        return found

    @cached_property
    def nginx_root(self) -> nginx_conf.Block:
        """NGINX's whole configuration; newer than its processes it would be one that nobody runs."""
        nginx = self.stack["nginx"]
        youngest = min(worker["age_seconds"] for worker in nginx["workers"])
        assert nginx["configuration_age_seconds"] >= youngest - 1.5, "NGINX has not loaded its newest configuration"
        return nginx_conf.parse(nginx["configuration"])

    @property
    def nginx_location(self) -> nginx_conf.Block:
        """Where NGINX passes requests on to Gunicorn."""
        return nginx_conf.proxying_location(self.nginx_server)

    @property
    def nginx_server(self) -> nginx_conf.Block:
        """The server block of the application's first domain."""
        return nginx_conf.application_server(self.nginx_root, self.expect["domain"])
