"""What a load test says: which rate was carried, what broke, and which term of the prediction is off. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from farrier import policy
from farrier.loading.schedule import Prediction
from farrier.loading.step import UNSENT, Step
from farrier.units import counted, mb, milliseconds, number


@dataclass(frozen=True)
class Usage:
    """What the host spent in the window of a step, in CPU seconds for each second; None where it could not be seen."""

    host: float | None = None
    application: float | None = None
    nginx: float | None = None
    workers: int | None = None
    """The fewest ready workers at any moment."""
    restarted: bool = False

    @property
    def others(self) -> float | None:
        """What neither the application nor NGINX spent."""
        if self.host is None or self.application is None or self.nginx is None:
            return None
        return max(0.0, self.host - self.application - self.nginx)


@dataclass(frozen=True)
class Row:
    """One step beside its prediction and beside what the host spent for it."""

    step: Step
    usage: Usage
    predicted_p95: float

    @property
    def limited(self) -> str | None:
        """Why the generator was the limit of this step; None when it was not."""
        step = self.step
        if unsent := step.kinds.get(UNSENT, 0):
            return f"{counted(unsent, 'request')} could not be sent, for the bound of requests under way was reached"
        if step.cpu_share >= policy.GENERATOR_CPU:
            return f"it took {number(100 * step.cpu_share, 0)} % of one core"
        allowed = max(policy.GENERATOR_LATE_SECONDS, policy.GENERATOR_LATE_SHARE * (step.latency.p50 or 0.0))
        if step.lateness_p95_seconds > allowed:
            return f"it sent up to {milliseconds(step.lateness_p95_seconds)} late (p95)"
        return None

    @property
    def failed_share(self) -> float:
        """Share of the requests that got no good answer."""
        return 1 - self.step.good / self.step.offered if self.step.offered else 0.0

    @property
    def carried(self) -> bool:
        """Whether the good answers kept up with the arrivals."""
        step = self.step
        short = step.offered - step.good_rps * step.seconds
        # Requests begin before the window and end after it: by Little's law this many, with the chance of their number.
        chance = 2 * (step.offered_rps * (step.latency.mean or 0.0)) ** 0.5 + 1
        kept = step.offered - step.good <= policy.LOADTEST_FAILED * step.offered
        return kept and short <= policy.LOADTEST_BEHIND * step.offered + chance

    def cpu_per_request(self) -> float | None:
        """CPU seconds of the application for one good answer."""
        return _per(self.usage.application, self.step.good_rps)

    def nginx_per_request(self) -> float | None:
        """CPU seconds of NGINX for one arrival: it also answers what it refuses."""
        return _per(self.usage.nginx, self.step.offered_rps)

    def cpu_both(self) -> float | None:
        """CPU seconds that a request takes of the application and of NGINX, one after the other."""
        cpu = self.cpu_per_request()
        return None if cpu is None else cpu + (self.nginx_per_request() or 0.0)


def _alone_seconds(row: Row, told: Prediction) -> float | None:
    """Mean latency without the wait for a CPU: rho C / 2 (1 - rho) c, Pollaczek and Khinchin's for equal requests."""
    mean, cpu = row.step.latency.mean, row.cpu_both()
    if mean is None or cpu is None or row.usage.host is None:
        return mean
    busy = min(row.usage.host / told.cpus, 0.9)
    return mean - busy * cpu / (2 * (1 - busy) * max(told.cpus, 1.0))


def _per(spent: float | None, rate: float) -> float | None:
    return spent / rate if spent is not None and rate > 0 else None


@dataclass(frozen=True)
class Term:
    """One quantity that the prediction rests on, predicted and as it was; `text` is a sentence with both."""

    name: str
    predicted: float
    measured: float
    text: str

    @property
    def parting(self) -> float:
        """By which share the measured one differs."""
        return self.measured / self.predicted - 1 if self.predicted else 0.0

    @property
    def off(self) -> bool:
        """Whether it differs by more than measured and predicted may."""
        return abs(self.parting) > policy.LOADTEST_PART


