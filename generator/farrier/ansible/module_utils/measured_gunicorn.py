# SPDX-License-Identifier: MIT
"""Requests to Gunicorn over its socket, and what they leave in its processes; for `application_measurement`."""

from __future__ import annotations

import base64
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

from ansible.module_utils.farrier_host import children
from ansible.module_utils.farrier_text import shown
from ansible.module_utils.measured_place import MeasurementFailure, Place
from ansible.module_utils.measured_process import (
    MOST_NAMES,
    cpu_ns,
    in_turn,
    memory_kb,
    native_threads,
    request_content,
    signal_child,
    sockets,
)
from ansible.module_utils.measured_unit import BOOT_MARGIN_SECONDS, BOOTS, POLL_SECONDS, Unit

STATUS = re.compile(rb"HTTP/1\.[01] [23]")
ANSWER_BYTES = 65536
ANSWER_SECONDS = 10
"""A path that takes longer is reported, not measured."""


class Gunicorn(Unit):  # type: ignore[misc]  # found by Ansible only, on the host
    """Gunicorn in its transient unit, and what it is asked for."""

    def __init__(self, place: Place, workers: int, threads: int, *, preload: bool) -> None:
        """Say how it is to run."""
        super().__init__(place, workers, threads, preload=preload)
        asked = json.loads(self.params["requests"])
        self.asked: list[dict[str, Any]] = [{**each, "content": self.content(each)} for each in asked]
        self.turn = self.in_turn()

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
            begun, size = time.monotonic(), 0
            answer.begin()
            while piece := answer.read(ANSWER_BYTES):
                size += len(piece)
                if time.monotonic() - begun > ANSWER_SECONDS:  # each piece may come in time, and the last one never
                    raise TimeoutError
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
            return answer.status, size

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
                master = self.master
                for pid in children(master):  # They would wait with it, and count.
                    signal_child(pid, master, signal.SIGABRT)
                self.settle()
            except (OSError, http.client.HTTPException) as error:
                self.settle()
                found.append({"path": path, "status": 0, "error": f"gives no answer: {shown(error)}"})
        return found

    def only(self, probes: list[dict[str, Any]]) -> None:
        """Go on with the paths that answer; MeasurementFailure when there is none."""
        good = [request for request, probe in zip(self.asked, probes) if 200 <= probe["status"] < 400]  # noqa: B905 - for the oldest Python
        if not good:
            said = "; ".join(f"{each['path']} {each['error'] or 'answers ' + str(each['status'])}" for each in probes)
            raise MeasurementFailure(f"no URL answers 2xx or 3xx: {said}", output=self.said())
        self.asked = good
        self.turn = self.in_turn()

    def boots(self) -> list[float]:
        """Seconds that a worker takes to start, one after the other."""
        found: list[float] = []
        limit = time.monotonic() + self.params["seconds"] / 3
        while len(found) < BOOTS and (not found or time.monotonic() < limit):
            before = set(self.ready())
            signal_child(min(before), self.master, signal.SIGTERM)
            ends = time.monotonic() + self.params["boot_seconds"] + BOOT_MARGIN_SECONDS
            while not (new := {pid: took for pid, took in self.ready().items() if pid not in before}):
                if time.monotonic() > ends:
                    raise MeasurementFailure(
                        "a worker that is told to end goes on, or none takes its place", output=self.said()
                    )
                time.sleep(POLL_SECONDS)
            found.append(next(iter(new.values())))
        return found

    def warm(self, seconds: float, concurrency: int, turn: Iterator[int] | None = None) -> tuple[int, int]:
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
                            if time.monotonic() > limit + ANSWER_SECONDS:
                                return
                except OSError:
                    return
                (good if STATUS.match(first) else bad)[number] += 1

        clients = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(concurrency)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        return sum(good) + sum(bad), sum(bad)

    def memory(self) -> dict[str, Any]:
        """Private and shared memory of master and workers."""
        return {"master": memory_kb(self.master), "workers": [memory_kb(pid) for pid in self.pids()]}

    def resident_kb(self) -> int:
        """What the workers have together, shared pages too: those become private ones as they are written to."""
        return sum(sum(memory_kb(pid).values()) for pid in self.pids())

    def cost(self, seconds: float, concurrency: int, turn: Iterator[int]) -> dict[str, int]:
        """What the only worker answered several clients, how often badly, and the CPU that this took together."""
        (pid,) = self.pids()
        before = cpu_ns(pid)
        requests, bad = self.warm(seconds, concurrency, turn)
        if self.pids() != [pid]:
            raise self.gone()
        return {"requests": requests, "bad": bad, "cpu_us": (cpu_ns(pid) - before) // 1000}

    def threads_and_kb(self) -> dict[str, int]:
        """Threads of the only worker, and its private memory in KB."""
        (pid,) = self.pids()
        return {"threads": len(os.listdir(f"/proc/{pid}/task")), "private_kb": memory_kb(pid)["private"]}

    def held_by_master(self) -> dict[str, Any]:
        """Threads and sockets of the master, which a fork would break."""
        left = self.of_master()
        names = left.get("threads")
        threads = [shown(name) for name in names[:MOST_NAMES]] if isinstance(names, list) else []
        held = {"native": native_threads(self.master), "sockets": sockets(self.master)}
        return {"python": shown(left.get("python")), "threads": threads, **held}
