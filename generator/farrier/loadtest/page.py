"""The result of a load test as sentences, and as a self-contained HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from farrier.ansible.render import jinja, templates_directory
from farrier.loadtest import bounds
from farrier.loadtest.plots import svg
from farrier.loadtest.rows import Running, StepResult
from farrier.loadtest.schedule import Prediction
from farrier.loadtest.tables import HEADINGS, cells, errors
from farrier.loadtest.verdict import Verdict, judge, memory_sentence, undeployed
from farrier.wording import milliseconds, number, per_second


@dataclass(frozen=True)
class LoadtestResult:
    """A finished load test: its rows, the prediction, and what to say about the run itself."""

    environment: str
    prediction: Prediction
    rows: tuple[StepResult, ...]
    sent: str
    """What was sent where, as announced."""
    when: str
    notes: tuple[str, ...] = ()
    memory_mb: tuple[float, float] | None = None
    runs: Running | None = None
    machine_cpus: int = 0

    @property
    def verdict(self) -> Verdict:
        """The verdict over the rows."""
        return judge(self.rows, self.prediction, self.runs, self.machine_cpus)


def sentences(found: LoadtestResult) -> tuple[str, ...]:
    """The result in sentences; a single one if the generator was the limit."""
    verdict, prediction = found.verdict, found.prediction
    if verdict.limited:
        return (f"inconclusive: the load generator was the limit: {verdict.limited}; add workers with --workers",)
    carried = "no rate was carried"
    if verdict.carried_rps is not None:
        carried = f"highest rate carried: {per_second(verdict.carried_rps)}"
    most = f"at most {number(verdict.capacity_rps, 1)} good responses a second"
    if not verdict.saturated:
        most = "the limit was not reached"
    first = undeployed(prediction, found.runs)
    lines = [*([first] if first else []), f"{carried}; {most}; predicted {number(prediction.capacity_rps, 1)}"]
    if prediction.objective_seconds is not None:
        objective = milliseconds(prediction.objective_seconds)
        lines.append(
            f"p95 objective of {objective}: met at every rate"
            if verdict.broken_rps is None
            else f"p95 objective of {objective}: missed at {per_second(verdict.broken_rps)}; "
            f"predicted from {number(prediction.rate_within(prediction.objective_seconds), 1)} on"
        )
    if found.memory_mb is not None:
        lines.append(memory_sentence(*found.memory_mb, prediction))
    if verdict.off:
        lines.append("measurement and prediction differ:")
        lines += verdict.off
    else:
        lines.append(f"measurement and prediction agree within {number(100 * bounds.LOADTEST_PART, 0)} %")
    return (*lines, *found.notes)


def page(found: LoadtestResult) -> str:
    """The report."""
    verdict = found.verdict
    failures = [(number(row.step.offered_rps, 1), errors(row)) for row in found.rows]
    kinds = sorted({kind for _, counts in failures for kind, count in counts.items() if count})
    template = (templates_directory() / "loadtest" / "report.html.tmpl").read_text(encoding="utf-8")
    return (
        jinja()
        .overlay(autoescape=True)
        .from_string(template)
        .render(
            environment=found.environment,
            prediction=found.prediction,
            verdict=verdict,
            sentences=sentences(found),
            when=found.when,
            sent=found.sent,
            picture=Markup(svg(found.rows, found.prediction)) if found.rows else "",  # noqa: S704 - drawn here, escaped by matplotlib
            headings=HEADINGS,
            table=[(row, cells(row)) for row in found.rows],
            kinds=kinds,
            failures=failures if kinds else [],
            failed_percent=number(100 * bounds.LOADTEST_FAILED),
            paths=_paths(found.rows),
            terms=verdict.terms,
        )
    )


def _paths(rows: Sequence[StepResult]) -> list[tuple[str, int, int, str, str]]:
    """Each path at the highest rate that was carried, else at the first one."""
    row = next((row for row in reversed(rows) if row.carried), rows[0] if rows else None)
    if row is None:
        return []
    return [
        (
            name,
            path.offered,
            path.good,
            *("-" if value is None else milliseconds(value) for value in (path.latency.p50, path.latency.p95)),  # type: ignore[misc]
        )
        for name, path in row.step.paths.items()
    ]
