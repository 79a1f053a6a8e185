"""The plots of a load test, measured beside predicted, as one SVG. matplotlib is imported only when drawn."""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from farrier.errors import InputError
from farrier.loadtest.rows import StepResult
from farrier.loadtest.schedule import Prediction
from farrier.loadtest.tables import errors
from farrier.wording import milliseconds, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURED, PREDICTED, QUIET, OBJECTIVE = "#0b5fa5", "#b8860b", "#666666", "#2a7a2a"
KINDS = ("#a03060", "#c05020", "#704090", "#208080", "#806040", "#909090")
CURVE_POINTS = 200


def require_matplotlib(what: str = "the report is drawn") -> None:
    """InputError if matplotlib is missing; called before anything is sent."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            f"{what} with matplotlib, which is not installed with Farrier: `pipx inject farrier matplotlib`, or "
            "`pip install matplotlib` in its virtual environment"
        ) from None


def svg(rows: Sequence[StepResult], prediction: Prediction) -> str:
    """Throughput, latency, failures and CPU by rate, as one self-contained inline SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    fixed = {"svg.hashsalt": prediction.host, "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    with mpl.rc_context(fixed):  # type: ignore[arg-type] # the keys are matplotlib's own
        figure = Figure(figsize=(11, 8), layout="constrained")
        axes = figure.subplots(2, 2)
        right = 1.05 * max(prediction.capacity_rps, *(row.step.rps for row in rows))
        for panel, draw in zip(axes.flat, (_throughput, _latency, _failures, _cpu), strict=True):
            draw(panel, rows, prediction)
            panel.set_xlim(0, right)
            panel.set_ylim(bottom=None if draw is _latency else 0)
            panel.set_xlabel("requests sent a second")
            panel.grid(visible=True, which="major", color="#e4e4e4", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.legend(frameon=False, fontsize=8, loc="best")
        out = BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue().decode()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def _rates(rows: Sequence[StepResult]) -> list[float]:
    return [row.step.offered_rps for row in rows]


def _throughput(axes: "Axes", rows: Sequence[StepResult], prediction: Prediction) -> None:
    axes.set_title("good responses a second", loc="left", fontsize=10)
    top = max(_rates(rows))
    capacity = prediction.capacity_rps
    axes.plot([0, capacity, max(top, capacity)], [0, capacity, capacity], color=PREDICTED, dashes=(5, 2),
              label=f"predicted, up to {number(capacity, 1)}/s")  # fmt: skip
    axes.plot(_rates(rows), [row.step.good_rps for row in rows], color=MEASURED, marker="o", label="measured")


def _latency(axes: "Axes", rows: Sequence[StepResult], prediction: Prediction) -> None:
    axes.set_title("latency in ms", loc="left", fontsize=10)
    axes.set_yscale("log")
    shares = [step / CURVE_POINTS for step in range(1, CURVE_POINTS)]
    rates = [share * prediction.capacity_rps for share in shares]
    axes.plot(rates, [1000 * prediction.p95_seconds(rate) for rate in rates], color=PREDICTED, dashes=(5, 2),
              label="p95 predicted")  # fmt: skip
    for name, marker, alpha in (("p50", "v", 0.45), ("p95", "o", 1.0), ("p99", "^", 0.45)):
        points = [(row.step.offered_rps, getattr(row.step.latency, name)) for row in rows]
        known = [(rate, 1000 * value) for rate, value in points if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=MEASURED, marker=marker, alpha=alpha, label=f"{name} measured")
    if prediction.objective_seconds is not None:
        axes.axhline(1000 * prediction.objective_seconds, color=OBJECTIVE, linewidth=1,
                     label=f"objective {milliseconds(prediction.objective_seconds)}")  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: number(value, 0) if value >= 1 else number(value))


def _failures(axes: "Axes", rows: Sequence[StepResult], prediction: Prediction) -> None:
    axes.set_title("requests without a good response, in %", loc="left", fontsize=10)
    kinds = {kind for row in rows for kind, count in errors(row).items() if count}
    under = [0.0] * len(rows)
    width = 0.4 * min(
        (b - a for a, b in zip(_rates(rows), _rates(rows)[1:], strict=False) if b > a),
        default=0.1 * prediction.capacity_rps,
    )
    for i, kind in enumerate(sorted(kinds)):
        shares = [100 * errors(row).get(kind, 0) / max(1, row.step.offered) for row in rows]
        axes.bar(_rates(rows), shares, width=width, bottom=under, color=KINDS[i % len(KINDS)], label=kind)
        under = [low + share for low, share in zip(under, shares, strict=True)]
    axes.axvline(prediction.capacity_rps, color=PREDICTED, dashes=(5, 2), label="predicted capacity")
    axes.set_ylim(0, max(1.0, 1.1 * max(under, default=0)))


def _cpu(axes: "Axes", rows: Sequence[StepResult], prediction: Prediction) -> None:
    axes.set_title("CPUs spent", loc="left", fontsize=10)
    axes.axhline(prediction.cpus, color=QUIET, linewidth=0.8, label=f"CPUs of the host: {number(prediction.cpus)}")
    axes.plot([0, prediction.capacity_rps], [0, prediction.capacity_rps * prediction.cpu_seconds], color=PREDICTED, dashes=(5, 2),
              label="application predicted")  # fmt: skip
    for name, marker in (("host", "s"), ("application", "o"), ("nginx", "v")):
        points = [(row.step.offered_rps, getattr(row.usage, name)) for row in rows]
        known = [(rate, value) for rate, value in points if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=MEASURED, marker=marker, alpha=1 if name == "application" else 0.45,
                      label="NGINX" if name == "nginx" else name)  # fmt: skip
    axes.plot(_rates(rows), [row.step.cpu_share for row in rows], color=KINDS[0], marker="x", linewidth=0.8,
              label="generator (busiest process)")  # fmt: skip
