"""Explanations of a load test beyond the terms of the prediction: the proxy, failures, restarts, the machine. Pure."""

from collections.abc import Iterator, Sequence

from farrier.loadtest import bounds
from farrier.loadtest.rows import StepResult
from farrier.loadtest.schedule import Prediction
from farrier.wording import counted, milliseconds, number, per_second

MACHINE_SHARE = 0.1
"""CPU used by others on the machine matters from this share of the host's CPUs on, or of the machine's if it has spare ones."""


def rate(row: StepResult) -> str:
    """The rate of a step, for a sentence."""
    return per_second(row.step.rps)


def proxy(rows: Sequence[StepResult], prediction: Prediction) -> str | None:
    """NGINX's own CPU, if its excess over the plan matters beside the application's."""
    seen = [row.nginx_per_request() for row in rows if row.carried]
    spent = next((value for value in reversed(seen) if value is not None), None)
    if spent is None or spent - prediction.proxy_cpu_seconds <= bounds.LOADTEST_PART * prediction.cpu_seconds:
        return None
    return f"NGINX: {milliseconds(spent)} of CPU per request; planned with {milliseconds(prediction.proxy_cpu_seconds)}"


def failures(rows: Sequence[StepResult], prediction: Prediction) -> str | None:
    """Failures at rates that the host should have carried."""
    failing = [
        row for row in rows if row.step.rps < prediction.capacity_rps and row.failed_share > bounds.LOADTEST_FAILED
    ]
    if not failing:
        return None
    row = failing[0]
    bad = {kind: count for kind, count in row.step.kinds.items() if kind[0] not in "23"}
    kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(bad.items(), key=lambda item: -item[1]))
    return f"errors: {number(100 * row.failed_share, 1)} % at {rate(row)}, below the predicted capacity: {kinds}"


def machine(rows: Sequence[StepResult], prediction: Prediction, machine_cpus: int) -> Iterator[str]:
    """What others on the same machine used, if it is enough to matter."""
    stolen = max((row.usage.stolen or 0.0 for row in rows), default=0.0)
    if stolen > MACHINE_SHARE * prediction.cpus:
        yield (
            f"steal: the hypervisor withheld up to {counted(round(stolen, 2), 'CPU')} from this machine; test again when "
            "it is idle, or plan for fewer CPUs"
        )
    elsewhere = max((row.usage.elsewhere or 0.0 for row in rows), default=0.0)
    if machine_cpus and elsewhere > max(
        MACHINE_SHARE * prediction.cpus, machine_cpus - prediction.cpus - MACHINE_SHARE * machine_cpus
    ):
        yield (
            f"machine: other processes on it, outside this host, used up to {number(elsewhere)} of its "
            f"{counted(machine_cpus, 'CPU')}; test again when it is idle, or plan for fewer CPUs"
        )


def restarts(rows: Sequence[StepResult]) -> str | None:
    """Says that the slot was restarted or switched."""
    row = next((row for row in rows if row.usage.restarted), None)
    return f"the slot was restarted or switched at {rate(row)}" if row else None
