"""The applications that the sizing benchmark deploys: what a request costs, on how large a host, and what is asked of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """One kind of application. `urls` are paths with weights; the objective is p95 in seconds on a host of `memory_mb`.

    A probe lasts from the first to the second of `probe_seconds`.
    """

    name: str
    title: str
    urls: Mapping[str, float]
    objective_seconds: float
    memory_mb: int = 1024
    environment: Mapping[str, str] = field(default_factory=dict)
    probe_seconds: tuple[float, float] = (4.0, 8.0)


def _path(cpu_ms: float, wait_ms: float, scv: float = 0) -> str:
    return f"/?cpu_ms={cpu_ms:g}&wait_ms={wait_ms:g}" + (f"&scv={scv:g}" if scv else "")


WORKS = (
    Work("io", "I/O-bound, 2 + 50 ms", {_path(2, 50): 1}, 0.15),
    Work("mixed3", "mixed 1:3, 8 + 24 ms", {_path(8, 24): 1}, 0.15),
    Work("mixed1", "mixed 1:1, 15 + 15 ms", {_path(15, 15): 1}, 0.2),
    # With 4 seconds the same configuration carried from 147 to 184 requests a second.
    Work("tail", "heavy-tailed, 5 + 45 ms, Cs² 4", {_path(5, 45, 4): 1}, 0.4, probe_seconds=(12.0, 12.0)),
    Work(
        "memory",
        "little memory, 4 + 40 ms",
        {_path(4, 40): 1},
        0.2,
        memory_mb=512,
        environment={"SHARED_MB": "40", "PRIVATE_MB": "30"},
    ),
    Work("boot", "long boot of 5 s, 5 + 20 ms", {_path(5, 20): 1}, 0.15, environment={"BOOT_SECONDS": "5"}),
    Work("slow", "2 % slow, 3 + 10 and 10 + 600 ms", {_path(3, 10): 49, _path(10, 600): 1}, 0.15),
    Work("cpu", "CPU-bound, 20 ms", {_path(20, 0): 1}, 0.2),
)
"""Eight; the paths say what `application/app.py` does for them."""
