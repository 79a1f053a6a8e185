"""What the host spent in the window of a step, from the samples that its watch has noted. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from farrier.loadtest.rows import Running, Usage

CLOCKS_AGREE_SECONDS = 2.0
"""Two clocks that differ by less are taken for one: what Ansible's answer takes cannot be told from a difference."""

Sample = Sequence[Any]
"""Time, CPU seconds of host, slot and NGINX, ready workers, main process of the slot, then (a watch of today) busy and stolen
CPU seconds of the whole machine, and those of other services by name."""


def offset_seconds(host_time: float, own_time: float) -> float:
    """How much the host's clock is ahead, from one answer of Ansible."""
    ahead = host_time - own_time
    return ahead if abs(ahead) >= CLOCKS_AGREE_SECONDS else 0.0


def usage(samples: Sequence[Sample], begun: float, seconds: float, *, nginx: bool = True) -> Usage:
    """What was spent from `begun` on (the host's clock); nothing is known where the samples do not reach."""
    end = begun + seconds
    if len(samples) < 2 or samples[0][0] > begun or samples[-1][0] < end:
        return Usage()
    host, slot, proxy = ((_at(samples, i, end) - _at(samples, i, begun)) / seconds for i in (1, 2, 3))
    within = [sample for sample in samples if begun <= sample[0] <= end]
    mains = {sample[5] for sample in within}
    whole = mains != {0}
    beside = len(samples[0]) > 6
    machine, stolen = ((_at(samples, i, end) - _at(samples, i, begun)) / seconds if beside else None for i in (6, 7))
    return Usage(
        host=host,
        application=slot if whole else None,
        nginx=proxy if nginx else None,
        workers=int(min((sample[4] for sample in within), default=0)) if whole else None,
        restarted=len(mains) > 1,
        elsewhere=None if machine is None else max(0.0, machine - host),
        stolen=stolen,
        services=_services(samples, begun, end) if beside else {},
    )


def running(settings: Mapping[str, Any]) -> Running | None:
    """What the ready mark of a worker says, as a plan would; None where it does not say all."""
    each = settings.get("worker_connections" if settings.get("gevent") else "threads")
    workers, backlog = settings.get("workers"), settings.get("backlog")
    return None if workers is None or each is None or backlog is None else Running(workers, each, backlog)


def _services(samples: Sequence[Sample], begun: float, end: float) -> dict[str, float]:
    """What each of the other services spent for each second, as far as it has a name."""
    first, last = (next(sample[8] for sample in samples if sample[0] >= moment) for moment in (begun, end))
    spent = {name: (used - first.get(name, 0.0)) / (end - begun) for name, used in last.items()}
    return {name: rate for name, rate in spent.items() if rate > 0}


def _at(samples: Sequence[Sample], field: int, moment: float) -> float:
    """A counter at a moment, between the two samples around it."""
    after = next(i for i, sample in enumerate(samples) if sample[0] >= moment)
    if after == 0:
        return float(samples[0][field])
    (t0, t1), (v0, v1) = ((float(samples[after - 1][i]), float(samples[after][i])) for i in (0, field))
    return v0 + (v1 - v0) * (moment - t0) / (t1 - t0) if t1 > t0 else v1
