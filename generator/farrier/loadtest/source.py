"""The part that sends: Locust's user as a Poisson source, each of its arrivals a greenlet of its own.

Arrivals are independent of each other and of the responses, so a slow response delays nobody; the sources of several workers
together are again one Poisson source. ConnectionPool are kept alive and shared, as NGINX sees it from clients that come back;
cookies are not, since each arrival is another client.
"""

import ctypes
import gc
import os
import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, ClassVar

from locust import FastHttpUser, task  # patches the standard library for gevent, so it comes before what uses it

# isort: split
import errno
import itertools
import ssl

import gevent
import gevent.queue
import gevent.ssl
from gevent.hub import get_hub
from geventhttpclient.client import HTTPClient, HTTPClientPool
from geventhttpclient.header import Headers
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError

from farrier.loadtest.job import Job
from farrier.loadtest.samples import UNFINISHED, UNSENT, Samples

RESPONSES = frozenset(range(100, 600))
"""Statuses of a response. Locust's client would close the connection of those it takes for failures."""

USER_AGENT = "farrier-loadtest"
START_SECONDS = 0.05
"""A step begins this much after the word for it, so that its first arrival is not late."""

UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN}


class Timer:
    """Waits for a moment of the monotonic clock to within some 0.1 ms; gevent's own timers know whole milliseconds."""

    def __init__(self) -> None:
        self.fd = -1
        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "timerfd_create"):
            self.settime = libc.timerfd_settime
            self.fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd >= 0:
            self.watcher = get_hub().loop.io(self.fd, 1)

    def wait_until(self, moment: float) -> None:
        """Lets others run until `moment`, and not at all when it has passed."""
        seconds = moment - time.monotonic()
        if seconds <= 0:
            return
        if self.fd < 0:
            gevent.sleep(seconds)
            return
        whole = int(moment)
        # struct itimerspec: no interval, then the absolute moment in seconds and nanoseconds.
        self.settime(self.fd, 1, (ctypes.c_long * 4)(0, 0, whole, int((moment - whole) * 1e9)), None)
        get_hub().wait(self.watcher)
        os.read(self.fd, 8)


class Client(HTTPClient):
    """Locust's client that asks for each request once: its own would hide a closed connection by asking again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        pool = self._connection_pool
        found = pool._resolve()
        pool._resolve = lambda: found  # type: ignore[method-assign]
        pool.size = -1  # it asks again `size + 1` times


class ConnectionPool(HTTPClientPool):
    """The connections of one worker to the one address that it sends to."""

    def __init__(self, job: Job) -> None:
        context: Callable[[], ssl.SSLContext] = gevent.ssl.create_default_context
        super().__init__(
            headers=Headers({"Host": job.host, "User-Agent": USER_AGENT}),
            concurrency=job.max_in_flight,
            connection_timeout=None,
            network_timeout=None,
            insecure=not job.verify_tls,
            ssl_context_factory=context if job.verify_tls else gevent.ssl._create_unverified_context,
        )
        self.client = Client.from_url(job.url, **self.client_args)

    def get_client(self, _url: object) -> HTTPClient:
        """Always the same one."""
        return self.client


class Station:
    """What a worker was ordered to do, and what it reports."""

    def __init__(self, report: Callable[[Samples], None]) -> None:
        self.report = report
        self.orders: gevent.queue.Queue[Mapping[str, Any]] = gevent.queue.Queue()
        self.timer = Timer()


class Source(FastHttpUser):
    """An endless supply of clients that know nothing of each other."""

    max_redirects = 0
    station: ClassVar[Station]
    job: ClassVar[Job]

    @classmethod
    def take(cls, job: Job) -> None:
        """What all its requests are like from now on."""
        cls.job = job
        cls.host = job.url
        cls.client_pool = ConnectionPool(job)

    def on_start(self) -> None:
        """Makes its client one that has neither cookies nor failures."""
        self.client.client.cookiejar = None
        self.client.client.valid_response_codes = RESPONSES  # type: ignore[misc] # for this client alone
        self.under_way: set[gevent.Greenlet] = set()

    def on_stop(self) -> None:
        """Leaves nothing under way."""
        gevent.killall(list(self.under_way))

    @task
    def serve(self) -> None:
        """One step after the other, as they are ordered."""
        while True:
            self.station.report(self.step(self.station.orders.get()))

    def step(self, order: Mapping[str, Any]) -> Samples:
        """Sends for the time of one step, waits for what is still under way, and gives up the rest."""
        gc.collect()
        gc.freeze()
        warm, end = order["warm_seconds"], order["warm_seconds"] + order["seconds"]
        samples, timer = Samples(), self.station.timer
        chance = Random(order["seed"])  # noqa: S311 - repeatable on purpose
        requests = range(len(self.job.requests))
        weights = list(itertools.accumulate(each.weight for each in self.job.requests))
        begun = time.monotonic() + START_SECONDS
        marks = [(begun + warm, time.process_time())]
        due = 0.0
        while (due := due + chance.expovariate(order["rps"])) < end:
            if due >= warm and len(marks) == 1:
                timer.wait_until(begun + warm)
                marks.append((time.monotonic(), time.process_time()))
            timer.wait_until(begun + due)
            request = chance.choices(requests, cum_weights=weights)[0]
            if len(self.under_way) >= self.job.max_in_flight:
                samples.add(UNSENT, request, due, 0.0, 0.0)
                continue
            self.under_way.add(gevent.spawn(self.send, samples, request, begun, due))
        timer.wait_until(begun + end)
        now, cpu = time.monotonic(), time.process_time()
        samples.cpu_share = (cpu - marks[-1][1]) / max(now - marks[-1][0], 1e-3)
        samples.in_flight = len(self.under_way)
        gevent.joinall(list(self.under_way), timeout=self.job.drain_limit_seconds)
        gevent.killall(list(self.under_way))
        samples.drain_seconds = time.monotonic() - now
        return samples

    def send(self, samples: Samples, request: int, begun: float, due: float) -> None:
        """One request, and what became of it."""
        sent = time.monotonic()
        asked = self.job.requests[request]
        kind = UNFINISHED
        try:
            with gevent.Timeout(self.job.timeout_seconds):
                response = self.client.request(asked.method, asked.path, catch_response=True)
            kind = kind_of(response.request_meta["exception"], response.status_code)
        except gevent.Timeout:
            kind = "timeout"
        finally:
            samples.add(kind, request, due, time.monotonic() - begun - due, sent - begun - due)
            self.under_way.discard(gevent.getcurrent())


def kind_of(error: BaseException | None, status: int) -> str:
    """The status of a response, or why there is none, in one word."""
    if error is None:
        return str(status) if status else "failed"
    error = getattr(error, "original", None) or error
    if isinstance(error, (gevent.Timeout, TimeoutError)):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionError, HTTPConnectionClosed, HTTPParseError)):
        return "reset"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return "unreachable" if getattr(error, "errno", None) in UNREACHABLE else "failed"
