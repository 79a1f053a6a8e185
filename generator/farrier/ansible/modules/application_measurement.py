#!/usr/bin/python
"""Run a release under Gunicorn beside whatever is live, send it requests, and say what they cost."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from ansible.module_utils import farrier_host
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_beneath import Refused
from ansible.module_utils.measured_gunicorn import ANSWER_SECONDS, Gunicorn
from ansible.module_utils.measured_place import MeasurementFailure, Place
from ansible.module_utils.measured_process import (
    References,
    SegmentWatch,
    columns,
    cpu_ns,
    delay_ns,
    schedule_ns,
    stolen_seconds,
)
from ansible.module_utils.measured_services import Others

DOCUMENTATION = r"""
module: application_measurement
short_description: Measure what requests to an application cost on this host
description:
  - C(prepare) makes a place of its own, C(<home>-measure), beside what is live; virtual environments and the release are
    borrowed from there if they exist. A timer removes it all if nobody else does.
  - C(plain), C(preload) and C(threads) start Gunicorn in a transient unit with the service's sandbox, its own socket and
    a low CPU weight, send requests, and stop it again. C(clean) removes everything.
options:
  phase: {type: str, required: true, choices: [prepare, plain, preload, threads, clean], description: What to do.}
  application: {type: str, required: true, description: Name of the application and of its user.}
  home: {type: path, required: true, description: Directory of what is live.}
  release: {type: str, description: Name of the release.}
  venv: {type: path, description: Its virtual environment.}
  wsgi: {type: str, description: Its callable.}
  environment: {type: str, description: Content of its environment file.}
  config: {type: str, description: Content of the Gunicorn configuration.}
  sandbox: {type: list, elements: str, default: [], description: systemd settings of the service.}
  memory_mb: {type: int, description: Memory that it may take.}
  requests: {type: json, description: "What to ask for: name, method, path, headers, body (base64) and weight of each."}
  host: {type: str, description: Host header.}
  scheme: {type: str, default: http, description: What visitors use.}
  seconds: {type: float, default: 30, description: Time for requests.}
  threads: {type: int, description: "Requests under way at once, at most."}
  boot_seconds: {type: int, default: 60, description: How long a worker may take to start.}
author: Farrier
"""

EXAMPLES = r"""
- name: Measure requests
  application_measurement: {phase: plain, application: notes, home: /srv/notes}
"""

RETURN = r"""
measured: {description: What was found., returned: success, type: dict}
"""

MOST_REQUESTS = 4000
"""Measured requests, at most; more would not make the mean any surer."""

SEGMENT_SECONDS = 1.5
"""Time in which the longest CPU segment is looked for."""

WORKERS = 2
WARM_SHARE = 0.25
"""Share of the time for requests that are not measured: caches fill, code is imported late."""

IDLE_SECONDS = 1.0
"""How long nothing is asked, before, between and after the requests: what do other services compute by themselves?"""

MOST_OTHERS = 20
"""Services that are told of; a request that needs more of them is none that one host should answer."""

LEAST_THREADS = 8
BUSY = 2.0
"""As many requests under way as keep a worker's CPU busy, times this, so that it hardly ever has nothing to do."""

TURNS = 6
"""How often a worker is idle but for one request, and busy, by turns."""


