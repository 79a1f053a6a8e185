"""The verdict of a load test: which rate was carried, what broke, and which term of the prediction is off. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from farrier.loadtest import bounds
from farrier.loadtest.causes import failures, machine, proxy, rate, restarts
from farrier.loadtest.rows import Running, StepResult
from farrier.loadtest.schedule import Prediction
from farrier.wording import counted, mb, milliseconds, number, per_second

OTHER_RATES = 1.3
"""Rates must differ by this factor before other services' extra CPU at the higher one counts as the cost of requests."""

NAMED_SERVICES = 3


def _alone_seconds(row: StepResult, prediction: Prediction) -> float | None:
    """Mean latency without the wait for a CPU: rho C / 2 (1 - rho) c, Pollaczek and Khinchin's for equal requests."""
    mean, cpu = row.step.latency.mean, row.cpu_both()
    if mean is None or cpu is None or row.usage.host is None:
        return mean
    busy = min(row.usage.host / prediction.cpus, 0.9)
    return mean - busy * cpu / (2 * (1 - busy) * max(prediction.cpus, 1.0))


@dataclass(frozen=True)
class Term:
    """One quantity behind the prediction, predicted and measured; `text` is a sentence with both."""

    name: str
    predicted: float
    measured: float
    text: str
    beside: float = 0.0
    """A larger quantity that this one is judged against, if it is a part of the same sum."""

    @property
    def parting(self) -> float:
        """The share by which the measured one differs."""
        return self.measured / self.predicted - 1 if self.predicted else 0.0

    @property
    def off(self) -> bool:
        """Whether it differs by more than is allowed."""
        if self.beside:
            return abs(self.measured - self.predicted) > bounds.LOADTEST_PART * self.beside
        return abs(self.parting) > bounds.LOADTEST_PART


@dataclass(frozen=True)
class Verdict:
    """The result of all rows. `capacity_rps` is the highest rate of good responses; `saturated` says whether the limit was reached."""

    limited: str | None
    carried_rps: float | None
    capacity_rps: float
    saturated: bool
    broken_rps: float | None
    terms: tuple[Term, ...]
    off: tuple[str, ...]

    @property
    def is_result(self) -> bool:
        """Whether this is conclusive about the host."""
        return self.limited is None


def judge(
    rows: Sequence[StepResult], prediction: Prediction, runs: Running | None = None, machine_cpus: int = 0
) -> Verdict:
    """The verdict over all rows, in the order of their rates; none for a run limited by the generator.

    `runs` is what the host runs with, which may be another plan than the prediction's.
    """
    limited = next((f"at {rate(row)} {row.limited}" for row in rows if row.limited), None)
    if limited or not rows:
        return Verdict(limited or "nothing was sent", None, 0.0, False, None, (), ())
    carried = [row for row in rows if row.carried]
    saturated = len(carried) < len(rows)
    capacity = max(row.step.good_rps for row in rows)
    broken = None
    if prediction.objective_seconds is not None:
        late = [row.step.rps for row in rows if (row.step.latency.p95 or float("inf")) > prediction.objective_seconds]
        broken = min(late, default=None)
    terms = _terms(rows, prediction, runs)
    return Verdict(
        None,
        max((row.step.rps for row in carried), default=None),
        capacity,
        saturated,
        broken,
        terms,
        _off(rows, prediction, terms, (capacity, saturated), machine_cpus),
    )


def undeployed(prediction: Prediction, runs: Running | None) -> str | None:
    """Says that the host runs another plan than the predicting one; None if it is the same or unknown."""
    planned = Running(prediction.workers, prediction.threads, prediction.backlog)
    if runs is None or runs == planned:
        return None
    return f"the host does not run this plan: {runs} running, {planned} planned; deploy, or restore the deployed plan, and test again"


def _terms(rows: Sequence[StepResult], prediction: Prediction, runs: Running | None) -> tuple[Term, ...]:
    """The quantities that were seen, in the order in which the prediction uses them."""
    carried = [row for row in rows if row.carried] or list(rows[:1])
    lowest, highest = rows[0], carried[-1]
    found: list[Term] = []
    cpu = highest.cpu_per_request()
    if cpu is not None:
        text = f"C: a request used {milliseconds(cpu)} of CPU at {rate(highest)}; planned with {milliseconds(prediction.cpu_seconds)}"
        found.append(Term("C", prediction.cpu_seconds, cpu, text))
    alone = _alone_seconds(lowest, prediction)
    if alone is not None:
        text = f"H: a request alone took {milliseconds(alone)} at {rate(lowest)}; planned with {milliseconds(prediction.service_seconds)}"
        found.append(Term("H", prediction.service_seconds, alone, text))
        own = lowest.cpu_both()
        if own is not None and prediction.wait_seconds:
            waits = max(0.0, alone - own)
            text = f"W: {milliseconds(waits)} of that was waiting; planned with {milliseconds(prediction.wait_seconds)}"
            found.append(Term("W", prediction.wait_seconds, waits, text))
    live = [row.usage.workers for row in rows if row.usage.workers is not None]
    if live:
        expected = runs.workers if runs else prediction.workers
        text = f"P: {counted(min(live), 'worker')} of {expected} ready at the worst moment"
        found.append(Term("P", expected, min(live), text))
    each = other_cpu_per_request(rows) or 0.0
    if each or prediction.other_cpu_seconds:
        text = f"O: other services on the host use {milliseconds(each)} of CPU per request{_by_service(rows)}"
        text += f"; planned with {milliseconds(prediction.other_cpu_seconds)}"
        found.append(Term("O", prediction.other_cpu_seconds, each, text, beside=prediction.cpu_seconds))
    # Their CPU per request is reported above; this is the rest.
    others = [max(0.0, row.usage.others - each * row.step.offered_rps) for row in rows if row.usage.others is not None]
    if others:
        left = prediction.cpus - min(max(others), prediction.cpus)
        text = f"CPUs: other processes left {number(left)} of {counted(prediction.cpus, 'CPU')} for the application and NGINX"
        found.append(Term("CPUs", prediction.cpus, left, text))
    return tuple(found)


