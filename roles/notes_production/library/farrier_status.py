#!/usr/bin/python
"""What serves on this host right now: read from the living processes and the kernel, not from files that say so."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import time
from typing import Any

from ansible.module_utils import farrier_configurations as configurations
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_host import Failure, children, main_pid, output, read
from ansible.module_utils.farrier_slot import RUN, ready_workers
from ansible.module_utils.farrier_text import shown

DOCUMENTATION = r"""
module: farrier_status
short_description: Tell what serves on this host right now
description:
  - Reads the active slot, its ready workers, the lengths of the accept queues, and what NGINX answers on the health path.
  - Changes nothing, and needs no root. Who may not look for the marks of ready workers sees how many run.
options:
  application: {type: str, required: true, description: Name of the application and of its units.}
  home: {type: path, required: true, description: Directory that holds C(slots).}
  host: {type: str, required: true, description: Host of the request.}
  health_path: {type: str, required: true, description: Path of the request.}
  workers: {type: int, required: true, description: "How many workers the host was planned with, where the slot does not say it."}
  tls: {type: bool, default: false, description: Ask over TLS.}
  seconds: {type: int, default: 30, description: "How long the response may take, with all that is asked again because the queue was full."}
author: Farrier
"""

RETURN = r"""
status:
  description:
    - slot, release, previous, since and by of the active slot.
    - workers are the process ids of its ready workers; where ready is false, of all that run, because their marks cannot be
      seen; null where /proc hides them, too.
    - expected is how many workers its configuration asks for.
    - queues holds the length of each accept queue by address, waiting how many connections are in it; somaxconn is the longest
      that the kernel allows, null where it cannot be read.
    - certificate_days says how long the certificate is still valid that NGINX shows; less than three weeks are warned of.
    - response is the status that NGINX gave, or 0 with the reason in error; response_seconds is how long it took.
  returned: always
  type: dict
line: {description: The same in one line for people., returned: always, type: str}
healthy: {description: "Whether all workers serve, as far as they can be seen, and the health path answers.", returned: always, type: bool}
"""

CERTIFICATE_DAYS = 21
"""A certificate that ends within this time should have been renewed: ACME clients do it 30 days before the end."""

SOMAXCONN = "/proc/sys/net/core/somaxconn"

LONGEST_LINE = 500
"""What the playbook shows of a line; real ones have half of it."""

AGAIN_SECONDS = 0.3
"""How long to wait before asking again; less than the Retry-After for visitors, as nobody else asks here."""


def queues(listing: str) -> dict[str, tuple[int, int]]:
    """How many connections wait and how many may, for each listening socket out of `ss -lntxH`, by path or address."""
    return {
        words[4]: (int(words[2]), int(words[3]))
        for words in map(str.split, listing.splitlines())
        if len(words) > 4 and words[0] in ("u_str", "tcp") and words[1] == "LISTEN" and words[3].isdigit()
    }


def told(status: dict[str, Any], queue: str) -> str:
    """What serves, in one line for people; `queue` is the path of the application's socket."""
    if not status["release"]:
        return "nothing is served yet"
    response = (
        f"answers {status['response']} in {status['response_seconds']} s" if status["response"] else status["error"]
    )
    line: str = shown(
        f"release {status['release']} in slot {status['slot']} since {status['since']} by {status['by']}; "
        f"{told_of_workers(status)}, {status['waiting'].get(queue, 0)} of at most "
        f"{status['queues'].get(queue, 0)} requests wait; {response}",
        LONGEST_LINE,
    )
    return line


def told_of_workers(status: dict[str, Any]) -> str:
    """How many workers there are, and what whoever asks may not see of them."""
    if status["workers"] is None:
        return f"{status['expected']} workers expected (use -b to see how many run)"
    many = f"{len(status['workers'])} of {status['expected']} workers"
    return f"{many} are ready" if status["ready"] else f"{many} running (use -b to see whether they are ready)"


def healthy(status: dict[str, Any]) -> bool:
    """Whether visitors are served as they should be."""
    enough = status["workers"] is None or len(status["workers"]) >= status["expected"]
    return bool(status["release"]) and enough and 200 <= status["response"] < 400


def living(application: str, home: str, workers: int) -> dict[str, Any]:
    """What the slot that counts was filled with, and its workers that are ready."""
    slot = configurations.active_slot(home)
    facts = configurations.slot_facts(home, slot) if slot else {}
    found: dict[str, Any] = {key: facts.get(key) for key in ("slot", "release", "previous", "since", "by")}
    number = facts.get("workers")
    found["expected"] = number if isinstance(number, int) else workers
    found["workers"], found["ready"] = workers_of(application, slot) if slot else ([], True)
    return found


def workers_of(application: str, slot: str, runtime: str = RUN, proc: str = "/proc") -> tuple[list[int] | None, bool]:
    """Its workers, None where they cannot be seen, and whether they are those that are ready or all that run."""
    root, marks = os.geteuid() == 0, f"{application}-{slot}/workers"
    seen = root or os.access(f"{proc}/1/stat", os.R_OK)  # with hidepid everybody sees only what is their own
    try:
        master = main_pid(f"{application}@{slot}.service")
    except Failure:
        return ([], True) if root else (None, False)  # whoever is not root needs D-Bus for it, which not every host has
    if root or not master or (seen and os.access(f"{runtime}/{marks}", os.R_OK | os.X_OK)):
        return ready_workers(marks, master, runtime, proc), True
    with contextlib.suppress(OSError):
        return children(master, proc) if seen else None, False
    return None, False


def longest_queue() -> int | None:
    """The longest queue that the kernel allows; None where that cannot be read, as in an unprivileged container."""
    found = read(SOMAXCONN).strip()
    return int(found) if found.isdecimal() else None


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
            return {**found, "response_seconds": round(time.monotonic() - begun, 3)}
        time.sleep(AGAIN_SECONDS)


def ask_once(address: tuple[str, int], host: str, path: str, tls: bool, seconds: float) -> dict[str, Any]:
    """One request to this host's NGINX."""
    found: dict[str, Any] = {"response": 0, "error": "", "certificate_days": None, "again": False}
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
        response = connection.getresponse()
        found["response"] = response.status
        found["again"] = response.status == 503 and bool(response.headers.get("Retry-After"))
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
    if os.path.exists(wish["home"]) and not os.access(wish["home"], os.X_OK):
        module.fail_json(msg=f"{wish['home']} is not accessible to this user; use root (-b)")
    status = living(wish["application"], wish["home"], wish["workers"])
    found = queues(output("ss", "-lntxH"))
    status["waiting"] = {address: waiting for address, (waiting, _) in found.items()}
    status["queues"] = {address: length for address, (_, length) in found.items()}
    status["somaxconn"] = longest_queue()
    if status["somaxconn"] is None:
        module.warn(f"{SOMAXCONN} cannot be read, so net.core.somaxconn is not compared with the plan.")
    address = ("127.0.0.1", 443 if wish["tls"] else 80)
    status.update(ask(address, wish["host"], wish["health_path"], wish["tls"], wish["seconds"]))
    days = status["certificate_days"]
    if days is not None and days < CERTIFICATE_DAYS:
        module.warn(f"The certificate that NGINX serves for {wish['host']} expires in {days} days; renew it.")
    line = told(status, f"/run/{wish['application']}.sock")
    module.exit_json(changed=False, status=status, line=line, healthy=healthy(status))


if __name__ == "__main__":
    main()
