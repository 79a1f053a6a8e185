"""The rows of a load test as text: CSV for other programs, a table for people. Pure."""

import csv
import io
from collections.abc import Sequence
from math import isfinite

from farrier.loadtest.rows import StepResult
from farrier.loadtest.samples import UNANSWERED
from farrier.wording import number

FIELDS = (
    "rps", "seconds", "offered", "offered_rps", "good", "good_rps", "carried", "p50_seconds", "p95_seconds", "p99_seconds",
    "mean_seconds", "predicted_p95_seconds", "shed_503", "bad_gateway_502", "gateway_timeout_504", "timeouts", "other_errors",
    "unfinished_at_end", "host_cpu", "application_cpu", "nginx_cpu", "ready_workers", "generator_cpu",
    "generator_lateness_p95_seconds", "generator_limited",
    "other_services_cpu", "elsewhere_cpu", "stolen_cpu",
)  # fmt: skip
"""Columns of the CSV; CPU is in CPUs, that is seconds for each second."""

ERRORS = {
    "503": "shed (503)",
    "502": "bad gateway (502)",
    "504": "gateway timeout (504)",
    "timeout": "no response in time",
}
"""Kinds of failure with a name of their own."""


def errors(row: StepResult) -> dict[str, int]:
    """Failed requests by the name of their kind, or by word or status for any other kind."""
    found = dict.fromkeys(ERRORS.values(), 0)
    for kind, count in row.step.kinds.items():
        if kind in UNANSWERED or kind[0] not in "23":
            name = ERRORS.get(kind, kind if kind in UNANSWERED else f"status {kind}")
            found[name] = found.get(name, 0) + count
    return found


def csv_text(rows: Sequence[StepResult]) -> str:
    """One line per step; unknown or infinite values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in rows:
        writer.writerow(_plain(value) for value in _values(row))
    return out.getvalue()


def _values(row: StepResult) -> tuple[object, ...]:
    step, usage, latency = row.step, row.usage, row.step.latency
    failed = errors(row)
    named = [failed.pop(name) for name in ERRORS.values()]
    return (
        step.rps, step.seconds, step.offered, step.offered_rps, step.good, step.good_rps, row.carried,
        latency.p50, latency.p95, latency.p99, latency.mean, row.predicted_p95,
        *named, sum(failed.values()),
        step.in_flight, usage.host, usage.application, usage.nginx, usage.workers,
        step.cpu_share, step.lateness_p95_seconds, row.limited is not None,
        usage.others, usage.elsewhere, usage.stolen,
    )  # fmt: skip


def _plain(value: object) -> object:
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return round(value, 6) if isinstance(value, float) else value


HEADINGS = (
    "sent/s", "good/s", "failed", "p50 ms", "p95 ms", "predicted", "p99 ms", "CPUs: host", "app", "NGINX", "generator",
)  # fmt: skip


def cells(row: StepResult) -> tuple[str, ...]:
    """One step for display; latency in milliseconds, the host's CPU in CPUs, the generator's in % of a core."""
    step, usage, latency = row.step, row.usage, row.step.latency
    return (
        number(step.offered_rps, 1),
        number(step.good_rps, 1),
        "-" if not row.failed_share else f"{number(100 * row.failed_share, 1)} %",
        *(_time(value) for value in (latency.p50, latency.p95, row.predicted_p95, latency.p99)),
        *(_cpus(value) for value in (usage.host, usage.application, usage.nginx)),
        f"{number(100 * step.cpu_share, 0)} %",
    )


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else number(1000 * seconds, 1) if isfinite(seconds) else "beyond"


def _cpus(value: float | None) -> str:
    return "-" if value is None else number(value)
