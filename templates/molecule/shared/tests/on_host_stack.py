"""Runs on the host, as root: looks at the running stack and prints it as JSON.

`APP look` reads; `APP hold N` does so while it holds N silent connections to Gunicorn's socket;
`APP connection HOST PATH` asks Gunicorn itself for a page and prints what it says about the connection.
Python 3.9 and its standard library, because that is what hosts have.
"""

from __future__ import annotations

import http.client
import json
import os
import pwd
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SLOTS = ("a", "b")
SLOT_PROPERTIES = (
    "ActiveState,UnitFileState,MainPID,ControlGroup,TimeoutStopUSec,MemoryHigh,MemoryMax,LimitNOFILE,TasksMax,"
    "EnvironmentFiles,NRestarts"
)
# The journal's own identifiers of "Started ..." and "Stopping ...". systemd itself forgets a slot that has stopped.
STARTED = "39f53479d3a045ac8e11786248231fbf"
STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"
# Where the kernel keeps a limit: in the one hierarchy of cgroup v2, in the controller's own one of v1.
LIMIT_FILES = {
    "memory_max": ("memory.max", "memory", "memory.limit_in_bytes"),
    "memory_high": ("memory.high", None, None),
    "tasks_max": ("pids.max", "pids", "pids.max"),
}
# Gunicorn gives a silent connection 5 seconds before it takes the thread back; the look must be over by then.
SETTLE_SECONDS = 1.0
PATIENCE_SECONDS = 30


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def read(path: str | Path) -> str | None:
    """A file's text; None where there is no such file, or its process has ended meanwhile."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def unit(name: str, properties: str) -> dict[str, str]:
    """The properties of a unit, as systemd has them in force."""
    lines = output("systemctl", "show", name, "--property", properties).splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none when the process has ended."""
    return (read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    pids = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [child for child in pids if stat(child)[1:2] == [str(pid)]]


def age_seconds(pid: int) -> float:
    """How long ago a process was started."""
    uptime = float((read("/proc/uptime") or "0").split()[0])
    return uptime - int(stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def epoll_sets(pid: int) -> int:
    """A gthread worker has one, and each of its threads that waits for a request to arrive has one more."""
    links = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(path.readlink()))
        except OSError:
            continue  # Closed since the directory was read.
    return links.count("anon_inode:[eventpoll]")


def process(pid: int) -> dict[str, Any]:
    """What the kernel says about one process."""
    status = dict(re.findall(r"^(\w+):\s*(.*)$", read(f"/proc/{pid}/status") or "", re.M))
    files = re.search(r"^Max open files\s+(\d+)", read(f"/proc/{pid}/limits") or "", re.M)
    return {
        "pid": pid,
        "directory": str(Path(f"/proc/{pid}/cwd").readlink()),
        "user": pwd.getpwuid(int(status["Uid"].split()[1])).pw_name,
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "epoll_sets": epoll_sets(pid),
        "nofile": int(files[1]) if files else None,
        "capabilities": int(status["CapEff"], 16),
        "no_new_privileges": status["NoNewPrivs"] == "1",
        "age_seconds": age_seconds(pid),
    }


def workers(app: str, slot: str, main_pid: int) -> list[dict[str, Any]]:
    """Gunicorn's worker processes, each with what it says of itself in its marker."""
    found = []
    for pid in children(main_pid):
        marker = read(f"/run/{app}-{slot}/workers/{pid}")
        found.append({**process(pid), "configuration": json.loads(marker) if marker else None})
    return found


def limits(control_group: str) -> dict[str, int | None]:
    """What the kernel holds a service to; None where this kernel has no such file."""
    found: dict[str, int | None] = {}
    for name, (unified, controller, version_1) in LIMIT_FILES.items():
        text = read(f"/sys/fs/cgroup{control_group}/{unified}")
        if text is None and controller:
            text = read(f"/sys/fs/cgroup/{controller}{control_group}/{version_1}")
        found[name] = int(text) if text and text.strip().isdigit() else None
    return found


def last_event(service: str, event: str) -> int | None:
    """When systemd last said so since the host was started, in microseconds; None if it did not."""
    fields = (f"UNIT={service}", f"MESSAGE_ID={event}")
    lines = output("journalctl", "--boot", "--quiet", "--output", "json", *fields).splitlines()
    return int(json.loads(lines[-1])["__MONOTONIC_TIMESTAMP"]) if lines else None


def slot(app: str, name: str) -> dict[str, Any]:
    """One of the two service instances, with its processes if it runs."""
    service = f"{app}@{name}.service"
    properties = unit(service, SLOT_PROPERTIES)
    main_pid = int(properties["MainPID"])
    running = main_pid != 0 and properties["ActiveState"] == "active"
    return {
        "unit": properties,
        "started": last_event(service, STARTED),
        "stopping": last_event(service, STOPPING),
        "record": json.loads(read(f"/srv/{app}/slots/{name}/slot.json") or "{}"),
        "main": process(main_pid) if running else None,
        "workers": workers(app, name, main_pid) if running else [],
        "limits": limits(properties["ControlGroup"]) if running else None,
    }


def queues(kind: str) -> dict[str, dict[str, int]]:
    """The accept queues of all listening sockets, by address: how many wait, and how many may."""
    found = {}
    for line in output("ss", kind).splitlines():
        columns = line.split()
        at = columns.index("LISTEN")
        found[columns[at + 3]] = {"waiting": int(columns[at + 1]), "backlog": int(columns[at + 2])}
    return found


def nginx() -> dict[str, Any]:
    """NGINX's processes, and the configuration that it would load now, with that one's age."""
    main_pid = int(unit("nginx.service", "MainPID")["MainPID"])
    titles = {pid: (read(f"/proc/{pid}/cmdline") or "").rstrip("\0 ") for pid in children(main_pid)}
    configuration = output("nginx", "-T")
    files = re.findall(r"^# configuration file (.+):$", configuration, re.M)
    return {
        # A worker that ends after a reload has another title.
        "workers": [process(pid) for pid, title in titles.items() if title == "nginx: worker process"],
        "configuration": configuration,
        "configuration_age_seconds": min(time.time() - Path(path).stat().st_mtime for path in files),
    }


def socket_path(app: str) -> str:
    """Where Gunicorn's socket is, as systemd has it."""
    return unit(f"{app}.socket", "Listen")["Listen"].split(" ")[0]


def look(app: str) -> dict[str, Any]:
    """Everything at once, so that one connection to the host is enough."""
    return {
        "active": Path(f"/srv/{app}/active").resolve().name,
        "slots": {name: slot(app, name) for name in SLOTS},
        "queue": queues("-lxnH")[socket_path(app)],
        "tcp_queues": queues("-lntH"),
        "somaxconn": int(read("/proc/sys/net/core/somaxconn") or 0),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        # A container's /proc/uptime is that of the machine; its own life is that of its first process.
        "booted_seconds_ago": age_seconds(1),
        "now": time.time(),
        "nginx": nginx(),
    }


def hold(app: str, connections: int) -> dict[str, Any]:
    """The stack while every thread of Gunicorn is taken: what does not fit stays in the kernel's queue."""
    path = socket_path(app)
    held: list[socket.socket] = []
    until = time.monotonic() + SETTLE_SECONDS
    try:
        while len(held) < connections and time.monotonic() < until:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            if client.connect_ex(path) == 0:
                held.append(client)
            else:
                client.close()  # The queue is full, until the workers have taken what is in it.
                time.sleep(0.01)
        time.sleep(SETTLE_SECONDS)
        return {**look(app), "held": len(held)}
    finally:
        for client in held:
            client.close()


def connection(app: str, host: str, path: str) -> str | None:
    """The Connection header of an answer that went past NGINX, to a client that would keep the connection."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(socket_path(app))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.getheader("Connection")


def main() -> None:
    """Does what the command line says."""
    app, action, *rest = sys.argv[1:]
    actions: dict[str, Any] = {
        "look": lambda: look(app),
        "hold": lambda: hold(app, int(rest[0])),
        "connection": lambda: connection(app, *rest),
    }
    print(json.dumps(actions[action]()))


if __name__ == "__main__":
    main()
