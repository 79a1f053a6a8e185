"""The benchmark's table and its plot, from what was recorded."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import TypeAdapter

from farrier.sizing.rules import RULES
from sizing.records import Records
from sizing.rig import Configuration
from sizing.workloads import WORKS, Work

BEGIN, END = "<!-- bench-sizing: begin -->", "<!-- bench-sizing: end -->"
DEFAULT_CONNECTIONS = 1000
"""Gunicorn's own worker_connections."""

THUMB = Configuration(3, 1, DEFAULT_CONNECTIONS)
"""2n + 1 on one CPU."""

ROUNDS = 3
"""A work is shown once its median rests on so many."""

DEFAULTS = Configuration(1, 1, DEFAULT_CONNECTIONS)
"""What Gunicorn does when nobody says anything."""


@dataclass(frozen=True)
class Row:
    """One work: rates in requests a second, memory in MB, p95 in seconds; None where it was not measured."""

    work: str
    own: Configuration
    own_rate: float
    best: Configuration
    best_rate: float
    share: float
    """Farrier's rate as a share of the best one's: the median of the rounds, in each of which both met the same arrivals."""
    thumb_rate: float | None
    default_rate: float | None
    default_bound: bool
    """Whether that is Little's bound, which needed no load."""
    own_p95_seconds: float | None
    thumb_p95_seconds: float | None
    predicted_rps: float
    measured_rps: float
    predicted_mb: float
    own_mb: float
    best_mb: float | None
    shares: tuple[float, ...] = ()
    """Round by round."""
    rule: Configuration | None = None
    """Of what the rules of thumb say, what carries most."""
    rule_share: float | None = None
    """Its rate as a share of Farrier's, found at the same time."""

    @property
    def title(self) -> str:
        """What kind of application that is."""
        return _work(self.work).title


def rules(work: Work, workload: Mapping[str, Any]) -> list[Configuration]:
    """What the rules of thumb say for one CPU, the work's memory and what a worker takes."""
    process_mb = workload["memory_private_mb"] + workload["memory_shared_mb"]
    pairs = [rule.choose(1, work.memory_mb, process_mb) for rule in RULES]
    return [Configuration(*pair, DEFAULT_CONNECTIONS) for pair in dict.fromkeys(pairs)]


def finished(records: Records, name: str) -> Row | None:
    """A work that went through all stages, else None."""
    plan = records.plan(name)
    finals = list(records.configurations(name, "final"))
    if plan is None or not finals:
        return None
    own = finals[0]
    saturated = records.find(name, "saturated", own)
    if min(len(records.find(name, "final", own)), len(saturated)) < ROUNDS:
        return None
    rates = {each: records.rate(name, each) or 0.0 for each in finals}
    best = max((each for each in rates if each != own), key=rates.__getitem__, default=own)
    shares = _shares(records, name, own, best)
    loaded = {record.configuration for record in records.find(name, "screen") if not record.bound}
    by_rule = {
        each: median(_shares(records, name, each, own))
        for each in rules(_work(name), records.workload(name))
        if each in loaded
    }
    rule = max(by_rule, key=by_rule.__getitem__)
    return Row(
        name,
        own,
        rates[own],
        best,
        rates[best],
        median(shares),
        records.rate(name, THUMB),
        records.rate(name, DEFAULTS),
        any(record.bound for record in records.find(name, "screen", DEFAULTS)),
        _p95(records, name, own),
        _p95(records, name, THUMB),
        plan["predicted"]["capacity_rps"],
        median(record.rate for record in saturated),
        plan["predicted"]["memory_mb"],
        _memory(records, name, own),
        _memory(records, name, best),
        shares,
        rule,
        by_rule[rule],
    )


def _work(name: str) -> Work:
    return next(work for work in WORKS if work.name == name)


def _shares(records: Records, name: str, one: Configuration, other: Configuration) -> tuple[float, ...]:
    """The rate of one as a share of the other's in each round of the finals, or in the screening if one is not in them."""
    for stage in ("final", "screen"):
        others = {record.round: record.rate for record in records.find(name, stage, other)}
        if found := tuple(
            record.rate / others[record.round] for record in records.find(name, stage, one) if record.round in others
        ):
            return found
    return ()


def _p95(records: Records, name: str, configuration: Configuration) -> float | None:
    seconds = [record.p95_seconds for record in records.find(name, "rest", configuration)]
    return median(seconds) if seconds and isfinite(median(seconds)) else None


def _memory(records: Records, name: str, configuration: Configuration) -> float:
    return median(record.memory_mb for record in records.find(name, "final", configuration))


def table(found: list[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| application | Farrier | carries | best of the grid | carries | share | best rule of thumb, its share of Farrier's rate | 2n + 1 "
        "| Gunicorn's defaults | p95 at 70 %: Farrier, 2n + 1 | capacity: predicted, measured | memory: predicted, measured, the best's |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        cells = [
            each.title,
            _pair(each.own),
            _rate(each.own_rate),
            _pair(each.best),
            _rate(each.best_rate),
            _share(each),
            f"{_pair(each.rule)}: {each.rule_share:.2f}" if each.rule else "-",
            _rate(each.thumb_rate),
            ("≤ " if each.default_bound else "") + _rate(each.default_rate),
            f"{_ms(each.own_p95_seconds)}, {_ms(each.thumb_p95_seconds)}",
            f"{_rate(each.predicted_rps)}, {_rate(each.measured_rps)}",
            f"{_mb(each.predicted_mb)}, {_mb(each.own_mb)}, {_mb(each.best_mb)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pair(configuration: Configuration) -> str:
    threads, connections = configuration.threads, configuration.worker_connections
    own = f", worker_connections {connections}" if threads > 1 and connections != threads else ""
    return f"{configuration.workers} x {threads}{own}"


def _share(row: Row) -> str:
    spread = f" ({min(row.shares):.2f} to {max(row.shares):.2f})" if row.shares else ""
    return f"{row.share:.2f}{spread}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.0f}/s"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:,.0f} ms"


def _mb(megabytes: float | None) -> str:
    return "-" if megabytes is None else f"{megabytes:.0f} MB"


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
    axes.set_yticks(range(len(found)), [row.title for row in found])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("highest rate at which the latency objective held, as a share of the highest of all")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12 if len(found) < 4 else 1.08), ncols=4, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def kept(file: Path) -> list[Row]:
    """The rows that earlier runs have kept, also on other machines."""
    return TypeAdapter(list[Row]).validate_json(file.read_bytes()) if file.exists() else []


def write_report(records: Records, root: Path) -> None:
    """Keep the rows of the works that are done, print the table, put it into docs/benchmarks.md, draw the plot."""
    file = root / "docs" / "sizing.json"
    rows = {each.work: each for each in kept(file)}
    rows |= {work.name: done for work in WORKS if (done := finished(records, work.name))}
    found = [rows[work.name] for work in WORKS if work.name in rows]
    if not found:
        return
    file.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(found)}")
    draw(found, root / "docs" / "sizing.svg")
    page = root / "docs" / "benchmarks.md"
    page.write_text(with_table(page.read_text(encoding="utf-8"), found), encoding="utf-8")


def with_table(text: str, found: list[Row]) -> str:
    """A document's text with this table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(found)}\n{END}{after}"
