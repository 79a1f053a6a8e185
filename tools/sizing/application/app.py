"""An application whose requests cost what their address says: CPU seconds, waiting, a spread, and memory at import."""

import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from math import exp, log, sqrt
from typing import Any
from urllib.parse import parse_qs

PIECE = range(400)
"""Work between two looks at the clock: about 10 µs, so that a request is exact to that."""

# An import that takes its time, and memory that preloaded workers share.
time.sleep(float(os.environ.get("BOOT_SECONDS", "0")))
SHARED = bytearray(os.urandom(1024) * 1024 * int(os.environ.get("SHARED_MB", "0")))

_private: list[bytearray] = []
_growing = threading.Lock()


def compute(seconds: float) -> None:
    """Use the CPU for so long, by the thread's own clock: a thread that stands in line for the GIL uses nothing."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in PIECE:
            pass


def grow(megabytes: int) -> None:
    """Hold memory that no other worker shares, from the first request on."""
    with _growing:
        if megabytes and not _private:
            _private.append(bytearray(os.urandom(1024) * 1024 * megabytes))


def factor(scv: float) -> float:
    """A lognormal multiple with mean 1 and this squared coefficient of variation."""
    if not scv:
        return 1.0
    sigma = sqrt(log(1 + scv))
    return exp(random.gauss(-sigma * sigma / 2, sigma))


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]
) -> Iterable[bytes]:
    """Answer after `cpu_ms` of computing and `wait_ms` of waiting, in `parts` that alternate; both spread by `scv`."""
    asked = {name: float(values[0]) for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    parts = int(asked.get("parts", 2))
    multiple = factor(asked.get("scv", 0.0))
    cpu, wait = asked.get("cpu_ms", 0.0) * multiple / 1000, asked.get("wait_ms", 0.0) * multiple / 1000
    grow(int(os.environ.get("PRIVATE_MB", "0")))
    for part in range(parts):
        compute(cpu / parts)
        if wait and part < parts - 1:
            time.sleep(wait / (parts - 1))
    body = b"shod\n" * 400
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
