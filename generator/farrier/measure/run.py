"""Measures an application on one of its hosts: a playbook of its own, used once, that leaves the host as it was."""

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from farrier import policy
from farrier.ansible.events import Event, Result, Start, Task, Unreadable, displayable
from farrier.ansible.render import render_file, templates_directory
from farrier.ansible.runner import Ansible
from farrier.errors import DoesNotFitError, FarrierError, HostError, InputError
from farrier.generate.tree import application_context
from farrier.measure.answer import LARGEST_ANSWER
from farrier.measure.requests import RequestMix
from farrier.project.model import Project
from farrier.wording import number, shown

PHASES = {
    "plain": "One request after the other, after boots and warm traffic: {seconds} s",
    "preload": "The same with preload, for memory and what a fork would break: {seconds} s",
    "threads": "Many at once, for what a thread takes and a request costs then: {seconds} s",
}

FAULTS: Mapping[str, type[FarrierError]] = {"input": InputError, "fit": DoesNotFitError, "host": HostError}
"""Whose fault a failure is, as the module says it."""

OUTPUT_LINES, OUTPUT_WIDTH = 60, 400
"""Of what the application said: its end, which holds the reason."""


HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A host's name that is no pattern for several."""


class MeasureOptions(NamedTuple):
    """On which host (None: the first), for how many seconds of requests, and with which options of ansible-playbook.

    With `local` that host is this machine, with the variables that the inventory has for it. At most `threads` requests are
    under way at once.
    """

    host: str | None
    seconds: float
    extra: Sequence[str] = ()
    local: bool = False
    threads: int = policy.MEASURE_THREADS


class MeasureEvent(NamedTuple):
    """Something to show: a step that begins, or what the application said when it failed."""

    kind: str
    text: str


@dataclass
class MeasureRun:
    """One run of the playbook while it goes on."""

    on_event: Callable[[MeasureEvent], None]
    phases: Mapping[str, str]
    """Phases by the names of their tasks, of which alone an answer is taken."""
    start: Start | None = None
    found: dict[str, Any] = field(default_factory=dict)
    error: FarrierError | None = None
    task: str = ""

    def take(self, event: Event) -> None:
        """A step is shown, an answer kept; what a host has put into it may be anything."""
        match event:
            case Start():
                self.start = event
            case Task(name):
                self.task = name
                self.on_event(MeasureEvent("step", name))
            case Result("ok", _, {"measured": measured}) if measured and self.task in self.phases:
                self.found[self.phases[self.task]] = measured
            case Result("failed" | "unreachable"):
                self.fail(event)
            case Unreadable(why):
                self.error = self.error or HostError(f"host {self.host}: its answer cannot be read: {why}")

    @property
    def host(self) -> str:
        """The one that is measured."""
        return displayable(self.start.hosts[0]) if self.start and self.start.hosts else "unknown"

    def fail(self, result: Result) -> None:
        """Keep the first failure; what comes after it is cleaning up."""
        if self.error:
            return
        fault, output = (self._text(result, key) for key in ("fault", "output"))
        if output:
            lines = output.splitlines()[-OUTPUT_LINES:]
            self.on_event(MeasureEvent("output", "\n".join(_printable(each) for each in lines)))
        kind = HostError if result.outcome == "unreachable" else FAULTS.get(fault, InputError)
        step = "" if fault or kind is HostError else f"{self.task}: "
        self.error = kind(f"host {displayable(result.host)}: {step}{result.reason}")

    @staticmethod
    def _text(result: Result, key: str) -> str:
        said = result.answer.get(key)
        return said if isinstance(said, str) else ""


def _printable(text: str) -> str:
    """A line of output with its indentation."""
    shortened = text if len(text) <= OUTPUT_WIDTH else text[: OUTPUT_WIDTH - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in shortened.expandtabs())


