"""Where the living value of each setting of a plan is read."""

import re
from collections.abc import Callable

import nginx_conf
from living import Living

Value = int | float | str | bool
TIMESPAN = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
# Larger bodies are not sent to be accepted; that the next byte is refused is still seen.
LARGEST_BODY_SENT = 100 * 1024**2
# Longer ones do not fit onto a command line.
LONGEST_LINE_SENT = 32 * 1024


class NoEvidence(Exception):
    """The host has not yet done what would show this value."""


Reader = Callable[[Living], Value | None]
"""Answers the living value, None where this place does not show it, NoEvidence where nothing has yet."""


def same(values: list[Value]) -> Value:
    """The one value on which all processes agree."""
    assert len(set(values)) == 1, f"the processes disagree: {values}"
    return values[0]


def configured(name: str) -> Reader:
    """What each running worker says that it was started with; the master takes it from the same object."""
    return lambda living: same([worker["configuration"][name] for worker in living.workers])


def watchdog_timeout(living: Living) -> Value:
    """What the workers say that their watchdog has; those without one say nothing of it."""
    return same([worker["configuration"].get("watchdog_timeout", 0) for worker in living.workers])


def slot_property(name: str) -> Reader:
    """A plain number among the slot's properties."""
    return lambda living: int(living.slot["unit"][name])


def stop_seconds(living: Living) -> float:
    """`1min 5s` is 65."""
    text = living.slot["unit"]["TimeoutStopUSec"]
    return sum(float(number) * TIMESPAN[unit] for number, unit in re.findall(r"([\d.]+)(us|ms|min|[shdw])", text))


def control_group(name: str) -> Reader:
    """A limit as the kernel enforces it."""
    return lambda living: living.slot["limits"][name]


def worker_files(living: Living) -> Value:
    """The limit of open files, of the master and of each worker."""
    return same([process["nofile"] for process in (living.slot["main"], *living.workers)])


def accepted_connections(living: Living) -> Value:
    """How many of the silent connections each worker took: the others are still in the kernel's queue."""
    busy = living.busy_stack
    taken = busy["held"] - busy["queue"]["waiting"]
    assert taken % len(living.workers) == 0, f"{len(living.workers)} workers took {taken} connections together"
    return int(taken / len(living.workers))


def worker_connections(living: Living) -> Value | None:
    """Only gthread and gevent have such a bound; a sync worker takes one connection whatever is written."""
    return None if configured("worker_class")(living) == "sync" else accepted_connections(living)


def threads(living: Living) -> Value:
    """How many threads of each worker are busy when there is more than enough to do; gevent's greenlets share one."""
    if configured("worker_class")(living) == "gevent":
        return None
    if configured("worker_class")(living) == "sync":
        return accepted_connections(living)
    at_rest = {worker["pid"]: worker["epoll_sets"] for worker in living.workers}
    busy = living.busy_stack["slots"][living.stack["active"]]["workers"]
    serving = same([worker["epoll_sets"] - at_rest[worker["pid"]] for worker in busy])
    assert all(worker["threads"] > serving for worker in busy)
    return serving


def keepalive(living: Living) -> Value | None:
    """0 is seen from outside: Gunicorn announces the end of each connection. A sync worker always does."""
    where = (living.expect["domain"], living.expect["health_path"])
    announced = living.python("on_host_stack.py", living.app, "connection", *where)
    if configured("worker_class")(living) == "sync":
        return None
    return 0 if announced == "close" else configured("keepalive")(living) or f"Connection: {announced}"


def socket_backlog(living: Living) -> Value:
    """Send-Q of the listening socket: what the kernel really holds."""
    return int(living.stack["queue"]["backlog"])


def nginx_value(directive: str, convert: Callable[[str], Value], where: str = "location") -> Reader:
    """A directive as it is in force where requests are passed on, or in one of the blocks around."""

    def read(living: Living) -> Value:
        root = living.nginx_root
        block = {
            "main": lambda: root,
            "events": lambda: next(root.all_blocks("events")),
            "server": lambda: living.nginx_server,
            "location": lambda: living.nginx_location,
        }[where]()
        found = block.in_force(directive)
        assert found, f"{directive} is not written in {where}"
        return convert(found[-1][0])

    return read


def nginx_workers(living: Living) -> Value:
    """Worker processes that are not on their way out."""
    return len(living.stack["nginx"]["workers"])


def nginx_files(living: Living) -> Value:
    """The limit of open files of each NGINX worker."""
    return same([worker["nofile"] for worker in living.stack["nginx"]["workers"]])


def nginx_backlog(living: Living) -> Value:
    """Send-Q of the sockets that NGINX's server listens on."""
    ports = {words[0].rpartition(":")[2] for words in living.nginx_server.own("listen")}
    queues = [
        queue["backlog"] for address, queue in living.stack["tcp_queues"].items() if address.rpartition(":")[2] in ports
    ]
    return same(queues)


