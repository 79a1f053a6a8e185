"""What the host spent in the window of a step, from the samples that its watch has noted. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from farrier.loadtest.rows import Running, Usage
from farrier.loadtest.step import Amount, Count

Service = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,80}$")]

CLOCKS_AGREE_SECONDS = 2.0
"""Two clocks that differ by less are taken for one: what Ansible's answer takes cannot be told from a difference."""


@dataclass(frozen=True)
class HostSample:
    """What the watch saw at one moment; `host`, `slot`, `nginx`, `machine`, `stolen` and `services` count CPU seconds."""

    time: Amount
    """By the host's clock."""
    host: Amount
    slot: Amount
    nginx: Amount
    workers: Count
    """Those that are ready."""
    main_pid: Count
    """Of the slot; 0 where none serves."""
    machine: Amount
    """Busy CPUs of the whole machine, of which the host may be a container."""
    stolen: Amount
    services: Annotated[Mapping[Service, Amount], Field(max_length=64)]
    """Other services by name."""


class ReadyMark(BaseModel):
    """The settings that a worker says it runs with."""

    worker_class: str = ""
    workers: Count | None = None
    threads: Count | None = None
    worker_connections: Count | None = None
    backlog: Count | None = None

    @property
    def running(self) -> Running | None:
        """The same as a plan would say it; None where something is missing."""
        each = self.worker_connections if self.worker_class == "gevent" else self.threads
        if self.workers is None or each is None or self.backlog is None:
            return None
        return Running(self.workers, each, self.backlog)


def offset_seconds(host_time: float, own_time: float) -> float:
    """How much the host's clock is ahead, from one answer of Ansible."""
    ahead = host_time - own_time
    return ahead if abs(ahead) >= CLOCKS_AGREE_SECONDS else 0.0


def usage(samples: Sequence[HostSample], begun: float, seconds: float, *, nginx: bool = True) -> Usage:
    """What was spent from `begun` on (the host's clock); nothing is known where the samples do not reach."""
    end = begun + seconds
    if len(samples) < 2 or samples[0].time > begun or samples[-1].time < end:
        return Usage()
    within = [sample for sample in samples if begun <= sample.time <= end]
    mains = {sample.main_pid for sample in within}
    whole = mains != {0}

    def rate(count: Callable[[HostSample], float]) -> float:
        return (_at(samples, count, end) - _at(samples, count, begun)) / seconds

    host = rate(lambda at: at.host)
    return Usage(
        host=host,
        application=rate(lambda at: at.slot) if whole else None,
        nginx=rate(lambda at: at.nginx) if nginx else None,
        workers=min((sample.workers for sample in within), default=0) if whole else None,
        restarted=len(mains) > 1,
        elsewhere=max(0.0, rate(lambda at: at.machine) - host),
        stolen=rate(lambda at: at.stolen),
        services=_services(samples, begun, end),
    )


def _services(samples: Sequence[HostSample], begun: float, end: float) -> dict[str, float]:
    """What each of the other services spent for each second, as far as it has a name."""
    first, last = (next(sample.services for sample in samples if sample.time >= moment) for moment in (begun, end))
    spent = {name: (used - first.get(name, 0.0)) / (end - begun) for name, used in last.items()}
    return {name: rate for name, rate in spent.items() if rate > 0}


def _at(samples: Sequence[HostSample], count: Callable[[HostSample], float], moment: float) -> float:
    """A counter at a moment, between the two samples around it."""
    number = next(number for number, sample in enumerate(samples) if sample.time >= moment)
    before, after = samples[max(0, number - 1)], samples[number]
    if after.time <= before.time:
        return count(after)
    return count(before) + (count(after) - count(before)) * (moment - before.time) / (after.time - before.time)