def samples_of(gunicorn: Gunicorn, seconds: float, pids: list[int]) -> list[dict[str, int]]:
    """One request after the other: which, its answer, and what it took; `measure.answer.RequestSample` says what each figure is."""
    references = References(gunicorn.place.runtime, pids)

    def used() -> int:
        references.read()
        total: int = sum(cpu_ns(pid) for pid in pids) - references.total_ns
        return total

    me = [os.getpid()]
    samples: list[dict[str, int]] = []
    limit = time.monotonic() + seconds
    try:
        before = used()
        while len(samples) < MOST_REQUESTS and (time.monotonic() < limit or len(samples) < len(gunicorn.asked)):
            which = next(gunicorn.turn)
            waited = schedule_ns(pids), schedule_ns(me)
            begun, used_before, own_before = time.perf_counter_ns(), used(), time.thread_time_ns()
            try:
                status, size = gunicorn.ask(gunicorn.asked[which])
            except TimeoutError:
                raise MeasurementFailure(
                    f"{gunicorn.asked[which]['path']} answered at first, then hung for {ANSWER_SECONDS} s"
                ) from None
            ended, own = time.perf_counter_ns(), time.thread_time_ns()
            delay = delay_ns(waited[0], schedule_ns(pids)) + delay_ns(waited[1], schedule_ns(me))
            used_after = used()
            took_ns = {
                "cpu": used_after - before,
                "wall": ended - begun - references.last_ns,
                "inside": used_after - used_before,
                "delay": delay,
                "client": own - own_before,
                "reference": references.last_ns,
            }
            # What a worker notes of its fixed work is its own word: no figure may become less than nothing by it.
            took_us = {f"{name}_us": max(0, ns // 1000) for name, ns in took_ns.items()}
            samples.append({"request": which, "status": status, "bytes": size, **took_us})
            before = used_after
    finally:
        references.close()
    return samples


def longest_segment(gunicorn: Gunicorn, pids: list[int]) -> float:
    """The longest time in seconds that a thread was seen to compute without giving up the CPU by itself."""
    seen = SegmentWatch(pids)
    with seen:
        gunicorn.warm(SEGMENT_SECONDS, 1)
    return float(seen.longest_ns) / 1e9


def fitting(phase: Callable[[Place, int], dict[str, Any]], place: Place) -> dict[str, Any]:
    """A phase with as many workers as usual, or with one where more do not fit into memory."""
    try:
        return phase(place, WORKERS)
    except MeasurementFailure as failure:
        if failure.kind != "fit":
            raise
        return phase(place, 1)


def plain(place: Place, workers: int) -> dict[str, Any]:
    """Without preload: what answers, boots, warm traffic, measured traffic, memory."""
    seconds = place.params["seconds"]
    with Gunicorn(place, workers, 1, preload=False) as gunicorn:
        probes = gunicorn.probe()
        gunicorn.only(probes)
        found: dict[str, Any] = {"names": [each["name"] for each in gunicorn.asked], "probes": probes}
        found["boots"] = gunicorn.boots()
        gunicorn.warm(WARM_SHARE * seconds, workers)
        pids, growth, samples = gunicorn.pids(), [], []
        stolen = took = 0.0
        others = Others(place.unit)
        for _ in range(2):
            time.sleep(IDLE_SECONDS)
            others.count("idle")
            growth.append(gunicorn.resident_kb())
            begun, before = time.monotonic(), stolen_seconds()
            samples += samples_of(gunicorn, (1 - WARM_SHARE) * seconds / 2, pids)
            stolen, took = stolen + stolen_seconds() - before, took + time.monotonic() - begun
            others.count("busy")
        growth.append(gunicorn.resident_kb())
        time.sleep(IDLE_SECONDS)
        others.count("idle")
        found |= {"samples": columns(samples), "stolen_share": min(1.0, max(0.0, stolen / took))}
        begin, half, end = growth
        found["growth_kb"] = {"begin": begin, "half": half, "end": end}
        found |= {"memory": gunicorn.memory(), "others": others.document(MOST_OTHERS)}
        found |= {"held": gunicorn.held_by_master(), "longest_segment": longest_segment(gunicorn, pids)}
    return found


def preload(place: Place, workers: int) -> dict[str, Any]:
    """With preload: memory after warm traffic, and what the master holds after it has imported the application."""
    try:
        with Gunicorn(place, workers, 1, preload=True) as gunicorn:
            held = gunicorn.held_by_master()
            gunicorn.only(gunicorn.probe())
            gunicorn.warm(place.params["seconds"], workers)
            return {"held": held, "memory": gunicorn.memory()}
    except MeasurementFailure as failure:
        if failure.kind != "input":
            raise
        return {"failed": str(failure), "output": failure.output}


def threads(place: Place) -> dict[str, Any]:
    """One worker with one busy thread, and with so many that its CPU never rests: what does a thread take, and a request then?

    A CPU that is never idle, and does nothing else in between, has its caches warm. So the work that shows the machine's
    speed is left out here; instead both take turns, and a machine that becomes slower is so for both.
    """
    seconds = place.params["seconds"]
    with Gunicorn(place, 1, place.params["threads"], preload=False) as gunicorn:
        gunicorn.only(gunicorn.probe())
        one, several = gunicorn.in_turn(), gunicorn.in_turn()
        begun = time.monotonic()
        used_us = gunicorn.cost(WARM_SHARE * seconds, 1, one)["cpu_us"]
        few_threads = gunicorn.threads_and_kb()
        needed = 1e6 * (time.monotonic() - begun) / max(1, used_us)
        many = min(place.params["threads"], max(LEAST_THREADS, math.ceil(BUSY * needed)))
        gunicorn.cost(WARM_SHARE * seconds / 2, many, several)
        many_threads = gunicorn.threads_and_kb()
        each = (1 - 1.5 * WARM_SHARE) * seconds / (2 * TURNS)
        alone: Counter[str] = Counter()
        busy: Counter[str] = Counter()
        for _ in range(TURNS):
            alone.update(gunicorn.cost(each, 1, one))
            busy.update(gunicorn.cost(each, many, several))
        return {"few_threads": few_threads, "many_threads": many_threads, "alone": dict(alone), "busy": dict(busy)}


def main() -> None:
    """Do one phase."""
    os.umask(0o022)
    text = {"type": "str"}
    phases: dict[str, Callable[[Place], dict[str, Any]]]
    phases = {"plain": partial(fitting, plain), "preload": partial(fitting, preload), "threads": threads}
    module = AnsibleModule(
        argument_spec={
            "phase": {"type": "str", "required": True, "choices": ["prepare", *phases, "clean"]},
            "application": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "release": text,
            "venv": {"type": "path"},
            "wsgi": text,
            "environment": {"type": "str", "no_log": True},
            "config": text,
            "sandbox": {"type": "list", "elements": "str", "default": []},
            "memory_mb": {"type": "int"},
            "requests": {"type": "json", "no_log": True},
            "host": text,
            "scheme": {"type": "str", "default": "http"},
            "seconds": {"type": "float", "default": 30},
            "threads": {"type": "int"},
            "boot_seconds": {"type": "int", "default": 60},
        }
    )
    place, phase = Place(module.params), module.params["phase"]
    try:
        if phase in phases:
            with place.held(0):
                module.exit_json(changed=False, measured=phases[phase](place))
        getattr(place, phase)()
    except MeasurementFailure as failure:
        module.fail_json(msg=str(failure), fault=failure.kind, output=failure.output)
    except Refused as error:
        module.fail_json(msg=f"the application writes into its runtime directory: {error}", fault="input", output="")
    except (farrier_host.Failure, OSError) as error:
        module.fail_json(msg=str(error), fault="host", output="")
    module.exit_json(changed=False, measured={})


if __name__ == "__main__":
    main()
