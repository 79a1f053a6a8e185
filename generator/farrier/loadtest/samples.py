"""Samples of one step of load, by each worker: how they travel, and what they come to together."""

import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import Any

UNFINISHED = "unfinished"
"""Had no response when the step stopped waiting."""

UNSENT = "unsent"
"""Was due, but the generator had reached its limit of requests in flight."""

KIND = re.compile(r"[0-9a-z]{1,20}")
"""The form of a kind, whoever reports it."""

MOST_BYTES = 1 << 30
"""Bytes of one array of samples; a million requests take eight million bytes."""

UNANSWERED = {"timeout", "refused", "reset", "unreachable", "tls", "failed", UNFINISHED, UNSENT}
"""Outcomes of a request other than a response, which is known by its status."""


@dataclass
class Samples:
    """One worker's samples of one step, by request; the arrays go from worker to master as bytes."""

    kinds: list[str] = field(default_factory=list)
    kind: "array[int]" = field(default_factory=lambda: array("B"))
    request: "array[int]" = field(default_factory=lambda: array("H"))
    due: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds since the step began."""
    latency: "array[float]" = field(default_factory=lambda: array("d"))
    late: "array[float]" = field(default_factory=lambda: array("d"))
    cpu_share: float = 0.0
    in_flight: int = 0
    drain_seconds: float = 0.0

    def add(self, kind: str, request: int, due: float, latency: float, late: float) -> None:
        """Add one request and its outcome."""
        if kind not in self.kinds:
            self.kinds.append(kind)
        self.kind.append(self.kinds.index(kind))
        self.request.append(request)
        self.due.append(due)
        self.latency.append(latency)
        self.late.append(late)

    def check(self, requests: int | None) -> None:
        """ValueError for samples that contradict themselves, or are not finite."""
        right = isinstance(self.kinds, list) and all(
            isinstance(kind, str) and KIND.fullmatch(kind) for kind in self.kinds
        )
        right = right and len({len(each) for each in (self.kind, self.request, self.due, self.latency, self.late)}) == 1
        right = right and max(self.kind, default=-1) < len(self.kinds)
        right = right and (requests is None or max(self.request, default=-1) < requests)
        right = right and all(isfinite(value) for each in (self.due, self.latency, self.late) for value in each)
        numbers = (self.cpu_share, self.drain_seconds, self.in_flight)
        right = right and all(isinstance(value, int | float) and isfinite(value) and value >= 0 for value in numbers)
        if not right:
            raise ValueError("a worker's samples cannot be used: they contradict themselves")

    def packed(self) -> dict[str, Any]:
        """Everything in the types of a message."""
        return {name: value.tobytes() if isinstance(value, array) else value for name, value in vars(self).items()}


def unpacked(message: object, requests: int | None = None) -> Samples:
    """Unpack samples from `Samples.packed`, for so many kinds of requests; ValueError for anything a worker would not send."""
    samples = Samples()
    own = vars(samples)
    if not isinstance(message, Mapping) or set(message) != set(own):
        raise ValueError("a worker's samples are of another version")
    for name, value in message.items():
        if isinstance(own[name], array):
            if not isinstance(value, bytes) or len(value) % own[name].itemsize or len(value) > MOST_BYTES:
                raise ValueError(f"a worker's samples cannot be used: {name}")
            own[name].frombytes(value)
        else:
            setattr(samples, name, value)
    samples.check(requests)
    return samples


def is_good(kind: str) -> bool:
    """Whether a status means success; a redirect does, and is not followed."""
    return kind[0] in "23" and kind not in UNANSWERED


def at_share(ordered: Sequence[float], share: float) -> float | None:
    """The percentile by nearest rank; None if there are no values."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


def summary(
    samples: Sequence[Samples],
    names: Sequence[str],
    *,
    rps: float,
    seconds: float,
    warm_seconds: float,
    begun: float = 0.0,
) -> dict[str, Any]:
    """All workers' samples of one step, in JSON's types, for `step.step_from`."""
    end = warm_seconds + seconds
    by_path: list[list[tuple[str, float]]] = [[] for _ in names]
    late: list[float] = []
    came = 0
    for one in samples:
        for kind, request, due, latency, lateness in zip(
            (one.kinds[index] for index in one.kind), one.request, one.due, one.latency, one.late, strict=True
        ):
            came += is_good(kind) and warm_seconds <= due + latency < end
            if due >= warm_seconds:
                by_path[request].append((kind, latency))
                if kind != UNSENT:
                    late.append(lateness)
    return {
        **_outcome([pair for path in by_path for pair in path]),
        "rps": rps,
        "seconds": seconds,
        "warm_seconds": warm_seconds,
        "good_rps": came / seconds,
        "paths": {name: _outcome(path) for name, path in zip(names, by_path, strict=True)},
        "in_flight": sum(one.in_flight for one in samples),
        "lateness_p95_seconds": at_share(sorted(late), 0.95) or 0.0,
        "cpu_share": max((one.cpu_share for one in samples), default=0.0),
        "drain_seconds": max((one.drain_seconds for one in samples), default=0.0),
        "begun": begun,
        "workers": len(samples),
    }


def _outcome(pairs: Sequence[tuple[str, float]]) -> dict[str, Any]:
    times = sorted(latency for kind, latency in pairs if is_good(kind))
    return {
        "offered": len(pairs),
        "kinds": dict(sorted(Counter(kind for kind, _ in pairs).items())),
        "latency": {
            "p50": at_share(times, 0.5),
            "p95": at_share(times, 0.95),
            "p99": at_share(times, 0.99),
            "mean": sum(times) / len(times) if times else None,
            "longest": at_share(times, 1.0),
        },
    }
