"""Runs a load test on one host of an environment: Ansible watches the host while the generator sends, rate by rate."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from farrier.ansible.runner import Ansible
from farrier.errors import HostError, InputError
from farrier.loadtest import bounds
from farrier.loadtest.inventory import InventoryHost, look
from farrier.loadtest.job import Job, WeightedRequest
from farrier.loadtest.page import LoadtestResult
from farrier.loadtest.process import LoadGenerator
from farrier.loadtest.remote_workers import START_SECONDS, Workers
from farrier.loadtest.rows import StepResult, Usage
from farrier.loadtest.schedule import Prediction, longest_seconds, rates, warm_seconds
from farrier.loadtest.step import Step
from farrier.loadtest.watch import WATCH_SPARE_SECONDS, watched
from farrier.measure.requests import of_urls
from farrier.measure.run import HOST, MeasureEvent, terminable
from farrier.project.model import Project
from farrier.wording import counted, milliseconds, nearest, number, per_second, shown

PORTS = {"http": 80, "https": 443}

CONNECT_SECONDS = 10
"""How long the first connection may take."""

IN_FLIGHT_MINIMUM = 4000
"""Most requests in flight, unless the backlog is longer: a queue must be able to fill."""


@dataclass(frozen=True)
class LoadtestOptions:
    """The options of a load test."""

    url: str | None = None
    seconds: float = bounds.LOADTEST_SECONDS
    steps: int = bounds.LOADTEST_STEPS
    up_to: float = bounds.LOADTEST_UP_TO
    workers: int = 0
    workers_from: str | None = None
    foreign: bool = False


def target_url(project: Project, name: str, options: LoadtestOptions, found: InventoryHost) -> str:
    """Where to send: the host's own NGINX unless `--url` says otherwise. InputError for a foreign host."""
    own = project.environments[name]
    if options.url is None:
        address = found.address
        scheme = "https" if own.tls else "http"
        return f"{scheme}://[{address}]" if ":" in address else f"{scheme}://{address}"
    parts = urlsplit("")
    port = host = None
    with suppress(ValueError):
        parts = urlsplit(options.url)
        port, host = parts.port, parts.hostname
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in PORTS or not host or not bare:
        raise InputError(
            f"--url {shown(options.url, 200)}: must be scheme, host and port, such as http://192.0.2.10:8080"
        )
    known = {each.lower() for each in (*found.names, own.domain, *own.aliases)}
    if host not in known and not options.foreign:
        raise InputError(
            f"--url {shown(options.url, 200)}: {shown(host)} is neither in the inventory of {name} nor one of its "
            "domains; use --foreign to load it anyway"
        )
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}" + (f":{port}" if port else "")


def require_reachable(url: str) -> None:
    """HostError where no connection can be made: all that a load test would show is how often."""
    try:
        parts = urlsplit(url)
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:  # a name that no resolver takes is a ValueError
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise HostError(f"{url} cannot be reached: {reason}; nothing was sent") from None


