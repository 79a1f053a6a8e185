"""Predicted latency against load: the curve of the plan, its marks, and the curves of other people's rules beside it."""

from dataclasses import dataclass, replace

from farrier.plan.comparison import compare
from farrier.plan.draft import Draft
from farrier.sizing.latency import Service

Point = tuple[float, float]
"""Requests a second, p95 in seconds."""

SHARES = tuple(step / 100 for step in range(1, 90)) + tuple(1 - 0.1 * 0.9**step for step in range(61))
"""Loads as shares of the capacity at which a curve is drawn: closer together where it bends, up to 99.98 %."""


@dataclass(frozen=True)
class Curve:
    """One choice of workers and threads; several rules may come to the same."""

    names: tuple[str, ...]
    service: Service
    fits: bool
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Picture:
    """Everything that is drawn for one host. Latency in seconds, rate in requests per second.

    `full_queue_seconds` is the p95 of a request that gets the last place in the backlog.
    """

    own: Curve
    rules: tuple[Curve, ...]
    knee: Point
    backlog: int
    full_queue_seconds: float
    peak: float | None
    peak_p95: float | None
    objective: float | None

    @property
    def capacity_rps(self) -> float:
        """X of the plan."""
        return self.own.service.capacity_rps


def picture(draft: Draft) -> Picture:
    """The curves and marks of one host; rules that choose what Farrier chose are part of its own curve."""
    work, service = draft.workload, draft.service
    chosen: dict[tuple[int, int], list[str]] = {}
    fits: dict[tuple[int, int], bool] = {}
    for row in compare(draft).rows:
        pair = (row.service.workers, row.service.per_worker)
        chosen.setdefault(pair, []).append(row.name)
        fits[pair] = row.fits
    curves = [
        _curve(tuple(names), replace(service, workers=pair[0], per_worker=pair[1]), fits=fits[pair])
        for pair, names in chosen.items()
    ]
    own, rules = curves[0], sorted(curves[1:], key=lambda curve: curve.service.capacity_rps)
    backlog, peak = draft.number("gunicorn.backlog"), work.peak_rps
    carried = peak is not None and peak < service.capacity_rps
    return Picture(
        own,
        tuple(rules),
        (service.knee_rps, service.p95_seconds(service.knee_rps)),
        backlog,
        service.service_seconds + backlog / service.capacity_rps,
        peak,
        service.p95_seconds(peak) if peak is not None and carried else None,
        work.latency_p95_seconds,
    )


def _curve(names: tuple[str, ...], service: Service, *, fits: bool) -> Curve:
    rates = [share * service.capacity_rps for share in SHARES]
    return Curve(names, service, fits, tuple((rate, service.p95_seconds(rate)) for rate in rates))
