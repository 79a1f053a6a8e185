# SPDX-License-Identifier: MIT
"""Gunicorn in a transient unit, and requests to it over its socket; for `application_measurement`."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.measured_place import Failure, Place, run
from ansible.module_utils.measured_process import (
    children,
    cpu_ns,
    in_turn,
    memory_kb,
    native_threads,
    request_content,
    sockets,
)

BOOTS = 3
"""Boots that are timed, each of one worker alone."""

STATUS = re.compile(rb"HTTP/1\.[01] [23]")
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

    def warm(self, seconds: float, concurrency: int, turn: Iterator[int] | None = None) -> list[int]:
        """Send requests from several clients, so that every worker gets some: how many answers, and how many no 2xx or 3xx.

        All take the next one of the same `turn`, so that together they ask in proportion to the weights.
        """
        limit, good, bad = time.monotonic() + seconds, [0] * concurrency, [0] * concurrency
        order, taking = turn or self.in_turn(), threading.Lock()

        def client(number: int) -> None:
            while time.monotonic() < limit:
                with taking:
                    request = self.asked[next(order)]
                try:
                    with self.connect(request) as connection:
                        first = connection.recv(ANSWER_BYTES)
                        while connection.recv(ANSWER_BYTES):  # to look into it would cost CPU that the worker needs
                            pass
                except OSError:
                    return
                (good if STATUS.match(first) else bad)[number] += 1

        clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(concurrency)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        return [sum(good) + sum(bad), sum(bad)]

    def pids(self) -> list[int]:
        """The workers that are ready."""
        found = sorted(self.marks())
        if len(found) != self.workers or not self.master:
            raise self.gone()
        return found

    def memory(self) -> dict[str, Any]:
        """Private and shared memory of master and workers."""
        return {"master": memory_kb(self.master), "workers": [memory_kb(pid) for pid in self.pids()]}

    def resident_kb(self) -> int:
        """What the workers have together, shared pages too: those become private ones as they are written to."""
        return sum(sum(memory_kb(pid).values()) for pid in self.pids())

    def cost(self, seconds: float, concurrency: int, turn: Iterator[int]) -> list[int]:
        """What the only worker answered several clients, how often badly, and what that cost it together, in µs of CPU."""
        (pid,) = self.pids()
        before = cpu_ns(pid)
        counts = self.warm(seconds, concurrency, turn)
        if self.pids() != [pid]:
            raise self.gone()
        return [*counts, (cpu_ns(pid) - before) // 1000]

    def threads_and_kb(self) -> list[int]:
        """Threads of the only worker, and its private memory in KB."""
        (pid,) = self.pids()
        return [len(os.listdir(f"/proc/{pid}/task")), memory_kb(pid)["private"]]

    def held_by_master(self) -> dict[str, Any]:
        """Threads and sockets of the master, which a fork would break."""
        master = json.loads((self.place.runtime / "master").read_text())
        return {**master, "native": native_threads(self.master), "sockets": sockets(self.master)}
