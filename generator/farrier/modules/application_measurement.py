#!/usr/bin/python
"""Run a release under Gunicorn beside whatever is live, send it requests, and say what they cost."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.measured_place import Failure, Place, run
from ansible.module_utils.measured_process import (
    References,
    SegmentWatch,
    children,
    cpu_ns,
    delay_ns,
    in_turn,
    memory_kb,
    native_threads,
    request_content,
    schedule_ns,
    sockets,
)

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
  threads: {type: int, default: 32, description: "Requests under way at once, at most."}
  boot_seconds: {type: int, default: 60, description: How long a worker may take to start.}
author: Farrier
"""

EXAMPLES = r"""
- name: Requests are measured
  application_measurement: {phase: plain, application: notes, home: /srv/notes}
"""

RETURN = r"""
measured: {description: What was found., returned: success, type: dict}
"""

WORKERS = 2
BOOTS = 3
"""Boots that are timed, each of one worker alone."""

MOST_REQUESTS = 4000
"""Measured requests, at most; more would not make the mean any surer."""

WARM_SHARE = 0.25
"""Share of the time for requests that are not measured: caches fill, code is imported late."""

SEGMENT_SECONDS = 1.5
"""Time in which the longest CPU segment is looked for."""

LEAST_THREADS = 8
BUSY = 2.0
"""As many requests under way as keep a worker's CPU busy, times this, so that it hardly ever has nothing to do."""

TURNS = 6
"""How often a worker is idle but for one request, and busy, by turns."""

ANSWER_BYTES = 65536
ANSWER_SECONDS = 10
"""A path that takes longer is reported, not measured."""

NOISE = re.compile(r'\[INFO\]|^  File "[^"]*(gunicorn|/usr/lib/python|<frozen)[^"]*", line \d+ in ')
"""Gunicorn's own progress, and what is not the application's own in a dump of where it stands."""

LAST_LINES = 40
POLL_SECONDS = 0.02


