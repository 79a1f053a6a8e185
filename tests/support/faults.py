"""The host of the fault suite, its releases, and the hands of an operator and of an accident."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployed import Deployed, one_module
from fault_table import Seen
from load import REQUESTS_PER_SECOND, Load, Report, load
from testbed import DOMAIN, ENVIRONMENT, EXAMPLE, PLAY, ROOT, attempt, environment, run

# The full count of deploys and rollbacks is for `FARRIER_FAULTS=20 pytest tests/host -k deploys_and_rollbacks`.
DEPLOYS = int(os.environ.get("FARRIER_FAULTS", "3"))
REST_SECONDS = 6
SETTLE_SECONDS = 30
BOOT_SECONDS = 60
WORKERS = 3
THREADS = 4
# Room for all that comes while a slot cannot start for some seconds.
BACKLOG = 600
WORKLOAD = {
    "cpu_seconds": 0.008,
    "wait_seconds": 0.06,
    "memory_private_mb": 30,
    "memory_shared_mb": 30,
    "preload_safe": True,
    "boot_seconds": 1,
    "request_limit_seconds": 20,
}
OVERRIDES = {
    "gunicorn.worker_class": "gthread",
    "gunicorn.workers": WORKERS,
    "gunicorn.threads": THREADS,
    "gunicorn.backlog": BACKLOG,
    "systemd.Backlog": BACKLOG,
    # A worker that is replaced in its turn would be taken for one that a fault has ended.
    "gunicorn.max_requests": 0,
    "gunicorn.max_requests_jitter": 0,
}
SERVICE = "/etc/systemd/system/notes@.service"

# Every release has a page that eats memory, and one that forks, until something stops them or there is enough.
GREEDY = """
import json as _json
import os as _os
import signal as _signal
import time as _time

_notes, _eaten = application, []


def application(environ, start_response):
    if environ["PATH_INFO"] == "/eat/":
        _eaten.extend(b"x" * 4_000_000 for _ in range(100))
    if environ["PATH_INFO"] != "/fork/":
        return _notes(environ, start_response)
    children, error = [], "none"
    try:
        while len(children) < 150:
            child = _os.fork()
            if not child:
                _time.sleep(60)
                _os._exit(0)
            children.append(child)
    except OSError as problem:
        error = problem.strerror
    _time.sleep(2)
    for child in children:
        _os.kill(child, _signal.SIGKILL)
        _os.waitpid(child, 0)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [_json.dumps({"made": len(children), "error": error}).encode()]
