"""The benchmark's table and its plot, from what was recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sizing.records import Records
from sizing.rig import Configuration
from sizing.workloads import WORKS, Work

BEGIN, END = "<!-- bench-sizing: begin -->", "<!-- bench-sizing: end -->"
THUMB = Configuration(3, 1, 1000)
"""2n + 1 on one CPU."""

ROUNDS = 3
"""A work is shown once its median rests on so many."""

DEFAULTS = Configuration(1, 1, 1000)
"""What Gunicorn does when nobody says anything."""


@dataclass(frozen=True)
class Row:
    """One work: rates in requests a second, memory in MB, p95 in seconds; None where it was not measured."""

    work: Work
    own: Configuration
    own_rate: float
    best: Configuration
    best_rate: float
    thumb_rate: float | None
    default_rate: float | None
    default_bound: bool
    """Whether that is Little's bound, which needed no load."""
    predicted_rps: float
    measured_rps: float | None
    predicted_mb: float
    measured_mb: float | None
    p95: dict[Configuration, float]

    @property
    def share(self) -> float:
        """Farrier's rate as a share of the best one's."""
        return self.own_rate / self.best_rate


def rows(records: Records) -> Iterator[Row]:
    """The works that went through all stages."""
    for work in WORKS:
        plan = records.plan(work.name)
        finals = list(records.configurations(work.name, "final"))
        if plan is None or not finals:
            continue
        own = finals[0]
        if len(records.find(work.name, "final", own)) < ROUNDS or not records.find(work.name, "saturated", own):
            continue
        rates = {each: records.rate(work.name, each) or 0.0 for each in finals}
        others = [each for each in rates if each != own]
        best = max(others, key=rates.__getitem__, default=own)
        saturated = records.find(work.name, "saturated", own)
        memory = [record.memory_mb for record in records.find(work.name, "final", own)]
        calm = list(records.configurations(work.name, "rest"))
        yield Row(
            work,
            own,
            rates[own],
            best,
            rates[best],
            records.rate(work.name, THUMB),
            records.rate(work.name, DEFAULTS),
            any(record.bound for record in records.find(work.name, "screen", DEFAULTS)),
            plan["predicted"]["capacity_rps"],
            median(record.rate for record in saturated) if saturated else None,
            plan["predicted"]["memory_mb"],
            median(memory) if memory else None,
            {each: median(r.p95_seconds for r in records.find(work.name, "rest", each)) for each in calm},
        )


def table(found: list[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| application | Farrier | carries | best of the grid | carries | share | 2n + 1 | Gunicorn's defaults "
        "| p95 at 70 %: Farrier, 2n + 1 | capacity predicted | measured | memory predicted | measured |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        calm = f"{_ms(row.p95.get(row.own))}, {_ms(row.p95.get(THUMB))}"
        cells = [
            row.work.title,
            _pair(row.own),
            f"{row.own_rate:.0f}/s",
            _pair(row.best),
            f"{row.best_rate:.0f}/s",
            f"{row.share:.2f}",
            _rate(row.thumb_rate),
            ("≤ " if row.default_bound else "") + _rate(row.default_rate),
            calm,
            f"{row.predicted_rps:.0f}/s",
            _rate(row.measured_rps),
            f"{row.predicted_mb:.0f} MB",
            f"{row.measured_mb:.0f} MB" if row.measured_mb else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(configuration: Configuration) -> str:
    threads, connections = configuration.threads, configuration.worker_connections
    own = f", worker_connections {connections}" if threads > 1 and connections != threads else ""
    return f"{configuration.workers} x {threads}{own}"


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0f}/s"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.0f} ms"


def draw(found: list[Row], target: Path) -> None:
    """Bars side by side, each work's rates as shares of the highest."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "farrier"
    from matplotlib import pyplot as plt

    kinds = {
        "best of the grid": ("#9aa5b1", [row.best_rate for row in found]),
        "Farrier": ("#0b6e4f", [row.own_rate for row in found]),
        "2n + 1": ("#d1495b", [row.thumb_rate or 0.0 for row in found]),
        "Gunicorn's defaults": ("#edae49", [row.default_rate or 0.0 for row in found]),
    }
    figure, axes = plt.subplots(figsize=(9, 0.75 * len(found) + 1.2), layout="constrained")
    for offset, (name, (colour, rates)) in enumerate(kinds.items()):
        places = [number + 0.2 * offset - 0.3 for number in range(len(found))]
        shares = [rate / max(row.best_rate, row.own_rate) for rate, row in zip(rates, found, strict=True)]
        bars = axes.barh(places, shares, 0.19, label=name, color=colour)
        axes.bar_label(bars, [f"{rate:.0f}/s" for rate in rates], padding=2, fontsize=7)
    axes.set_yticks(range(len(found)), [row.work.title for row in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("highest rate at which the latency objective held, as a share of the highest of all")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12 if len(found) < 4 else 1.08), ncols=4, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def write_report(records: Records, root: Path) -> None:
    """Print the table, put it into the README between its marks, and draw the plot."""
    found = list(rows(records))
    if not found:
        return
    text = table(found)
    print(f"\n{text}")
    draw(found, root / "docs" / "sizing.svg")
    readme = root / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    if begin:
        _, _, after = rest.partition(END)
        readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