@dataclass(frozen=True)
class Verdict:
    """What the rows come to. `capacity_rps` is the highest rate of good answers; `saturated` tells whether there was more to send."""

    limited: str | None
    carried_rps: float | None
    capacity_rps: float
    saturated: bool
    broken_rps: float | None
    terms: tuple[Term, ...]
    off: tuple[str, ...]

    @property
    def is_result(self) -> bool:
        """Whether this says something about the host."""
        return self.limited is None


def judge(rows: Sequence[Row], told: Prediction) -> Verdict:
    """The verdict over all rows, in the order of their rates; a run that the generator limited has none."""
    limited = next((f"at {_rate(row)} {row.limited}" for row in rows if row.limited), None)
    if limited or not rows:
        return Verdict(limited or "nothing was sent", None, 0.0, False, None, (), ())
    carried = [row for row in rows if row.carried]
    saturated = len(carried) < len(rows)
    capacity = max(row.step.good_rps for row in rows)
    broken = None
    if told.objective_seconds is not None:
        late = [row.step.rps for row in rows if (row.step.latency.p95 or float("inf")) > told.objective_seconds]
        broken = min(late, default=None)
    terms = _terms(rows, told)
    return Verdict(
        None,
        max((row.step.rps for row in carried), default=None),
        capacity,
        saturated,
        broken,
        terms,
        _off(rows, told, terms, capacity, saturated=saturated),
    )


def _rate(row: Row) -> str:
    return f"{number(row.step.rps, 1)} requests a second"


def _terms(rows: Sequence[Row], told: Prediction) -> tuple[Term, ...]:
    """The quantities that were seen, in the order in which the prediction uses them."""
    carried = [row for row in rows if row.carried] or list(rows[:1])
    lowest, highest = rows[0], carried[-1]
    found: list[Term] = []
    cpu = highest.cpu_per_request()
    if cpu is not None:
        text = f"C: a request took {_ms(cpu)} of CPU at {_rate(highest)}; planned with {_ms(told.cpu_seconds)}"
        found.append(Term("C", told.cpu_seconds, cpu, text))
    alone = _alone_seconds(lowest, told)
    if alone is not None:
        text = (
            f"H: a request alone took {_ms(alone)}, seen at {_rate(lowest)}; planned with {_ms(told.service_seconds)}"
        )
        found.append(Term("H", told.service_seconds, alone, text))
        own = lowest.cpu_both()
        if own is not None and told.wait_seconds:
            waits = max(0.0, alone - own)
            text = f"W: {_ms(waits)} of that was waiting; planned with {_ms(told.wait_seconds)}"
            found.append(Term("W", told.wait_seconds, waits, text))
    live = [row.usage.workers for row in rows if row.usage.workers is not None]
    if live:
        text = f"P: {counted(min(live), 'worker')} of {told.workers} were ready at the worst moment"
        found.append(Term("P", told.workers, min(live), text))
    others = [row.usage.others for row in rows if row.usage.others is not None]
    if others:
        left = told.cpus - min(max(others), told.cpus)
        text = f"CPUs: other processes left {number(left)} of {counted(told.cpus, 'CPU')} to the application and NGINX"
        found.append(Term("CPUs", told.cpus, left, text))
    return tuple(found)


def _off(
    rows: Sequence[Row], told: Prediction, terms: Sequence[Term], capacity: float, *, saturated: bool
) -> tuple[str, ...]:
    """Where measured and predicted part by more than they may, and which terms explain it; nothing where they agree."""
    parts = [text for text in (_capacity_parts(told, capacity, saturated=saturated), _latency_parts(rows)) if text]
    if not parts:
        return ()
    causes = [f"{term.text} ({_percent(term.parting)})" for term in _by_parting(terms)]
    causes += [text for text in (_proxy(rows, told), _failures(rows, told), _restarts(rows)) if text]
    if not causes:
        busy = max((row.usage.host or 0.0 for row in rows), default=0.0) / told.cpus
        seen = f"; the host's CPUs were up to {number(100 * busy, 0)} % busy" if busy else ""
        causes = [f"no single term is off by more than {_allowed()}: it is the waiting itself that differs{seen}"]
    return (*parts, *causes)


