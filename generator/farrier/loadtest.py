"""Runs a load test on one host of an environment: Ansible looks at the host, the generator sends, rate after rate."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farrier import policy
from farrier.asked import of_urls
from farrier.collect import (
    MARK,
    PACKAGE,
    ansible_command,
    displayable,
    environment,
    errors_of,
    one_line,
    reason_of,
    run_ansible,
)
from farrier.errors import FarrierError, HostError, InputError
from farrier.loading.job import Job, Request
from farrier.loading.page import Found
from farrier.loading.process import Generator
from farrier.loading.schedule import Prediction, longest_seconds, rates, warm_seconds
from farrier.loading.step import Step
from farrier.loading.usage import Sample, offset_seconds, usage
from farrier.loading.verdict import Row, Usage
from farrier.measure import HOST, MeasureEvent, terminable
from farrier.project import Project
from farrier.units import counted, milliseconds, number, shown

PORTS = {"http": 80, "https": 443}

WATCH_SPARE_SECONDS = 120
"""The watch on the host outlives the longest run by this much: Ansible needs time to come back for it."""

IN_FLIGHT_MINIMUM = 4000
"""Requests under way at once, unless the backlog is longer: a queue must be able to fill."""

LOOK = (
    "{{ {'address': ansible_host | default(inventory_hostname), 'names': groups['all'] + "
    "(groups['all'] | map('extract', hostvars, 'ansible_host') | select('defined') | list), "
    "'groups': groups} | to_json }}"
)
"""What the inventory says; evaluated by Ansible without a connection to any host."""


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    url: str | None = None
    seconds: float = policy.LOADTEST_SECONDS
    steps: int = policy.LOADTEST_STEPS
    up_to: float = policy.LOADTEST_UP_TO
    workers: int = 0
    foreign: bool = False


@dataclass
class _Answers:
    """What one run of `ansible` has answered."""

    event: dict[str, Any] | None = None
    failure: FarrierError | None = None
    chatter: list[str] = field(default_factory=list)

    def take(self, line: str) -> None:
        """One line of Ansible's standard output."""
        if not line.startswith(MARK):
            self.chatter.append(line.rstrip())
            return
        event = json.loads(line[len(MARK) :])
        if event["kind"] == "ok":
            self.event = event
        elif event["kind"] in ("failed", "unreachable"):
            self.failure = HostError(f"host {displayable(event['host'])}: {reason_of(event)}")


@dataclass(frozen=True)
class Inventory:
    """An environment's inventory, and how Ansible is to be run with it."""

    path: str
    root: Path
    extra: Sequence[str]

    def ask(self, host: str, module: str, arguments: Mapping[str, Any], *options: str) -> dict[str, Any]:
        """What a module answers on one host; HostError when it could not be asked, InputError when it is unknown."""
        command = [ansible_command(), host, "-i", self.path, *self.extra, *options]
        command += ["-M", str(PACKAGE / "modules"), "-m", module, "-a", json.dumps(arguments)]
        variables = environment("farrier_steps") | {
            "ANSIBLE_MODULE_UTILS": str(PACKAGE / "ansible_plugins/module_utils"),
            "ANSIBLE_PIPELINING": "1",
        }
        answers = _Answers()
        notes, code = run_ansible(command, self.root, answers.take, variables)
        if answers.failure:
            raise answers.failure
        if answers.event is None:
            said = [*errors_of(notes), *notes[-1:], *answers.chatter[-1:], f"Ansible ended with code {code}"]
            where = f"inventory {shown(self.path, 200)}, host {shown(host)}"
            raise InputError(f"{where}: {one_line(said[0]).removeprefix('[ERROR]: ')}")
        return answers.event

    def look(self, host: str) -> dict[str, Any]:
        """The host's address, all names and addresses, and the groups; no host is connected to."""
        said = self.ask(host, "ansible.builtin.debug", {"msg": LOOK})["msg"]
        found: dict[str, Any] = json.loads(said) if isinstance(said, str) else said
        return found


def target_url(project: Project, name: str, wish: Wish, found: Mapping[str, Any]) -> str:
    """Where to send: the host's own NGINX unless `--url` says otherwise. InputError for a host of somebody else."""
    own = project.environments[name]
    if wish.url is None:
        address = str(found["address"])
        scheme = "https" if own.tls else "http"
        return f"{scheme}://[{address}]" if ":" in address else f"{scheme}://{address}"
    parts = urlsplit("")
    port = host = None
    with suppress(ValueError):
        parts = urlsplit(wish.url)
        port, host = parts.port, parts.hostname
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in PORTS or not host or not bare:
        raise InputError(f"--url {shown(wish.url, 200)}: must be scheme, host and port, such as http://192.0.2.10:8080")
    known = {str(each).lower() for each in (*found["names"], own.domain, *own.aliases)}
    if host not in known and not wish.foreign:
        raise InputError(
            f"--url {shown(wish.url, 200)}: {shown(host)} is neither in the inventory of {name} nor a domain of it; load is "
            "sent to others only with --foreign"
        )
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port else "")


