#!/usr/bin/python
"""What serves on this host right now: read from the living processes and the kernel, not from files that say so."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: farrier_status
short_description: Tell what serves on this host right now
description:
  - Reads the active slot, its ready workers, the lengths of the accept queues, and what NGINX answers on the health path.
  - Changes nothing.
options:
  application: {type: str, required: true, description: Name of the application and of its units.}
  home: {type: path, required: true, description: Directory that holds C(slots).}
  host: {type: str, required: true, description: Host of the request.}
  health_path: {type: str, required: true, description: Path of the request.}
  workers: {type: int, required: true, description: How many workers the host was planned with.}
  tls: {type: bool, default: false, description: Ask over TLS.}
  seconds: {type: int, default: 30, description: "How long the answer may take, with all that is asked again because the queue was full."}
author: Farrier
"""

EXAMPLES = r"""
- name: It is known what serves
  farrier_status:
    application: notes
    home: /srv/notes
    host: www.example.org
    health_path: /health/
    workers: 3
"""

RETURN = r"""
status:
  description:
    - slot, release, previous, since and by of the active slot, and the process ids of its ready workers.
    - queues holds the length of each accept queue by address, waiting how many connections are in it; somaxconn is the longest
      that the kernel allows.
    - certificate_days says how long the certificate is still valid that NGINX shows; less than three weeks are warned of.
    - answer is the status that NGINX gave, or 0 with the reason in error; answer_seconds is how long it took.
  returned: always
  type: dict
line: {description: The same in one line for people., returned: always, type: str}
"""


CERTIFICATE_DAYS = 21
"""A certificate that ends within this time should have been renewed: ACME clients do it 30 days before the end."""

AGAIN_SECONDS = 0.3
"""How long to wait before asking again; less than the Retry-After for visitors, as nobody else asks here."""


def run(*command: str) -> str:
    """Run a command and return its output, empty when it failed."""
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    return ""


def queues(listing: str) -> dict[str, int]:
    """Length of the accept queue of each listening socket out of `ss -lntxH`, by path or address."""
    return {words[4]: int(words[3]) for words in listening(listing)}


def waiting(listing: str) -> dict[str, int]:
    """How many connections wait in each of them."""
    return {words[4]: int(words[2]) for words in listening(listing)}


def listening(listing: str) -> list[list[str]]:
    """The columns of `ss` for each listening socket."""
    rows = [line.split() for line in listing.splitlines()]
    return [
        row for row in rows if len(row) > 4 and row[0] in ("u_str", "tcp") and row[1] == "LISTEN" and row[3].isdigit()
    ]


def told(status: dict[str, Any], workers: int, queue: str) -> str:
    """What serves, in one line for people; `workers` were planned, `queue` is the path of the application's socket."""
    if not status["release"]:
        return "nothing is served yet"
    answer = f"answers {status['answer']} in {status['answer_seconds']} s" if status["answer"] else status["error"]
    return (
        f"release {status['release']} in slot {status['slot']} since {status['since']} by {status['by']}; "
        f"{len(status['workers'])} of {workers} workers are ready, {status['waiting'].get(queue, 0)} of at most "
        f"{status['queues'].get(queue, 0)} requests wait; {answer}"
    )


def children(parent: int, proc: Path = Path("/proc")) -> set[int]:
    """The child processes of a process."""
    found = set()
    for each in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if parent and int(each.read_text().rpartition(")")[2].split()[1]) == parent:
                found.add(int(each.parent.name))
    return found


def days_left(certificate: bytes, now: float) -> int | None:
    """Whole days until a certificate (DER) ends, negative after that; None when it cannot be read."""
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-enddate"]
    with contextlib.suppress(OSError, ValueError):
        said = subprocess.run(command, input=certificate, capture_output=True, check=False).stdout.decode()
        return int((ssl.cert_time_to_seconds(said.strip().partition("=")[2]) - now) // 86_400)
    return None


def ask(address: tuple[str, int], host: str, path: str, tls: bool, seconds: float) -> dict[str, Any]:
    """What a visitor of `host` gets, who tries again as long as NGINX asks for it because the queue is full."""
    begun = time.monotonic()
    while True:
        left = begun + seconds - time.monotonic()
        found = ask_once(address, host, path, tls, max(left, 0.1))
        if not found.pop("again") or left < AGAIN_SECONDS:
            return {**found, "answer_seconds": round(time.monotonic() - begun, 3)}
        time.sleep(AGAIN_SECONDS)


def ask_once(address: tuple[str, int], host: str, path: str, tls: bool, seconds: float) -> dict[str, Any]:
    """One request to this host's NGINX."""
    found: dict[str, Any] = {"answer": 0, "error": "", "certificate_days": None, "again": False}
    connection = http.client.HTTPConnection(host, timeout=seconds)
    try:
        connection.sock = socket.create_connection(address, timeout=seconds)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False  # the certificate is its owner's affair; here only the way through counts
            context.verify_mode = ssl.CERT_NONE
            connection.sock = secure = context.wrap_socket(connection.sock, server_hostname=host)
            found["certificate_days"] = days_left(secure.getpeercert(binary_form=True) or b"", time.time())
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        found["answer"] = answer.status
        found["again"] = answer.status == 503 and bool(answer.headers.get("Retry-After"))
    except (OSError, http.client.HTTPException) as error:
        found["error"] = str(error)
    finally:
        connection.close()
    return found


def main() -> None:
    """Read and tell."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "application": text,
            "home": {"type": "path", "required": True},
            "host": text,
            "health_path": text,
            "workers": {"type": "int", "required": True},
            "tls": {"type": "bool", "default": False},
            "seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    wish = module.params
    status: dict[str, Any] = {
        "slot": None,
        "release": None,
        "previous": None,
        "since": None,
        "by": None,
        "workers": [],
    }
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(Path(wish["home"], "active", "slot.json").read_text(encoding="utf-8"))
        status.update({key: facts.get(key) for key in ("slot", "release", "previous", "since", "by")})
        unit = f"{wish['application']}@{status['slot']}.service"
        alive = children(int(run("systemctl", "show", "-p", "MainPID", "--value", unit) or 0))
        markers = Path("/run", f"{wish['application']}-{status['slot']}", "workers")
        status["workers"] = sorted(alive & {int(each.name) for each in markers.iterdir() if each.name.isdigit()})
    listing = run("ss", "-lntxH")
    status["queues"], status["waiting"] = queues(listing), waiting(listing)
    status["somaxconn"] = None
    with contextlib.suppress(OSError, ValueError):  # the kernel hides it from an unprivileged container
        status["somaxconn"] = int(Path("/proc/sys/net/core/somaxconn").read_text())
    address = ("127.0.0.1", 443 if wish["tls"] else 80)
    status.update(ask(address, wish["host"], wish["health_path"], wish["tls"], wish["seconds"]))
    days = status["certificate_days"]
    if days is not None and days < CERTIFICATE_DAYS:
        module.warn(
            f"The certificate that NGINX shows for {wish['host']} ends in {days} days; put a new one in its place."
        )
    line = told(status, wish["workers"], f"/run/{wish['application']}.sock")
    module.exit_json(changed=False, status=status, line=line)


if __name__ == "__main__":
    main()