def _by_parting(terms: Sequence[Term]) -> list[Term]:
    """Those that are off, the worst first; H is left out where C or W say it more exactly."""
    off = {term.name: term for term in terms if term.off}
    if "H" in off and ("C" in off or "W" in off):
        del off["H"]
    return sorted(off.values(), key=lambda term: -abs(term.parting))


def _capacity_parts(told: Prediction, capacity: float, *, saturated: bool) -> str | None:
    parting = capacity / told.capacity_rps - 1
    if parting > policy.LOADTEST_PART or (saturated and parting < -policy.LOADTEST_PART):
        return (
            f"capacity: {number(capacity, 1)} requests a second measured, {number(told.capacity_rps, 1)} predicted "
            f"({_percent(parting)})"
        )
    return None


def _latency_parts(rows: Sequence[Row]) -> str | None:
    """The rate below saturation at which p95 differs most."""
    worst: tuple[float, Row] | None = None
    for row in rows:
        p95 = row.step.latency.p95
        if p95 is None or not isfinite(row.predicted_p95) or not row.carried:
            continue
        parting = p95 / row.predicted_p95 - 1
        if abs(parting) > policy.LOADTEST_PART and (worst is None or abs(parting) > abs(worst[0])):
            worst = parting, row
    if worst is None:
        return None
    parting, row = worst
    return (
        f"p95 at {_rate(row)}: {_ms(row.step.latency.p95 or 0.0)} measured, {_ms(row.predicted_p95)} predicted "
        f"({_percent(parting)})"
    )


def _proxy(rows: Sequence[Row], told: Prediction) -> str | None:
    """NGINX's own CPU, where what it takes beyond the plan matters beside the application's."""
    seen = [row.nginx_per_request() for row in rows if row.carried]
    spent = next((value for value in reversed(seen) if value is not None), None)
    if spent is None or spent - told.proxy_cpu_seconds <= policy.LOADTEST_PART * told.cpu_seconds:
        return None
    return f"NGINX: {_ms(spent)} of CPU for each request; planned with {_ms(told.proxy_cpu_seconds)}"


def _failures(rows: Sequence[Row], told: Prediction) -> str | None:
    """Failures at rates that the host should have carried."""
    failing = [row for row in rows if row.step.rps < told.capacity_rps and row.failed_share > policy.LOADTEST_FAILED]
    if not failing:
        return None
    row = failing[0]
    bad = {kind: count for kind, count in row.step.kinds.items() if kind[0] not in "23"}
    kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(bad.items(), key=lambda item: -item[1]))
    return f"errors: {number(100 * row.failed_share, 1)} % at {_rate(row)}, below the predicted capacity: {kinds}"


def _restarts(rows: Sequence[Row]) -> str | None:
    row = next((row for row in rows if row.usage.restarted), None)
    return f"the slot was restarted or switched while {_rate(row)} were sent" if row else None


def memory_sentence(before_mb: float, after_mb: float, told: Prediction) -> str:
    """The slot's memory before and after, beside the plan's."""
    return f"memory: {mb(before_mb)} before, {mb(after_mb)} after; planned with {mb(told.memory_mb)}"


def _ms(seconds: float) -> str:
    return milliseconds(seconds)


def _percent(parting: float) -> str:
    return f"{'+' if parting > 0 else '−'}{number(100 * abs(parting), 0)} %"  # noqa: RUF001 - a minus sign


def _allowed() -> str:
    return f"{number(100 * policy.LOADTEST_PART, 0)} %"