def run_loadtest(
    project: Project,
    name: str,
    root: Path,
    told: Prediction,
    *,
    timeout_seconds: float,
    wish: Wish,
    extra: Sequence[str],
    on_event: Callable[[MeasureEvent], None],
) -> Found:
    """Sends all steps to one host and says what was found.

    InputError for a target that is not of this environment, HostError when it or the generator cannot be used.
    """
    if not HOST.fullmatch(told.host):
        raise InputError(f"--host {shown(told.host)}: must be the name of one host of the inventory, such as web1")
    inventory = Inventory(project.environments[name].inventory, root, extra)
    if not (root / inventory.path).exists():
        raise InputError(f"inventory {shown(inventory.path, 200)} does not exist; it must be one that Ansible reads")
    url = target_url(project, name, wish, inventory.look(told.host))
    steps = rates(told.capacity_rps, wish.steps, wish.up_to)
    job = Job(
        url=url,
        host=project.environments[name].domain,
        requests=requests_of(project),
        verify_tls=False,
        timeout_seconds=timeout_seconds,
        max_in_flight=max(IN_FLIGHT_MINIMUM, 2 * told.backlog),
        max_rps=steps[-1],
        max_seconds=longest_seconds(len(steps), wish.seconds, timeout_seconds),
        workers=wish.workers,
    )
    sent = announcement(job, steps, wish.seconds)
    on_event(MeasureEvent("step", sent))
    with terminable(), watched(inventory, project, told.host, job.max_seconds, on_event) as watch:
        # Locust takes a moment to start, and must not do so while the first requests are due.
        with Generator(job) as generator:
            found = list(_steps(generator, steps, wish.seconds, on_event))
        watch.end()
    rows = [Row(step, watch.usage(step), told.p95_seconds(step.offered_rps)) for step in found]
    notes = []
    if len(found) < len(steps):
        notes = [f"{counted(len(steps) - len(found), 'further step')} not sent: more would have told nothing new"]
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return Found(name, told, tuple(rows), sent, when, tuple(notes), watch.memory_mb)


def requests_of(project: Project) -> tuple[Request, ...]:
    """What is sent: what `farrier measure` asks for, in the same proportion."""
    application = project.application
    asked = of_urls(dict(application.urls) or {application.health_path: 1.0})
    return tuple(Request(each.method, each.path, weight) for each, weight in asked.weights.items())


def announcement(job: Job, steps: Sequence[float], seconds: float) -> str:
    """What will be sent where, before it is."""
    names = ", ".join(each.name for each in job.requests[:4])
    more = f" and {len(job.requests) - 4} more" if len(job.requests) > 4 else ""
    each = warm_seconds(seconds) + seconds
    return (
        f"Sends {names}{more} to {job.url} as {job.host}: {counted(len(steps), 'step')} of {number(each)} s from "
        f"{number(steps[0], 1)} to {number(steps[-1], 1)} requests a second, {number(sum(steps) * each, 0)} requests in all, "
        f"over after {number(job.max_seconds, 0)} s at the latest"
    )


def _steps(
    generator: Generator, steps: Sequence[float], seconds: float, on_event: Callable[[MeasureEvent], None]
) -> Iterator[Step]:
    """Step after step, until the last one or until more would tell nothing new."""
    for index, rps in enumerate(steps, 1):
        on_event(MeasureEvent("step", f"Step {index} of {len(steps)}: {number(rps, 1)} requests a second"))
        step = generator.step(rps, seconds=seconds, warm_seconds=warm_seconds(seconds))
        if index == 1 and step.offered and not step.good:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in step.kinds.items())
            raise HostError(f"{generator.job.url} gives no good answer: {kinds}; nothing more was sent")
        p95 = "no good answer" if step.latency.p95 is None else f"p95 {milliseconds(step.latency.p95)}"
        failed = step.offered - step.good
        on_event(
            MeasureEvent(
                "step",
                f"  {number(step.good_rps, 1)} good answers a second, {p95}"
                + (f", {counted(failed, 'failure')}" if failed else ""),
            )
        )
        yield step
        if Row(step, Usage(), 0.0).limited or step.good < policy.LOADTEST_GIVE_UP * step.offered:
            return


class Watch:
    """The host while it is watched."""

    def __init__(self, ask: Callable[[str], dict[str, Any]]) -> None:
        self.ask = ask
        self.before = ask("begin")
        self.ahead = offset_seconds(self.before["time"], time.time())
        self.after: dict[str, Any] | None = None

    def end(self) -> None:
        """Ends watching, once."""
        if self.after is None:
            self.after = self.ask("end")

    def usage(self, step: Step) -> Usage:
        """What the host spent in the window of a step."""
        samples: Sequence[Sample] = self.after["samples"] if self.after else ()
        return usage(samples, step.begun + self.ahead, step.seconds, nginx=self.before["nginx"])

    @property
    def memory_mb(self) -> tuple[float, float] | None:
        """Of the slot, before and after; None where no slot serves."""
        if not self.after or not (self.before["memory_mb"] and self.after["memory_mb"]):
            return None
        return self.before["memory_mb"], self.after["memory_mb"]


@contextmanager
def watched(
    inventory: Inventory, project: Project, host: str, seconds: float, on_event: Callable[[MeasureEvent], None]
) -> Iterator[Watch]:
    """Has the host watched as long as the block runs; whatever ends it, the watch ends, too."""

    def ask(phase: str) -> dict[str, Any]:
        arguments = {
            "phase": phase,
            "application": project.application.name,
            "home": f"/srv/{project.application.name}",
            "seconds": seconds + WATCH_SPARE_SECONDS,
        }
        measured: dict[str, Any] = inventory.ask(host, "load_watch", arguments, "--become")["measured"]
        return measured

    on_event(MeasureEvent("step", f"The CPU of {host} is watched"))
    watch = Watch(ask)
    try:
        yield watch
    except BaseException:
        # What goes wrong now matters less than what went wrong before; the watch ends by itself in any case.
        with suppress(FarrierError):
            watch.end()
        raise