class Gunicorn:
    """Gunicorn in its transient unit."""

    def __init__(self, place: Place, workers: int, threads: int, *, preload: bool) -> None:
        """Say how it is to run."""
        self.place, self.params = place, place.params
        self.workers, self.threads, self.preload = workers, threads, preload
        self.socket = place.runtime / "gunicorn.sock"
        asked = json.loads(self.params["requests"])
        self.asked: list[dict[str, Any]] = [{**each, "content": self.content(each)} for each in asked]
        self.turn = self.in_turn()

    def __enter__(self) -> Gunicorn:
        """Start it and wait for its workers."""
        place, params = self.place, self.params
        place.log.unlink(missing_ok=True)
        release = place.home / "releases" / params["release"]
        settings = [
            *params["sandbox"],
            "Type=exec",
            f"RuntimeDirectory={place.unit}",
            f"WorkingDirectory={release}",
            f"Environment=PATH={params['venv']}/bin:/usr/local/bin:/usr/bin:/bin",
            f"EnvironmentFile={place.home}/environment",
            "SystemCallFilter=@chown",
            f"RuntimeMaxSec={int(params['seconds']) + (BOOTS + 2) * params['boot_seconds'] + 60}",
            "TimeoutStopSec=5",
            "CPUWeight=20",
            f"MemoryMax={params['memory_mb']}M",
            "MemorySwapMax=0",
            "OOMPolicy=continue",
            "TasksMax=1024",
            f"StandardOutput=append:{place.log}",
            "StandardError=inherit",
        ]
        program = [f"{params['venv']}/bin/python", "-m", "gunicorn", f"--config={place.home}/gunicorn.conf.py"]
        program += [f"--workers={self.workers}", f"--threads={self.threads}", f"--worker-connections={self.threads}"]
        program += [f"--bind=unix:{self.socket}", *(["--preload"] if self.preload else []), params["wsgi"]]
        unit = ["--quiet", f"--unit={place.unit}", *(f"--property={each}" for each in settings)]
        run("systemctl", "reset-failed", place.unit, check=False)
        try:
            run("systemd-run", *unit, "--", *program)
            self.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and forget how it ended."""
        run("systemctl", "stop", self.place.unit, check=False)
        run("systemctl", "reset-failed", self.place.unit, check=False)

    @property
    def master(self) -> int:
        """Its process id; 0 when it has ended."""
        return int(run("systemctl", "show", "--value", "-p", "MainPID", self.place.unit).strip() or 0)

    def marks(self) -> dict[int, float]:
        """Boot seconds of the workers that are ready."""
        found = {}
        with contextlib.suppress(OSError):
            for each in self.place.runtime.glob("worker-*"):
                with contextlib.suppress(OSError, ValueError):
                    found[int(each.name[7:])] = float(json.loads(each.read_text())["boot_seconds"])
        return found

    def ready(self) -> dict[int, float]:
        """Wait until all workers can answer."""
        limit = time.monotonic() + self.params["boot_seconds"] + 5  # Gunicorn's own abort shows a traceback
        while len(marks := self.marks()) < self.workers or not (self.place.runtime / "master").exists():
            if not self.master:
                raise Failure("the application does not start", output=self.said())
            if "SIGKILL" in self.log():
                raise self.gone()
            if "[CRITICAL] WORKER TIMEOUT" in self.log() or time.monotonic() > limit:
                time.sleep(1)  # It is just saying where it stands.
                raise Failure(
                    f"the application hangs while it starts: no worker is ready within {self.params['boot_seconds']} s",
                    output=self.said(),
                )
            time.sleep(POLL_SECONDS)
        return marks

    def log(self) -> str:
        """What it has logged."""
        try:
            return str(self.place.log.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return ""

    def said(self) -> str:
        """The end of what it logged, without Gunicorn's own progress."""
        lines = [line for line in self.log().splitlines() if line.strip() and not NOISE.search(line)]
        return "\n".join(lines[-LAST_LINES:])

    def gone(self) -> Failure:
        """Why a worker, or all of them, are no longer there."""
        time.sleep(1.2)  # The master looks once a second.
        memory = re.search(r"SIGKILL|out of memory", self.log()) or "oom" in run(
            "systemctl", "show", "--value", "-p", "Result", self.place.unit, check=False
        )
        if memory:
            many = "it does" if self.workers == 1 else f"{self.workers} of them do"
            return Failure(
                f"a worker was killed for memory: {many} not fit into the {self.params['memory_mb']} MB that are free on this "
                "host beside what is live; measure on a larger host with --host",
                "fit",
                self.said(),
            )
        return Failure("a worker died while it was measured", output=self.said())

    def in_turn(self) -> Iterator[int]:
        """Positions of requests, by weight."""
        turn: Iterator[int] = in_turn([float(each["weight"]) for each in self.asked])
        return turn

    def content(self, request: dict[str, Any]) -> bytes:
        """A request as NGINX would send it."""
        forwarded = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": self.params["scheme"]}
        headers = {"User-Agent": "farrier-measure", **request["headers"], **forwarded}
        headers.update(Host=self.params["host"], Connection="close")
        body = base64.b64decode(request["body"]) or None
        return bytes(request_content(request["method"], request["path"], body, headers))

    def connect(self, request: dict[str, Any]) -> socket.socket:
        """Send it on a connection of its own, where the answer will come."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(self.socket))
            connection.sendall(request["content"])
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, request: dict[str, Any]) -> tuple[int, int]:
        """The answer's status and its bytes."""
        with (
            self.connect(request) as connection,
            http.client.HTTPResponse(connection, method=request["method"]) as answer,
        ):
            answer.begin()
            return answer.status, len(answer.read())

    def probe(self) -> list[dict[str, Any]]:
        """Ask for each path twice: what answers, and what does not."""
        found = []
        for request in self.asked:
            path = request["path"] if request["method"] == "GET" else f"{request['method']} {request['path']}"
            try:
                self.ask(request)
                begun = time.monotonic()
                status, _ = self.ask(request)
                found.append({"path": path, "status": status, "seconds": time.monotonic() - begun, "error": ""})
            except TimeoutError:
                found.append({"path": path, "status": 0, "error": f"does not answer within {ANSWER_SECONDS} s"})
                for pid in children(self.master):  # They would wait with it, and count.
                    os.kill(pid, signal.SIGABRT)
                self.settle()
            except (OSError, http.client.HTTPException) as error:
                if not self.master or re.search(r"SIGKILL|out of memory", self.log()):
                    raise self.gone() from None
                found.append({"path": path, "status": 0, "error": f"gives no answer: {error}"})
                self.settle()
        return found

    def settle(self) -> None:
        """Wait for workers in place of those that were killed."""
        time.sleep(1.2)
        self.ready()

    def only(self, probes: list[dict[str, Any]]) -> None:
        """Go on with the paths that answer; Failure when there is none."""
        good = [request for request, probe in zip(self.asked, probes) if 200 <= probe["status"] < 400]  # noqa: B905 - for the oldest Python
        if not good:
            said = "; ".join(f"{each['path']} {each['error'] or 'answers ' + str(each['status'])}" for each in probes)
            raise Failure(f"no URL answers 2xx or 3xx: {said}", output=self.said())
        self.asked = good
        self.turn = self.in_turn()

    def boots(self) -> list[float]:
        """Seconds that a worker takes to start, one after the other."""
        found: list[float] = []
        limit = time.monotonic() + self.params["seconds"] / 3
        while len(found) < BOOTS and (not found or time.monotonic() < limit):
            before = set(self.marks())
            os.kill(min(before), signal.SIGTERM)
            while not (new := set(self.ready()) - before):
                time.sleep(POLL_SECONDS)
            found.append(self.marks()[new.pop()])
        return found

    def warm(self, seconds: float, concurrency: int, turn: Iterator[int] | None = None) -> int:
        """Send requests from several clients, so that every worker gets some; how many there were.

        All take the next one of the same `turn`, so that together they ask in proportion to the weights.
        """
        limit, counts = time.monotonic() + seconds, [0] * concurrency
        order, taking = turn or self.in_turn(), threading.Lock()

        def client(number: int) -> None:
            while time.monotonic() < limit:
                with taking:
                    request = self.asked[next(order)]
                try:
                    with self.connect(request) as connection:
                        while connection.recv(ANSWER_BYTES):  # to look into it would cost CPU that the worker needs
                            pass
                except OSError:
                    return
                counts[number] += 1

        clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(concurrency)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        return sum(counts)

    def pids(self) -> list[int]:
        """The workers that are ready."""
        found = sorted(self.marks())
        if len(found) != self.workers or not self.master:
            raise self.gone()
        return found

    def requests(self, seconds: float, pids: list[int]) -> list[list[int]]:
        """One request after the other: position, status, bytes, CPU; then wall, CPU, delay, our own CPU and reference, in µs.

        The reference is part of none of the others.
        """
        references = References(self.place.runtime, pids)

        def used() -> int:
            references.read()
            total: int = sum(cpu_ns(pid) for pid in pids) - references.total_ns
            return total

        me = [os.getpid()]
        samples: list[list[int]] = []
        limit = time.monotonic() + seconds
        try:
            before = used()
            while len(samples) < MOST_REQUESTS and (time.monotonic() < limit or len(samples) < len(self.asked)):
                which = next(self.turn)
                waited = schedule_ns(pids), schedule_ns(me)
                begun = time.perf_counter_ns(), used(), 0, time.thread_time_ns()
                try:
                    status, size = self.ask(self.asked[which])
                except TimeoutError:
                    raise Failure(
                        f"{self.asked[which]['path']} answered at first, then hung for {ANSWER_SECONDS} s"
                    ) from None
                wall, own = time.perf_counter_ns(), time.thread_time_ns()
                delay = delay_ns(waited[0], schedule_ns(pids)) + delay_ns(waited[1], schedule_ns(me))
                ended = wall, used(), delay, own
                # Within the answer's time, and all since the last one: a worker has still to close and to log.
                inside = [(end - begin) // 1000 for begin, end in zip(begun, ended)]  # noqa: B905 - for the oldest Python
                reference = references.last_ns // 1000
                inside[0] -= reference
                samples.append([which, status, size, (ended[1] - before) // 1000, *inside, reference])
                before = ended[1]
        except (ProcessLookupError, ConnectionError, http.client.HTTPException):
            raise self.gone() from None
        finally:
            references.close()
        return samples

    def longest_segment(self, pids: list[int]) -> float:
        """The longest time in seconds that a thread was seen to compute without giving up the CPU by itself."""
        seen = SegmentWatch(pids)
        with seen:
            self.warm(SEGMENT_SECONDS, 1)
        return float(seen.longest_ns) / 1e9

    def memory(self) -> dict[str, Any]:
        """Private and shared memory of master and workers."""
        return {"master": memory_kb(self.master), "workers": [memory_kb(pid) for pid in self.pids()]}

    def resident_kb(self) -> int:
        """What the workers have together, shared pages too: those become private ones as they are written to."""
        return sum(sum(memory_kb(pid).values()) for pid in self.pids())

    def cost(self, seconds: float, concurrency: int, turn: Iterator[int]) -> list[int]:
        """Requests that the only worker was sent by several clients, and what they cost it together, in µs of CPU."""
        (pid,) = self.pids()
        before = cpu_ns(pid)
        count = self.warm(seconds, concurrency, turn)
        if self.pids() != [pid]:
            raise self.gone()
        return [count, (cpu_ns(pid) - before) // 1000]

    def threads_and_kb(self) -> list[int]:
        """Threads of the only worker, and its private memory in KB."""
        (pid,) = self.pids()
        return [len(os.listdir(f"/proc/{pid}/task")), memory_kb(pid)["private"]]

    def held_by_master(self) -> dict[str, Any]:
        """Threads and sockets of the master, which a fork would break."""
        master = json.loads((self.place.runtime / "master").read_text())
        return {**master, "native": native_threads(self.master), "sockets": sockets(self.master)}


def fitting(phase: Callable[[Place, int], dict[str, Any]], place: Place) -> dict[str, Any]:
    """A phase with as many workers as usual, or with one where more do not fit into memory."""
    try:
        return phase(place, WORKERS)
    except Failure as failure:
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
        for _ in range(2):
            growth.append(gunicorn.resident_kb())
            samples += gunicorn.requests((1 - WARM_SHARE) * seconds / 2, pids)
        growth.append(gunicorn.resident_kb())
        found |= {"samples": samples, "growth_kb": growth, "memory": gunicorn.memory()}
        found |= {"held": gunicorn.held_by_master(), "longest_segment": gunicorn.longest_segment(pids)}
    return found


def preload(place: Place, workers: int) -> dict[str, Any]:
    """With preload: memory after warm traffic, and what the master holds after it has imported the application."""
    try:
        with Gunicorn(place, workers, 1, preload=True) as gunicorn:
            held = gunicorn.held_by_master()
            gunicorn.only(gunicorn.probe())
            requests = gunicorn.warm(place.params["seconds"], workers)
            return {"held": held, "requests": requests, "memory": gunicorn.memory()}
    except Failure as failure:
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
        _, used = gunicorn.cost(WARM_SHARE * seconds, 1, one)
        steps = [gunicorn.threads_and_kb()]
        needed = 1e6 * (time.monotonic() - begun) / max(1, used)
        many = min(place.params["threads"], max(LEAST_THREADS, math.ceil(BUSY * needed)))
        gunicorn.cost(WARM_SHARE * seconds / 2, many, several)
        steps.append(gunicorn.threads_and_kb())
        each = (1 - 1.5 * WARM_SHARE) * seconds / (2 * TURNS)
        turns = [(gunicorn.cost(each, 1, one), gunicorn.cost(each, many, several)) for _ in range(TURNS)]
        alone, busy = ([sum(turn[which][i] for turn in turns) for i in (0, 1)] for which in (0, 1))
        return {"steps": steps, "alone": alone, "busy": busy}


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
            "threads": {"type": "int", "default": 32},
            "boot_seconds": {"type": "int", "default": 60},
        }
    )
    place, phase = Place(module.params), module.params["phase"]
    try:
        if phase in phases:
            with place.held(0):
                module.exit_json(changed=False, measured=phases[phase](place))
        getattr(place, phase)()
    except Failure as failure:
        module.fail_json(msg=str(failure), fault=failure.kind, output=failure.output)
    except OSError as error:
        module.fail_json(msg=str(error), fault="host", output="")
    module.exit_json(changed=False, measured={})


if __name__ == "__main__":
    main()
