"""`plan --plot`: predicted latency against load as a picture; imports matplotlib only when needed."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from farrier.errors import InputError
from farrier.files import write_whole
from farrier.generate.variables import Size, sizes
from farrier.loadtest.plots import require_matplotlib
from farrier.plan.curves import Curve, Picture, picture
from farrier.plan.model import Plan
from farrier.project.workload import Workload
from farrier.wording import counted, mb, milliseconds, number, shown, some

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = {".svg": "svg", ".png": "png"}
MOST_SIZES = 4
"""Panels of one picture; more would be unreadable."""

OWN = "#0b5fa5"
RULES = ("#b8860b", "#c05020", "#a03060", "#704090", "#508030", "#208080", "#806040", "#909090")
"""Colours that differ in lightness, too; each rule also has its own dashes."""
DASHES: tuple[tuple[float, ...], ...] = (
    (5, 1.5),
    (2, 1),
    (6, 1, 1, 1),
    (1, 1),
    (8, 2),
    (4, 1, 1, 1, 1, 1),
    (3, 3),
    (1, 3),
)
QUIET, OBJECTIVE, PEAK = "#666666", "#2a7a2a", "#222222"


def draw(environment: str, plans: Mapping[str, Plan], path: Path) -> None:
    """Draw a panel for each size of host and write the file as a whole.

    Raises:
        InputError: the name ends in neither .svg nor .png, matplotlib is missing, there are too many sizes, or it cannot be written.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"--plot {shown(str(path))}: the name must end in .svg or .png")
    groups = sizes(plans)
    if len(groups) > MOST_SIZES:
        raise InputError(
            f"--plot draws up to {MOST_SIZES} sizes of host, but there are {len(groups)}; use --limit HOST"
        )
    _write(path, _rendered(environment, groups, kind))


def _rendered(environment: str, panels: tuple[Size, ...], kind: str) -> bytes:
    require_matplotlib("--plot draws")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    fixed = {"svg.hashsalt": environment, "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    with mpl.rc_context(fixed):  # type: ignore[arg-type] # the keys are matplotlib's own
        figure = Figure(figsize=(10, 5 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), squeeze=False)
        for size, panel in zip(panels, axes[:, 0], strict=True):
            _panel(panel, size, size.plan.draft.workload, picture(size.plan.draft))
        out = BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, metadata=metadata)
    return out.getvalue()


def _panel(axes: "Axes", size: Size, work: Workload, found: Picture) -> None:
    """One size of host: curves, marks, words."""
    service, capacity = found.own.service, found.capacity_rps
    right = 1.18 * max(capacity, found.peak or 0)
    top, bottom = 2.2 * found.full_queue_seconds, 0.4 * min(service.service_seconds, found.objective or 1e9)
    axes.set_yscale("log")
    axes.set_xlim(0, right)
    axes.set_ylim(1000 * bottom, 1000 * top)
    for i, curve in enumerate(found.rules):
        axes.plot(
            *_milliseconds(curve),
            color=RULES[i % len(RULES)],
            dashes=DASHES[i % len(DASHES)],
            linewidth=1.2,
            label=_label(curve),
        )
    rates, latencies = _milliseconds(found.own, below=found.full_queue_seconds)
    axes.plot(rates, latencies, color=OWN, linewidth=2.6, label=_label(found.own), zorder=5)
    _marks(axes, found, rates[-1])
    axes.yaxis.set_major_formatter(lambda value, _: number(value, 0) if value >= 1 else number(value))
    axes.set_xlabel("requests a second")
    axes.set_ylabel("predicted p95 in ms")
    axes.grid(visible=True, which="major", color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{some(size.hosts, 4)}: {counted(size.plan.cpus, 'CPU')}, {mb(size.plan.memory_mb)}; a request takes "
        f"{milliseconds(work.gunicorn_cpu_seconds)} of CPU and waits {milliseconds(work.wait_seconds)}",
        loc="left", fontsize=10,
    )  # fmt: skip
    lines, labels = axes.get_legend_handles_labels()
    axes.legend(
        lines[::-1], labels[::-1],
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, title="workers x threads", alignment="left",
    )  # fmt: skip


def _marks(axes: "Axes", found: Picture, last_rate: float) -> None:
    """The plan's limits and requirements: backlog, capacity, knee, objective, peak."""
    capacity, (_, right), (bottom, top) = found.capacity_rps, axes.get_xlim(), axes.get_ylim()
    full = 1000 * found.full_queue_seconds
    axes.plot([last_rate, right], [full, full], color=OWN, linewidth=2.6, linestyle=":", zorder=5)
    axes.axhline(full, color=QUIET, linewidth=0.7)
    seconds = number(found.full_queue_seconds, 1)
    _write_at(
        axes, (0, full), f"backlog of {number(found.backlog)} full, {seconds} s: the rest gets 503", (6, 5), QUIET
    )
    axes.axvline(capacity, color=OWN, linewidth=0.7)
    _write_at(axes, (capacity, top), f"capacity {number(capacity, 1)}/s", (-5, -14), OWN)
    _mark(axes, found.knee, "knee", (OWN, "o"))
    if found.objective is not None:
        axes.axhline(1000 * found.objective, color=OBJECTIVE, linewidth=1)
        text = f"objective {milliseconds(found.objective)}"
        _write_at(axes, (0, 1000 * found.objective), text, (6, 5), OBJECTIVE)
    if found.peak is not None:
        axes.axvline(found.peak, color=PEAK, linewidth=0.9, linestyle="--")
        if found.peak_p95 is None:
            _write_at(axes, (found.peak, bottom), f"peak {number(found.peak)}/s: over capacity", (-5, 5), PEAK)
        else:
            _mark(axes, (found.peak, found.peak_p95), "peak", (PEAK, "D"))


def _mark(axes: "Axes", point: tuple[float, float], name: str, style: tuple[str, str]) -> None:
    """A point of the plan's own curve, with its figures at the bottom: those of the knee above those of the peak."""
    (rate, seconds), (color, marker) = point, style
    (_, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    axes.plot([rate, rate], [bottom, 1000 * seconds], color=color, linewidth=0.7)
    axes.plot([rate], [1000 * seconds], marker=marker, color=color, markersize=7, zorder=6)
    text = f"{name}: {number(rate, 1)}/s in {milliseconds(seconds)}"
    _write_at(axes, (rate, bottom), text, (7 if rate < 0.7 * right else -7, 22 if name == "knee" else 6), color)


def _write_at(axes: "Axes", point: tuple[float, float], text: str, offset: tuple[int, int], color: str) -> None:
    """Text beside a point, legible over any line behind it."""
    axes.annotate(
        text,
        point,
        xytext=offset,
        textcoords="offset points",
        ha="left" if offset[0] > 0 else "right",
        color=color,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        zorder=7,
    )


def _milliseconds(curve: Curve, below: float = float("inf")) -> tuple[list[float], list[float]]:
    points = [(rate, 1000 * seconds) for rate, seconds in curve.points if seconds <= below]
    return [rate for rate, _ in points], [latency for _, latency in points]


def _label(curve: Curve) -> str:
    """`5 x 1  Gunicorn, Heroku: 84.5/s`."""
    service = curve.service
    unfit = "" if curve.fits else ", does not fit"
    return f"{service.workers} x {service.per_worker}  {', '.join(curve.names)}: {number(service.capacity_rps, 1)}/s{unfit}"


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(
            f"--plot {path}: {(error.strerror or 'unwritable').lower()}; choose a file that can be written"
        ) from None