def run_loadtest(
    project: Project,
    name: str,
    root: Path,
    prediction: Prediction,
    *,
    timeout_seconds: float,
    options: LoadtestOptions,
    extra: Sequence[str],
    on_event: Callable[[MeasureEvent], None],
) -> LoadtestResult:
    """Sends all steps to one host and returns the result.

    InputError for a target outside this environment, HostError if it or the generator cannot be used.
    """
    if not HOST.fullmatch(prediction.host):
        raise InputError(f"--host {shown(prediction.host)}: must be the name of one inventory host, such as web1")
    ansible = Ansible(root, project.environments[name].inventory, extra)
    ansible.require_inventory()
    found = look(ansible, prediction.host)
    url = target_url(project, name, options, found)
    if options.workers or options.workers_from is None:  # workers elsewhere may reach what this machine does not
        require_reachable(url)
    steps = rates(prediction.capacity_rps, options.steps, options.up_to)
    job = Job(
        url=url,
        host=project.environments[name].domain,
        requests=requests_of(project),
        verify_tls=False,
        timeout_seconds=timeout_seconds,
        max_in_flight=max(IN_FLIGHT_MINIMUM, 2 * prediction.backlog),
        max_rps=steps[-1],
        max_seconds=longest_seconds(len(steps), options.seconds, timeout_seconds),
        workers=options.workers,
    )
    others = helpers(options, found, ansible, job)
    if others is not None:
        job = replace(job, remote_workers=others.count, bind_port=others.port, workers_seconds=START_SECONDS)
    sent = announcement(job, steps, options.seconds)
    on_event(MeasureEvent("step", sent))
    on_event(MeasureEvent("step", f"Watching the CPU of {prediction.host}"))
    with terminable():
        helping = others.running(lambda text: on_event(MeasureEvent("step", text))) if others else nullcontext()
        with helping, watched(ansible, project.application.name, prediction.host, job.max_seconds) as watch:
            with LoadGenerator(job) as generator:
                taken = list(_steps(generator, steps, options.seconds, on_event))
            watch.end()
    rows = [StepResult(step, watch.usage(step), prediction.p95_seconds(step.offered_rps)) for step in taken]
    notes = []
    if len(taken) < len(steps):
        notes = [f"{counted(len(steps) - len(taken), 'further step')} not sent: they would have shown nothing new"]
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return LoadtestResult(
        name,
        prediction,
        tuple(rows),
        sent,
        when,
        tuple(notes),
        watch.memory_mb,
        watch.running,
        watch.before.machine_cpus,
    )


def helpers(options: LoadtestOptions, found: InventoryHost, ansible: Ansible, job: Job) -> Workers | None:
    """The workers of `--workers-from`; InputError for an unknown or empty group."""
    if options.workers_from is None:
        return None
    hosts = found.groups.get(options.workers_from, [])
    if not hosts:
        right = nearest(options.workers_from, [group for group, names in found.groups.items() if names])
        raise InputError(f"--workers-from {shown(options.workers_from)}: not an inventory group with hosts; {right}")
    seconds = job.max_seconds + START_SECONDS + WATCH_SPARE_SECONDS
    return Workers(options.workers_from, ansible, len(hosts), seconds)


def requests_of(project: Project) -> tuple[WeightedRequest, ...]:
    """The requests of `farrier measure`, in the same proportions."""
    application = project.application
    asked = of_urls(dict(application.urls) or {application.health_path: 1.0})
    return tuple(WeightedRequest(each.method, each.path, weight) for each, weight in asked.weights.items())


def announcement(job: Job, steps: Sequence[float], seconds: float) -> str:
    """What will be sent where."""
    names = ", ".join(each.name for each in job.requests[:4])
    more = f" and {len(job.requests) - 4} more" if len(job.requests) > 4 else ""
    each = warm_seconds(seconds) + seconds
    return (
        f"Sending {names}{more} to {job.url} as {job.host}: {counted(len(steps), 'step')} of {number(each)} s from "
        f"{number(steps[0], 1)} to {per_second(steps[-1])}, {number(sum(steps) * each, 0)} requests "
        f"in all, at most {number(job.max_seconds, 0)} s"
    )


def _steps(
    generator: LoadGenerator, steps: Sequence[float], seconds: float, on_event: Callable[[MeasureEvent], None]
) -> Iterator[Step]:
    """Step after step, until the last one or until more would show nothing new."""
    for index, rps in enumerate(steps, 1):
        on_event(MeasureEvent("step", f"Step {index} of {len(steps)}: {per_second(rps)}"))
        step = generator.step(rps, seconds=seconds, warm_seconds=warm_seconds(seconds))
        if index == 1 and step.offered and not step.good:
            kinds = ", ".join(f"{count} x {kind}" for kind, count in step.kinds.items())
            raise HostError(f"{generator.job.url} gives no good response: {kinds}; load test stopped")
        p95 = "no good response" if step.latency.p95 is None else f"p95 {milliseconds(step.latency.p95)}"
        failed = step.offered - step.good
        on_event(
            MeasureEvent(
                "step",
                f"  {number(step.good_rps, 1)} good responses a second, {p95}"
                + (f", {counted(failed, 'failure')}" if failed else ""),
            )
        )
        yield step
        if StepResult(step, Usage(), 0.0).limited or step.good < bounds.LOADTEST_GIVE_UP * step.offered:
            return
