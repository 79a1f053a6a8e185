"""The settings a plan can hold: one row each, the only place that knows their type, bounds and unit."""

import re
from dataclasses import dataclass
from functools import cached_property

Value = int | str | bool


@dataclass(frozen=True)
class SettingSpec:
    """One setting; `unit` is what a plain number means."""

    name: str
    type: type
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    unit: str = ""
    meaning: str = ""

    @property
    def section(self) -> str:
        """The program it belongs to, as a heading: Gunicorn, systemd, kernel, NGINX, Farrier."""
        owner = self.name.partition(".")[0]
        return {"gunicorn": "Gunicorn", "nginx": "NGINX", "farrier": "Farrier"}.get(owner, owner)

    @cached_property
    def variable(self) -> str:
        """Its name in the role, without the prefix: `systemd.TimeoutStopSec` → `systemd_timeout_stop_sec`."""
        snake = re.sub("(?<=[a-z])(?=[A-Z])", "_", self.name).lower().replace(".", "_")
        return snake.removeprefix("farrier_")

    @property
    def expected(self) -> str:
        """What a valid value is, for an error: `a whole number from 1 to 512`."""
        if self.type is bool:
            return "true or false"
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        unit = f" ({self.unit})" if self.unit else ""
        return f"a whole number from {self.minimum} to {self.maximum}{unit}"

    def accepts(self, value: object) -> bool:
        """Whether `value` has the right type and lies within the bounds."""
        if self.type is bool:
            return isinstance(value, bool)
        if self.choices:
            return value in self.choices
        return isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum


def _count(name: str, low: int, high: int, meaning: str, unit: str = "") -> SettingSpec:
    return SettingSpec(name, int, low, high, unit=unit, meaning=meaning)


def _seconds(name: str, meaning: str, low: int = 1) -> SettingSpec:
    return _count(name, low, 86_400, meaning, "seconds")


def _bytes(name: str, meaning: str) -> SettingSpec:
    return _count(name, 1_048_576, 2**50, meaning, "bytes")


SPECS: tuple[SettingSpec, ...] = (
    SettingSpec(
        "gunicorn.worker_class",
        str,
        choices=("sync", "gthread", "gevent"),
        meaning="kind of worker: one request at a time (sync) or one per thread (gthread); gevent only where you set it",
    ),
    _count("gunicorn.workers", 1, 1024, "worker processes of one slot"),
    _count("gunicorn.threads", 1, 512, "threads of each worker"),
    _count(
        "gunicorn.worker_connections",
        1,
        65_535,
        "connections a gthread worker accepts at once; requests in service at once of a gevent worker",
    ),
    _count("gunicorn.backlog", 1, 65_535, "requests that may wait in the kernel's accept queue"),
    SettingSpec("gunicorn.preload_app", bool, meaning="import the application once, before the workers are forked"),
    _seconds("gunicorn.timeout", "longest request of a sync worker; longest silence of any other worker"),
    _seconds("gunicorn.graceful_timeout", "time for running requests to finish when a slot stops"),
    _seconds("gunicorn.keepalive", "idle time of a connection from NGINX; 0 closes it after each response", 0),
    _count("gunicorn.max_requests", 0, 10_000_000, "requests after which a worker is replaced; 0 means never"),
    _count(
        "gunicorn.max_requests_jitter",
        0,
        10_000_000,
        "largest random addition to max_requests, different for each worker",
    ),
    _count("gunicorn.limit_request_line", 0, 8_190, "longest request line that Gunicorn accepts; 0 means any", "bytes"),
    _count("gunicorn.limit_request_field_size", 64, 2**20, "longest header field that Gunicorn accepts", "bytes"),
    _count("gunicorn.limit_request_fields", 1, 32_768, "most header fields of a request"),
    _count("systemd.Backlog", 1, 65_535, "length of the accept queue that systemd requests when it creates the socket"),
    _seconds("systemd.TimeoutStopSec", "time a slot has to stop before systemd kills it"),
    _bytes("systemd.MemoryHigh", "memory above which a slot is throttled and reclaimed"),
    _bytes("systemd.MemoryMax", "memory above which the kernel kills processes of a slot"),
    _count("systemd.LimitNOFILE", 64, 1_048_576, "open files of each process of a slot"),
    _count("systemd.TasksMax", 8, 1_000_000, "processes and threads of a slot"),
    _count("kernel.net.core.somaxconn", 1, 2**31 - 1, "the kernel's upper limit for every accept queue"),
    _count("nginx.worker_processes", 1, 512, "NGINX's worker processes"),
    _count(
        "nginx.worker_connections", 64, 1_000_000, "connections of each NGINX worker, to clients and Gunicorn together"
    ),
    _count("nginx.worker_rlimit_nofile", 128, 1_048_576, "open files of each NGINX worker"),
    _seconds("nginx.proxy_connect_timeout", "time to connect to Gunicorn's socket"),
    _seconds(
        "nginx.proxy_send_timeout", "longest pause while a request is sent to Gunicorn, including its wait in the queue"
    ),
    _seconds("nginx.proxy_read_timeout", "longest pause before Gunicorn responds, including the wait in the queue"),
    _count("nginx.client_max_body_size", 1_024, 2**40, "largest request body", "bytes"),
    _count(
        "nginx.large_client_header_buffers",
        1_024,
        2**20,
        "size of each of 4 buffers for request headers: the longest request line, and the longest header field",
        "bytes",
    ),
    _count(
        "nginx.proxy_buffer_size",
        4_096,
        2**20,
        "largest response header, and size of each of 4 buffers for the body",
        "bytes",
    ),
    _seconds("nginx.client_header_timeout", "time a client has to send the request header"),
    _seconds("nginx.client_body_timeout", "longest pause while a client sends the body"),
    _seconds("nginx.keepalive_timeout", "idle time after which a client's connection is closed", 0),
    _count("nginx.listen_backlog", 1, 65_535, "length of the accept queue of NGINX's own listening sockets"),
    _seconds("farrier.retry_after", "Retry-After of the 503 responses when the queue is full"),
    SettingSpec(
        "farrier.switch",
        str,
        choices=("overlap", "stop-start"),
        meaning="whether a deploy starts the new slot beside the old one (overlap) or after it (stop-start)",
    ),
    _seconds(
        "farrier.watchdog_timeout",
        "time after which a request of a gthread worker counts as hung and the worker is replaced; 0 means never",
        0,
    ),
)

BY_NAME: dict[str, SettingSpec] = {spec.name: spec for spec in SPECS}