def header_buffers(living: Living) -> Value:
    """The longest request line that is not answered with 414, found at its edge; its end is two bytes of the buffer."""
    (words,) = living.nginx_server.in_force("large_client_header_buffers")
    limit = nginx_conf.size(words[1])
    path = f"{living.expect['health_path']}?line="
    rest = len(f"GET {path} HTTP/1.1\r\n")
    if limit <= LONGEST_LINE_SENT:
        above, within = living.ask(*({"path": path + (size - rest) * "x"} for size in (limit + 1, limit)))
        assert above.status == 414, f"a request line of {limit + 1} bytes: {above}"
        assert within.status not in {None, 400, 414}, f"a request line of {limit} bytes: {within}"
    return limit


def retry_after(living: Living) -> Value:
    """What NGINX tells those that it sheds."""
    added = [words for block in living.nginx_server.all_blocks("if") for words in block.own("add_header")]
    return same([int(words[1]) for words in added if words[0] == "Retry-After"])


def body_limit(living: Living) -> Value:
    """The largest body that is not answered with 413, found at its edge."""
    limit = int(nginx_value("client_max_body_size", nginx_conf.size)(living) or 0)
    upload = {"method": "POST", "path": living.expect["health_path"]}
    sizes = [limit + 1, *([limit] if limit <= LARGEST_BODY_SENT else [])]
    above, *within = living.ask(*({**upload, "body": {"multipart_bytes": size}} for size in sizes))
    assert above.status == 413, f"a body of {limit + 1} bytes: {above}"
    # What the application makes of it is its own affair; that it was asked is NGINX's.
    assert all(answer.status not in {None, 413} for answer in within), f"a body of {limit} bytes: {within}"
    return limit


def switch(living: Living) -> Value:
    """Whether the slot that serves was up before the other one was asked to stop."""
    active = living.stack["active"]
    started = living.stack["slots"][active]["started"]
    stopping = living.stack["slots"]["b" if active == "a" else "a"]["stopping"]
    if started is None or stopping is None:
        raise NoEvidence("no deploy has switched slots since the host was started")
    return "overlap" if started < stopping else "stop-start"


READERS: dict[str, tuple[Reader, ...]] = {
    "gunicorn.worker_class": (configured("worker_class"),),
    "gunicorn.workers": (lambda living: len(living.workers), configured("workers")),
    "gunicorn.threads": (threads, configured("threads")),
    "gunicorn.worker_connections": (worker_connections, configured("worker_connections")),
    "gunicorn.backlog": (socket_backlog, configured("backlog")),
    "gunicorn.preload_app": (configured("preload_app"),),
    "gunicorn.timeout": (configured("timeout"),),
    "gunicorn.graceful_timeout": (configured("graceful_timeout"),),
    "gunicorn.keepalive": (configured("keepalive"), keepalive),
    "gunicorn.max_requests": (configured("max_requests"),),
    "gunicorn.max_requests_jitter": (configured("max_requests_jitter"),),
    "gunicorn.limit_request_line": (configured("limit_request_line"),),
    "gunicorn.limit_request_field_size": (configured("limit_request_field_size"),),
    "gunicorn.limit_request_fields": (configured("limit_request_fields"),),
    "systemd.Backlog": (socket_backlog,),
    "systemd.TimeoutStopSec": (stop_seconds,),
    # cgroup v1 has no kernel file for MemoryHigh: there systemd's word is all there is, and it has no effect.
    "systemd.MemoryHigh": (slot_property("MemoryHigh"), control_group("memory_high")),
    "systemd.MemoryMax": (slot_property("MemoryMax"), control_group("memory_max")),
    "systemd.LimitNOFILE": (slot_property("LimitNOFILE"), worker_files),
    "systemd.TasksMax": (slot_property("TasksMax"), control_group("tasks_max")),
    "kernel.net.core.somaxconn": (lambda living: int(living.stack["somaxconn"]),),
    "nginx.worker_processes": (nginx_workers, nginx_value("worker_processes", int, "main")),
    "nginx.worker_connections": (nginx_value("worker_connections", int, "events"),),
    "nginx.worker_rlimit_nofile": (nginx_files, nginx_value("worker_rlimit_nofile", int, "main")),
    "nginx.proxy_connect_timeout": (nginx_value("proxy_connect_timeout", nginx_conf.seconds),),
    "nginx.proxy_send_timeout": (nginx_value("proxy_send_timeout", nginx_conf.seconds),),
    "nginx.proxy_read_timeout": (nginx_value("proxy_read_timeout", nginx_conf.seconds),),
    "nginx.client_max_body_size": (body_limit,),
    "nginx.large_client_header_buffers": (header_buffers,),
    "nginx.proxy_buffer_size": (nginx_value("proxy_buffer_size", nginx_conf.size),),
    "nginx.client_header_timeout": (nginx_value("client_header_timeout", nginx_conf.seconds, "server"),),
    "nginx.client_body_timeout": (nginx_value("client_body_timeout", nginx_conf.seconds),),
    "nginx.keepalive_timeout": (nginx_value("keepalive_timeout", nginx_conf.seconds),),
    "nginx.listen_backlog": (nginx_backlog,),
    "farrier.retry_after": (retry_after,),
    "farrier.switch": (switch,),
    "farrier.watchdog_timeout": (watchdog_timeout,),
}
"""Where the living value of each setting is read; of several places, all must agree with the plan."""