"""


def write_release(project: Path, text: str = "") -> None:
    """Makes another release of the project: this at the end of its WSGI module."""
    original = (EXAMPLE / "notes/wsgi.py").read_text(encoding="utf-8")
    (project / "app/notes/wsgi.py").write_text(f"{original}{GREEDY}\n{text}\n", encoding="utf-8")


@dataclass(frozen=True)
class Living:
    """What runs: the active slot, its release and processes, and the states of both slots and the socket."""

    slot: str
    release: str
    main_pid: int
    workers: tuple[int, ...]
    slots: dict[str, str]
    socket: str
    waiting: int = field(compare=False)

    @property
    def settled(self) -> bool:
        """Whether exactly the active slot runs, and the queue is short."""
        other = {"a": "b", "b": "a"}[self.slot]
        running = self.slots[self.slot] == "active" and self.slots[other] in ("inactive", "failed")
        return running and self.socket == "active" and self.waiting <= WORKERS * THREADS


LOOK = """
slot=$(basename $(readlink /srv/notes/active))
echo $slot
basename $(readlink /srv/notes/active/release)
systemctl show --value -p MainPID notes@$slot
echo $(ls /run/notes-$slot/workers 2>&1 | grep -x '[0-9]*')
echo $(systemctl is-active notes@a notes@b notes.socket)
ss -lxnH src /run/notes.sock | awk '{n += $3} END {print n + 0}'
"""


@dataclass
class Row:
    """A row of the table: a fault, what was taken away of what protects from it, and what was seen."""

    name: str
    without: str = ""
    held: bool = False
    report: Report | None = None
    note: str = ""


@dataclass
class Stage:
    """The one host on which all faults happen, and what has been seen."""

    stack: Deployed
    answers: Path
    rest: Report = field(default_factory=lambda: Report(()))
    rows: list[Row] = field(default_factory=list)
    mutation: str = ""
    patience_seconds: float = SETTLE_SECONDS

    @property
    def port(self) -> int:
        """Where the host's port 80 is."""
        return self.stack.http_port

    def shell(self, command: str) -> str:
        """What a command prints that root runs on the host."""
        return self.stack.shell(command)

    def look(self) -> Living:
        """What runs now."""
        slot, release, main, workers, states, waiting = self.shell(LOOK).splitlines()
        a, b, socket = states.split()
        pids = tuple(int(pid) for pid in workers.split())
        return Living(slot, release, int(main), pids, {"a": a, "b": b}, socket, int(waiting))

    def settled(self, workers: int = WORKERS) -> Living:
        """What runs, once exactly one slot does, with all its workers."""
        give_up = time.monotonic() + self.patience_seconds
        while True:
            living = self.look()
            if living.settled and len(living.workers) == workers:
                return living
            assert time.monotonic() < give_up, f"not settled within {self.patience_seconds} s: {living}"
            time.sleep(0.2)

    @contextmanager
    def row(self, name: str, limit_seconds: float = 120, rate: float = REQUESTS_PER_SECOND) -> Iterator[Load]:
        """A row of the table: load for the time of the block, which says by failing that the fault was not survived."""
        row = Row(name, self.mutation)
        self.rows.append(row)
        self.answers.parent.mkdir(exist_ok=True)
        with load(self.port, DOMAIN, self.answers, limit_seconds, rate) as running:
            try:
                yield running
                row.held = True
            finally:
                row.report = running.report()

    @contextmanager
    def row_at_rest(self, name: str) -> Iterator[None]:
        """A row of the table without load, as its fault leaves nothing to ask for: a reboot."""
        row = Row(name, self.mutation)
        self.rows.append(row)
        yield
        row.held = True

    def note(self, text: str) -> None:
        """A line below the last row of the table."""
        self.rows[-1].note = text

    def take_rows(self) -> list[Seen]:
        """The rows since the last time, for the table at the end."""
        taken, self.rows = self.rows, []
        rest = self.rest.seconds(0.99) * 1000
        return [seen(row, rest) for row in taken]

    def deploy(self, text: str, *arguments: str) -> str:
        """Deploys a release, which has to succeed."""
        write_release(self.stack.project, text)
        return self.stack.play(*arguments)

    def refused(self, text: str, *arguments: str) -> str:
        """Deploys a release, which has to fail; what the play says."""
        write_release(self.stack.project, text)
        done = attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments], self.stack.project)
        assert done.returncode != 0, f"the play did not fail:\n{done.stdout}"
        # Newlines and quotes as they were before Ansible wrote them into JSON.
        return (done.stdout + done.stderr).replace("\\n", "\n").replace('\\"', '"')

    def write_what_runs(self) -> None:
        """Makes the release that runs the one of the project."""
        text = self.shell("cat /srv/notes/active/release/notes/wsgi.py")
        (self.stack.project / "app/notes/wsgi.py").write_text(text, encoding="utf-8")

    def start(self, playbook: str) -> "subprocess.Popen[bytes]":
        """Begins to run a playbook, in a process group of its own."""
        command = [*PLAY, f"playbooks/{playbook}.yml"]
        return subprocess.Popen(
            command,
            cwd=self.stack.project,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def switch(self, **parameters: Any) -> "subprocess.CompletedProcess[str]":
        """Calls the role's switch by itself."""
        wish = {"application": "notes", "home": "/srv/notes", "host": DOMAIN, "health_path": "/health/", **parameters}
        return attempt(one_module("farrier_switch", json.dumps(wish)), self.stack.project)

    def ask_facts(self) -> str:
        """What Farrier knows of the host at this moment, as Ansible shows it."""
        return run(one_module("farrier_facts", "application=notes"), self.stack.project)

    @contextmanager
    def altered(self, path: str, old: str, new: str, then: str = "true") -> Iterator[None]:
        """A generated file on the host with something else in it, which systemd reads and `then` is run; later as it was."""
        kept = f"/root/kept-{time.monotonic_ns()}"
        change = f"s\x01{old}\x01{new}\x01"
        self.shell(f"cp {path} {kept} && sed -i {shlex.quote(change)} {path} && ! cmp -s {path} {kept}")
        try:
            self.shell(f"systemctl daemon-reload; {then}")
            yield
        finally:
            self.shell(f"cp {kept} {path} && rm {kept} && systemctl daemon-reload; {then}")

    def repair(self) -> None:
        """What an operator would do after a fault that was not survived."""
        self.shell(
            "systemctl stop notes@a notes@b notes-preflight; systemctl reset-failed; "
            "systemctl start notes.socket && systemctl start notes-activate"
        )
        self.settled()

    def bring_back(self, before: Living) -> None:
        """Back to what ran before, whatever counts now."""
        now = self.look()
        if (now.slot, now.release, len(now.workers)) != (before.slot, before.release, WORKERS) or not now.settled:
            self.shell(f"ln -sfn slots/{before.slot} /srv/notes/active")
            self.repair()

    def reboot(self) -> None:
        """Restarts the host, and waits until it has booted."""
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.shell(boot)
        self.shell("systemctl --no-block reboot")
        give_up = time.monotonic() + BOOT_SECONDS
        while True:
            done = attempt([*self.stack.ssh_anew, f"systemctl is-system-running --wait >&2; {boot}"], ROOT)
            if done.returncode == 0 and done.stdout != before:
                return
            assert time.monotonic() < give_up, done
            time.sleep(0.2)


def seen(row: Row, rest_p99_ms: float) -> Seen:
    """A row as the table wants it."""
    found = row.report
    if not found:
        return Seen(row.name, row.held, row.without)
    p99_ms = found.seconds(0.99) * 1000
    return Seen(row.name, row.held, row.without, len(found.records), len(found.lost), p99_ms, rest_p99_ms, row.note)