def measure(
    project: Project,
    name: str,
    root: Path,
    asked: RequestMix,
    how: MeasureOptions,
    on_event: Callable[[MeasureEvent], None],
) -> tuple[str, dict[str, Any]]:
    """Runs the application on a host of the environment `name` and asks for `asked`; the host, and what each phase found.

    InputError when it does not start or answer, DoesNotFitError when it takes too much memory, HostError when
    the host cannot be used. Whatever happens, also when interrupted, the host is left as it was.
    """
    host = how.host
    if host is not None and not HOST.fullmatch(host):
        raise InputError(f"--host {shown(host)}: must be the name of one inventory host, such as web1")
    if how.local:
        _require_systemd(name)
    if host is None and not HOST.fullmatch(project.environments[name].group):
        raise InputError(
            f"--host is missing: group {shown(project.environments[name].group)} is a pattern; name one host"
        )
    ansible = Ansible(root, project.environments[name].inventory, how.extra)
    ansible.require_inventory()
    with tempfile.TemporaryDirectory(prefix="farrier-measure-") as directory, terminable():
        place = Path(directory)
        _write(place, project, name, root, asked, how)
        run = MeasureRun(on_event, {task: phase for phase, task in phase_tasks(how.seconds).items()})
        try:
            ended = ansible.playbook(place / "measure.yml", run.take, largest=LARGEST_ANSWER)
        except BaseException:
            on_event(MeasureEvent("step", "Interrupted; the host is left as it was"))
            # What it says is of no use now; a timer on the host does the same if it fails.
            with suppress(FarrierError):
                ansible.playbook(place / "clean.yml", lambda event: None)
            raise
    if run.error:
        raise run.error
    if run.start is None or not run.start.hosts:
        selection = f"--host {shown(host)}" if host else "all"
        raise ansible.no_hosts(selection, ended, started=run.start is not None)
    if len(run.found) < len(PHASES):
        raise HostError(f"host {run.host}: Ansible ended with code {ended.code} before all was measured")
    return run.start.hosts[0], run.found


def phase_tasks(seconds: float) -> dict[str, str]:
    """What the task of each phase is called."""
    return {
        phase: task.format(seconds=number(policy.MEASURE_PHASES[phase] * seconds, 0)) for phase, task in PHASES.items()
    }


def most_threads(connections: int | None) -> int:
    """Requests that may be under way at once while it is measured, where the database grants so many connections."""
    if connections is None:
        return policy.MEASURE_THREADS
    return min(policy.MEASURE_THREADS, max(1, connections // policy.SLOTS_WHILE_SWITCHING))


def _require_systemd(name: str, booted: Path = Path("/run/systemd/system")) -> None:
    if not booted.is_dir():  # the test of sd_booted(3)
        raise HostError(
            f"--local: this machine was not started by systemd ({booted} is missing), which has to run the application as "
            f"in production; measure on a host of the environment: farrier measure {name}"
        )


@contextmanager
def terminable() -> Iterator[None]:
    """A request to terminate ends as Ctrl-C does: with the host as it was."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _write(place: Path, project: Project, name: str, root: Path, asked: RequestMix, how: MeasureOptions) -> None:
    """The playbooks and what they read; the role's own templates give the sandbox and the environment file."""
    own = project.environments[name]
    templates = templates_directory()
    context = {
        "app": application_context(project, own),
        "prefix": project.role(name),
        "environment": {
            "name": name,
            "domains": [own.domain, *own.aliases],
            "tls": own.tls,
            "metrics_directory": None,
        },
        "differing": [],
        "watched": False,
        "gevent": own.overrides.get("gunicorn.worker_class") == "gevent",
        "pattern": how.host or f"{own.group}[0]",
        "project": str(root.resolve()),
        "seconds": how.seconds,
        "threads": how.threads,
        "local": how.local,
        "become": not (how.local and os.geteuid() == 0),  # root needs no sudo to be itself
        "reserve_mb": policy.RESERVE_MINIMUM_MB,
        "phases": [
            {"phase": phase, "task": task, "seconds": round(policy.MEASURE_PHASES[phase] * how.seconds, 1)}
            for phase, task in phase_tasks(how.seconds).items()
        ],
    }
    for phase in ("measure", "clean"):
        content = render_file(templates / "measure/measure.yml.tmpl", context | {"phase": phase})
        (place / f"{phase}.yml").write_bytes(content)
    (place / "role.yml").write_bytes(render_file(templates / "role/vars/main.yml.tmpl", context))
    template = templates / "role/templates/etc/__app__/environment.j2.tmpl"
    (place / "environment.j2").write_bytes(render_file(template, context))
    shutil.copy(templates / "measure/gunicorn.conf.py", place)
    (place / "requests.json").write_text(json.dumps(asked.document()), encoding="utf-8")
    # Ansible looks for these beside the playbook; secrets may be there.
    for variables in ("group_vars", "host_vars"):
        if (beside := root / "playbooks" / variables).is_dir():
            (place / variables).symlink_to(beside.resolve())
