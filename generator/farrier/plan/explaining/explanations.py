"""Every setting with its derivation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from farrier.plan.draft import Draft
from farrier.plan.explaining import gevent, gunicorn, limits, times
from farrier.plan.explaining.changes import Changes
from farrier.plan.explaining.sheet import Derivation, Sheet
from farrier.plan.model import Setting

DERIVATIONS: dict[str, Callable[[Sheet], Derivation]] = {
    "gunicorn.worker_class": gunicorn.worker_class,
    "gunicorn.workers": gunicorn.workers,
    "gunicorn.threads": gunicorn.threads,
    "gunicorn.worker_connections": gunicorn.worker_connections,
    "gunicorn.backlog": times.backlog,
    "gunicorn.preload_app": gunicorn.preload_app,
    "gunicorn.timeout": times.timeout,
    "gunicorn.graceful_timeout": times.graceful_timeout,
    "gunicorn.keepalive": limits.no_keepalive,
    "gunicorn.max_requests": gunicorn.max_requests,
    "gunicorn.max_requests_jitter": gunicorn.max_requests_jitter,
    "gunicorn.limit_request_line": limits.request_line,
    "gunicorn.limit_request_field_size": limits.request_field,
    "gunicorn.limit_request_fields": partial(limits.fixed, constant="REQUEST_FIELDS", unit="fields"),
    "systemd.Backlog": times.same_backlog,
    "systemd.TimeoutStopSec": times.stop_timeout,
    "systemd.MemoryHigh": limits.memory_high,
    "systemd.MemoryMax": limits.memory_max,
    "systemd.LimitNOFILE": limits.limit_nofile,
    "systemd.TasksMax": limits.tasks_max,
    "kernel.net.core.somaxconn": times.somaxconn,
    "nginx.worker_processes": limits.nginx_processes,
    "nginx.worker_connections": limits.nginx_connections,
    "nginx.worker_rlimit_nofile": limits.nginx_files,
    "nginx.proxy_connect_timeout": partial(limits.fixed, constant="PROXY_CONNECT_SECONDS"),
    "nginx.proxy_send_timeout": times.proxy_timeout,
    "nginx.proxy_read_timeout": times.proxy_timeout,
    "nginx.client_max_body_size": limits.body_size,
    "nginx.large_client_header_buffers": partial(limits.fixed, constant="REQUEST_HEADER_BUFFER", unit="bytes"),
    "nginx.proxy_buffer_size": partial(limits.fixed, constant="ANSWER_HEADER_BUFFER", unit="bytes"),
    "nginx.client_header_timeout": partial(limits.fixed, constant="NGINX_CLIENT_SECONDS"),
    "nginx.client_body_timeout": partial(limits.fixed, constant="NGINX_CLIENT_SECONDS"),
    "nginx.keepalive_timeout": partial(limits.fixed, constant="NGINX_KEEPALIVE_SECONDS"),
    "nginx.listen_backlog": times.listen_backlog,
    "farrier.retry_after": times.retry_after,
    "farrier.switch": gunicorn.switch,
    "farrier.watchdog_timeout": times.watchdog_timeout,
}

WITH_GEVENT: dict[str, Callable[[Sheet], Derivation]] = {
    "gunicorn.worker_class": gevent.worker_class,
    "gunicorn.workers": gevent.workers,
    "gunicorn.threads": gevent.threads,
    "gunicorn.worker_connections": gevent.worker_connections,
    "gunicorn.preload_app": gevent.preload_app,
}
"""What takes the place of some where the operator asks for gevent's workers."""


@dataclass(frozen=True)
class Explanation:
    """A setting of the plan, how its value comes about, and what would change it."""

    setting: Setting
    derivation: Derivation
    changes: tuple[str, ...]


def explain(draft: Draft, names: Iterable[str]) -> list[Explanation]:
    """Explanations of the settings `names`, in that order."""
    sheet, changes = Sheet(draft), Changes(draft)
    derivations = DERIVATIONS | (WITH_GEVENT if draft.greenlets else {})
    return [Explanation(draft.settings[name], derivations[name](sheet), changes.of(name)) for name in names]
