"""Sends load with Locust in a separate process, so that nothing else delays it: `python -m farrier.loadtest.load_generator`.

Lines of JSON: a job on standard input, answered with {"ready": N}; then steps such as {"rps": 50, "warm_seconds": 1,
"seconds": 5}, each answered with what came of it or with {"error": "..."}. The end of standard input ends it, and so do the
bounds of its job and the end of its parent. With `--worker HOST PORT` it is one of the workers of another generator.
"""

from farrier.loadtest.source import (
    START_SECONDS,
    Source,
    Station,
)  # first of all: it patches the standard library for gevent

# isort: split
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gevent
import gevent.queue
from gevent.fileobject import FileObject
from locust import LoadTestShape
from locust.env import Environment
from locust.rpc import Message
from locust.runners import MasterRunner, Runner

from farrier.loadtest.job import Job, job_from
from farrier.loadtest.samples import Samples, summary, unpacked

JOB, ORDER, SAMPLES = "farrier_job", "farrier_order", "farrier_samples"
"""Messages between master and workers: what to send, one step of it, and one worker's samples of that step."""

GRACE_SECONDS = 10
"""A worker's samples may come this much after the end of its step before it counts as lost."""

LOOK_SECONDS = 0.5
"""Seconds between checks that all workers are still there."""

SPARE_FILES = 64
"""Open files besides those of requests."""


class OpenLoop(LoadTestShape):
    """One source in each worker, whose rate is set step by step; Locust stops when the run must end."""

    def __init__(self, job: Job) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sources = max(1, job.workers + job.remote_workers)
        self.max_seconds = job.max_seconds
        self.parent = os.getppid()

    def tick(self) -> tuple[int, float] | None:
        """The number of sources; None once its time is up or its parent is gone."""
        seconds = self.get_run_time()  # type: ignore[no-untyped-call]
        if seconds > self.max_seconds or os.getppid() != self.parent:
            return None
        return self.sources, float(self.sources)


class Control:
    """A run: the local sender or the master of several, from its job to its end."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.steps = 0
        self.found: gevent.queue.Queue[Mapping[str, Any]] = gevent.queue.Queue()
        self.children: list[subprocess.Popen[bytes]] = []
        shape = OpenLoop(job)
        self.sources = shape.sources
        environment = Environment(user_classes=[Source], shape_class=shape, host=job.url)
        self.runner: Runner
        if job.workers + job.remote_workers:
            self.runner = environment.create_master_runner(job.bind_host, job.bind_port)
        else:
            self.runner = environment.create_local_runner()
            listen(self.runner)
        self.runner.register_message(SAMPLES, lambda environment, msg: self.found.put(msg.data))

    def start(self) -> None:
        """Starts all sources; TimeoutError if workers do not connect."""
        if isinstance(self.runner, MasterRunner):
            address = ["127.0.0.1" if self.job.bind_host in ("*", "0.0.0.0") else self.job.bind_host]  # noqa: S104
            address.append(str(self.runner.server.port))
            for _ in range(self.job.workers):
                command = [sys.executable, "-m", "farrier.loadtest.load_generator", "--worker", *address]
                self.children.append(subprocess.Popen(command, stdin=subprocess.PIPE))  # noqa: S603 - itself
            give_up = time.monotonic() + self.job.workers_seconds
            while len(self.runner.clients.ready) < self.sources:
                if time.monotonic() > give_up:
                    here = f"{len(self.runner.clients.ready)} of {self.sources} workers came"
                    raise TimeoutError(f"{here} within {self.job.workers_seconds:g} s")
                gevent.sleep(0.05)
        self.runner.send_message(JOB, self.job.document())
        self.runner.start_shape()

    def step(self, rps: float, seconds: float, warm_seconds: float = 0.0, chance: str = "") -> dict[str, Any]:
        """One step with all sources; those of equal `chance` have equal arrivals.

        ValueError for one beyond the bounds, RuntimeError when a worker is lost.
        """
        if not 0 < rps <= self.job.max_rps:
            raise ValueError(f"rps: {rps:g} is not above 0 and up to {self.job.max_rps:g}, the bound of this run")
        if not (seconds > 0 and warm_seconds >= 0 and seconds + warm_seconds <= self.job.max_seconds):
            raise ValueError(f"seconds: {warm_seconds:g} and {seconds:g} are not within {self.job.max_seconds:g}")
        self.steps += 1
        begun = time.time() + START_SECONDS + warm_seconds
        order = {"rps": rps / self.sources, "seconds": seconds, "warm_seconds": warm_seconds}
        seed = f"{self.job.seed}/{chance or self.steps}"
        if isinstance(self.runner, MasterRunner):
            for index, worker in enumerate(self.runner.clients.all):
                self.runner.send_message(ORDER, {**order, "seed": f"{seed}/{index}"}, worker.id)
        else:
            self.runner.send_message(ORDER, {**order, "seed": seed})
        give_up = time.monotonic() + warm_seconds + seconds + self.job.drain_limit_seconds + GRACE_SECONDS
        samples: list[Samples] = []
        while len(samples) < self.sources:
            try:
                samples.append(unpacked(self.found.get(timeout=LOOK_SECONDS), len(self.job.requests)))
            except gevent.queue.Empty:
                if lost := self.lost():
                    raise RuntimeError(f"{lost} of {self.sources} workers exited") from None
                if time.monotonic() > give_up:
                    missing = self.sources - len(samples)
                    raise RuntimeError(f"{missing} of {self.sources} workers did not report on their step") from None
        names = [each.name for each in self.job.requests]
        return summary(samples, names, rps=rps, seconds=seconds, warm_seconds=warm_seconds, begun=begun)

    def lost(self) -> int:
        """Workers that are gone: exited here, or silent elsewhere."""
        ended = sum(child.poll() is not None for child in self.children)
        silent = len(self.runner.clients.missing) if isinstance(self.runner, MasterRunner) else 0
        return max(ended, silent)

    @property
    def over(self) -> bool:
        """Whether the shape has ended the run."""
        return self.runner.shape_greenlet is None

    def end(self) -> None:
        """Stops all sources; workers of this machine end with their standard input."""
        with suppress(Exception):
            self.runner.quit()
        for child in self.children:
            with suppress(OSError):
                child.stdin.close()  # type: ignore[union-attr] # it was asked for
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)
            child.kill()


def listen(runner: Runner) -> None:
    """Makes the runner's source follow the messages."""
    Source.station = Station(report=lambda samples: runner.send_message(SAMPLES, Samples.packed(samples)))

    def take_job(environment: Environment, msg: Message) -> None:
        Source.take(bounded(job_from(msg.data)))

    runner.register_message(JOB, take_job)
    runner.register_message(ORDER, lambda environment, msg: Source.station.orders.put(msg.data))