def other_cpu_per_request(rows: Sequence[StepResult]) -> float | None:
    """CPU seconds of other services per arrival, from how much more they use at a higher rate; None from a single rate."""
    seen = [(row.step.offered_rps, row.usage.others) for row in rows if row.carried and row.usage.others is not None]
    if len(seen) < 2 or seen[-1][0] < OTHER_RATES * seen[0][0]:
        return None
    return max(0.0, ((seen[-1][1] or 0.0) - (seen[0][1] or 0.0)) / (seen[-1][0] - seen[0][0]))


def _by_service(rows: Sequence[StepResult]) -> str:
    """Which services, at the highest rate carried."""
    row = next((row for row in reversed(rows) if row.carried and row.usage.services), None)
    if row is None or not row.step.offered_rps:
        return ""
    most = sorted(row.usage.services.items(), key=lambda item: -item[1])[:NAMED_SERVICES]
    return f" ({', '.join(f'{name} {milliseconds(spent / row.step.offered_rps)}' for name, spent in most)})"


def _off(
    rows: Sequence[StepResult],
    prediction: Prediction,
    terms: Sequence[Term],
    reached: tuple[float, bool],
    machine_cpus: int,
) -> tuple[str, ...]:
    """Where measurement and prediction differ by too much, and which terms explain it; empty if they agree."""
    capacity, saturated = reached
    parts = [
        text for text in (_capacity_parts(prediction, capacity, saturated=saturated), _latency_parts(rows)) if text
    ]
    if not parts:
        return ()
    causes = [f"{term.text} ({_percent(term.parting)})" if term.predicted else term.text for term in _by_parting(terms)]
    causes += [text for text in (proxy(rows, prediction), failures(rows, prediction), restarts(rows)) if text]
    causes += machine(rows, prediction, machine_cpus)
    if not causes:
        busy = max((row.usage.host or 0.0 for row in rows), default=0.0) / prediction.cpus
        seen = f"; the host's CPUs were up to {number(100 * busy, 0)} % busy" if busy else ""
        usage = rows[0].usage
        unseen = usage.host is not None and usage.stolen is None
        blind = "; CPU taken by a hypervisor or other containers could not be observed" if unseen else ""
        causes = [f"no single term is off by more than {_allowed()}: only the queueing itself differs{seen}{blind}"]
    return (*parts, *causes)


def _by_parting(terms: Sequence[Term]) -> list[Term]:
    """The terms that are off, the worst first; H is left out if C or W are more specific."""
    off = {term.name: term for term in terms if term.off}
    if "H" in off and ("C" in off or "W" in off):
        del off["H"]
    return sorted(off.values(), key=lambda term: -abs(term.parting if term.predicted else 1.0))


def _capacity_parts(prediction: Prediction, capacity: float, *, saturated: bool) -> str | None:
    parting = capacity / prediction.capacity_rps - 1
    if parting > bounds.LOADTEST_PART or (saturated and parting < -bounds.LOADTEST_PART):
        return (
            f"capacity: {per_second(capacity)} measured, {number(prediction.capacity_rps, 1)} predicted "
            f"({_percent(parting)})"
        )
    return None


def _latency_parts(rows: Sequence[StepResult]) -> str | None:
    """The rate below saturation at which p95 differs most."""
    worst: tuple[float, StepResult] | None = None
    for row in rows:
        p95 = row.step.latency.p95
        if p95 is None or not isfinite(row.predicted_p95) or not row.carried:
            continue
        parting = p95 / row.predicted_p95 - 1
        if abs(parting) > bounds.LOADTEST_PART and (worst is None or abs(parting) > abs(worst[0])):
            worst = parting, row
    if worst is None:
        return None
    parting, row = worst
    return (
        f"p95 at {rate(row)}: {milliseconds(row.step.latency.p95 or 0.0)} measured, {milliseconds(row.predicted_p95)} predicted "
        f"({_percent(parting)})"
    )


def memory_sentence(before_mb: float, after_mb: float, prediction: Prediction) -> str:
    """The slot's memory before and after, beside the plan's."""
    return f"memory: {mb(before_mb)} before, {mb(after_mb)} after; planned with {mb(prediction.memory_mb)}"


def _percent(parting: float) -> str:
    return f"{'+' if parting > 0 else '−'}{number(100 * abs(parting), 0)} %"  # noqa: RUF001 - a minus sign


def _allowed() -> str:
    return f"{number(100 * bounds.LOADTEST_PART, 0)} %"
