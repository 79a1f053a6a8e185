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
from farrier.ansible.events import MARK
from farrier.ansible.render import render_file, templates_directory
from farrier.errors import DoesNotFitError, FarrierError, HostError, InputError
from farrier.facts.gather import (
    PACKAGE,
    ansible_command,
    displayable,
    environment,
    nothing_to_do,
    reason_of,
    run_ansible,
)
from farrier.generate.tree import application_context
from farrier.measure.answer import LARGEST_ANSWER
from farrier.measure.requests import Asked
from farrier.project.model import Project
from farrier.wording import line as one_line
from farrier.wording import number, shown

PHASES = {
    "plain": "One request after the other, after boots and warm traffic: {seconds} s",
    "preload": "The same with preload, for memory and what a fork would break: {seconds} s",
    "threads": "Many at once, for what a thread takes and a request costs then: {seconds} s",
}

FAULTS: Mapping[str, type[FarrierError]] = {"input": InputError, "fit": DoesNotFitError, "host": HostError}
"""Whose fault a failure is, as the module says it."""


CHATTER = 200
"""Lines of Ansible's own that are kept; they explain why it ended."""

OUTPUT_LINES, OUTPUT_WIDTH = 60, 400
"""Of what the application said: its end, which holds the reason."""


HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""A host's name that is no pattern for several."""


class How(NamedTuple):
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
class _Run:
    """One run of the playbook while it goes on."""

    on_event: Callable[[MeasureEvent], None]
    phases: Mapping[str, str]
    """Phases by the names of their tasks, of which alone an answer is taken."""
    hosts: list[str] | None = None
    found: dict[str, Any] = field(default_factory=dict)
    error: FarrierError | None = None
    task: str = ""
    chatter: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """One line of Ansible's standard output; what a host has put into it may be anything."""
        if not line.startswith(MARK):
            self.chatter = [*self.chatter[1 - CHATTER :], one_line(line, OUTPUT_WIDTH)]
            return
        try:
            event = _parsed(line[len(MARK) :])
        except (ValueError, RecursionError) as error:
            why = "is nested too deeply" if isinstance(error, RecursionError) else one_line(error, 100)
            self.error = self.error or HostError(f"host {self.host}: its answer cannot be read: {why}")
            return
        match event["kind"]:
            case "start":
                self.hosts = event["hosts"]
            case "task":
                self.task = event["name"]
                self.on_event(MeasureEvent("step", self.task))
            case "ok" if event.get("measured") and self.task in self.phases:
                self.found[self.phases[self.task]] = event["measured"]
            case "failed" | "unreachable":
                self.fail(event)

    @property
    def host(self) -> str:
        """The one that is measured."""
        return displayable(self.hosts[0]) if self.hosts else "unknown"

    def fail(self, event: Mapping[str, Any]) -> None:
        """Keep the first failure; what comes after it is cleaning up."""
        if self.error:
            return
        event = {key: value for key, value in event.items() if isinstance(value, str)}
        reason = reason_of(event)
        if event.get("output"):
            lines = event["output"].splitlines()[-OUTPUT_LINES:]
            text = "\n".join(_printable(each) for each in lines)
            self.on_event(MeasureEvent("output", text))
        kind = HostError if event["kind"] == "unreachable" else FAULTS.get(str(event.get("fault")), InputError)
        step = "" if event.get("fault") or kind is HostError else f"{self.task}: "
        self.error = kind(f"host {displayable(event['host'])}: {step}{reason}")


def _parsed(text: str) -> dict[str, Any]:
    """An event of the callback's; ValueError where it is none, or larger than any may be."""
    if len(text) > LARGEST_ANSWER:
        raise ValueError(f"it is longer than {number(LARGEST_ANSWER)} characters")

    def refuse(constant: str) -> float:
        raise ValueError(f"it holds {constant}, which is no number")

    event = json.loads(text, parse_constant=refuse)
    if not isinstance(event, dict) or "kind" not in event:
        raise ValueError("it is no event of Ansible's")
    return event


def _printable(text: str) -> str:
    """A line of output with its indentation."""
    shortened = text if len(text) <= OUTPUT_WIDTH else text[: OUTPUT_WIDTH - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in shortened.expandtabs())


def measure(
    project: Project, name: str, root: Path, asked: Asked, how: How, on_event: Callable[[MeasureEvent], None]
) -> tuple[str, dict[str, Any]]:
    """Runs the application on a host of the environment `name` and asks for `asked`; the host, and what each phase found.

    InputError when it does not start or answer, DoesNotFitError when it takes too much memory, HostError when
    the host cannot be used. Whatever happens, also when interrupted, the host is left as it was.
    """
    host = how.host
    if host is not None and not HOST.fullmatch(host):
        raise InputError(f"--host {shown(host)}: must be the name of one host of the inventory, such as web1")
    if how.local:
        _require_systemd(name)
    if host is None and not HOST.fullmatch(project.environments[name].group):
        raise InputError(
            f"--host is missing: group {shown(project.environments[name].group)} is a pattern; name one host"
        )
    inventory = project.environments[name].inventory
    if not (root / inventory).exists():
        raise InputError(f"inventory {shown(inventory, 200)} does not exist; it must be one that Ansible reads")
    with tempfile.TemporaryDirectory(prefix="farrier-measure-") as directory, terminable():
        place = Path(directory)
        _write(place, project, name, root, asked, how)
        command = [ansible_command("ansible-playbook"), "-i", inventory, *how.extra]
        variables = environment("farrier_steps") | {
            "ANSIBLE_LIBRARY": str(PACKAGE / "ansible/modules"),
            "ANSIBLE_RETRY_FILES_ENABLED": "0",
        }
        run = _Run(on_event, {task: phase for phase, task in phase_tasks(how.seconds).items()})
        try:
            notes, code = run_ansible([*command, str(place / "measure.yml")], root, run.take, variables)
        except BaseException:
            on_event(MeasureEvent("step", "Interrupted; the host is left as it was"))
            # What it says is of no use now; a timer on the host does the same if it fails.
            with suppress(FarrierError):
                run_ansible([*command, str(place / "clean.yml")], root, lambda line: None, variables)
            raise
    if run.error:
        raise run.error
    notes = [*notes, *run.chatter]
    if not run.hosts:
        selection = f"--host {shown(host)}" if host else "all"
        raise InputError(nothing_to_do(shown(inventory, 200), selection, notes, code if run.hosts is None else None))
    if len(run.found) < len(PHASES):
        raise HostError(f"host {run.host}: Ansible ended with code {code} before all was measured")
    return run.hosts[0], run.found


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


def _write(place: Path, project: Project, name: str, root: Path, asked: Asked, how: How) -> None:
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