def bounded(job: Job) -> Job:
    """The job with requests in flight limited by this process's open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = job.max_in_flight + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return job_from({**job.document(), "max_in_flight": min(job.max_in_flight, soft - SPARE_FILES)})


def say(document: Mapping[str, Any]) -> None:
    """One line of output."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def answer(control: Control, order: Mapping[str, Any]) -> None:
    """One step and its line of output."""
    try:
        say(control.step(**order))
    except (ValueError, RuntimeError, TypeError) as error:
        say({"error": str(error)})


def generate() -> None:
    """A run from the first line of standard input to its end."""
    lines = FileObject(0, "rb")
    control = Control(job_from(json.loads(lines.readline())))
    try:
        control.start()
        say({"ready": control.sources})
        orders: gevent.queue.Queue[bytes] = gevent.queue.Queue()
        reader = gevent.spawn(lambda: [orders.put(line) for line in lines])

        def serve() -> None:
            while True:
                answer(control, json.loads(orders.get()))

        serving = gevent.spawn(serve)
        while not (reader.dead or serving.dead or control.over):
            gevent.sleep(0.05)
    except TimeoutError as error:
        say({"error": str(error)})
    finally:
        control.end()


def work(host: str, port: int, *, remote: bool) -> None:
    """A worker, until its master ends; one of the master's own machine also when its standard input does."""
    runner = Environment(user_classes=[Source]).create_worker_runner(host, port)
    listen(runner)
    ends = [gevent.spawn(runner.greenlet.join)]
    if not remote:
        ends.append(gevent.spawn(FileObject(0, "rb").read))
    gevent.joinall(ends, count=1)


if __name__ == "__main__":
    if sys.argv[1:2] in (["--worker"], ["--remote-worker"]):
        work(sys.argv[2], int(sys.argv[3]), remote=sys.argv[1] == "--remote-worker")
    else:
        generate()
    # Nothing that is under way may keep it.
    sys.stdout.flush()
    os._exit(0)
