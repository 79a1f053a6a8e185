"""Terminal output: plans as tables, progress while facts are gathered."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from farrier.generate.variables import Size, sizes
from farrier.plan.derivation import written
from farrier.plan.model import Plan
from farrier.project.workload import Workload
from farrier.wording import counted, mb, milliseconds, number, some, wrapped

if TYPE_CHECKING:
    from farrier.facts.gather import HostEvent
    from farrier.loadtest.page import LoadtestResult
    from farrier.measure.run import MeasureEvent

WIDTH_WITHOUT_TERMINAL = 120
FULL_TABLES = 5
"""Sizes shown with all settings; for more, only a summary is readable."""

STYLES = {"default": "dim", "fact": "cyan", "measured": "green", "calculated": "", "override": "yellow"}


@dataclass(frozen=True)
class Sentence:
    """A text in a cell of a table, in which no line ends between a number and its unit."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("\n".join(wrapped(self.text, options.max_width)), end="")


def console_for(*, stderr: bool = False) -> Console:
    """A console that is as wide as the terminal, or as `WIDTH_WITHOUT_TERMINAL`."""
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    return console


def print_plans(environment: str, plans: Mapping[str, Plan], workload: Workload) -> None:
    """A table with reasons for each size of host, or a line per size where there are many."""
    console = console_for()
    print_environment(console, environment, plans, workload)
    groups = sizes(plans)
    for size in groups[:FULL_TABLES]:
        _print_size(console, size)
    if len(groups) > FULL_TABLES:
        _print_summary(console, groups)
    print_warnings(console, plans)


def print_environment(console: Console, environment: str, plans: Mapping[str, Plan], workload: Workload) -> None:
    """What was planned, and for which workload."""
    console.print(f"Environment {environment}: {counted(len(plans), 'host')}; {_workload_sentence(workload)}")


def print_warnings(console: Console, plans: Mapping[str, Plan]) -> None:
    """Each warning once."""
    for warning in _warnings(plans):
        console.print(Text.assemble(("warning: ", "yellow"), warning))


def _workload_sentence(workload: Workload) -> str:
    source = "measured" if workload.is_measured else "assumed" if workload.is_assumed else "stated"
    peak = f", {number(workload.peak_rps)} requests a second at the peak" if workload.peak_rps else ""
    cpu, wait = milliseconds(workload.gunicorn_cpu_seconds), milliseconds(workload.wait_seconds)
    others = (
        f", while {workload.other_names} on the same host takes {milliseconds(workload.other_cpu_seconds)} of CPU for it"
        if workload.other_cpu_seconds
        else ""
    )
    return f"a request takes {cpu} of CPU and waits {wait}{others} ({source}){peak}"


def print_heading(console: Console, size: Size) -> None:
    """The hosts, what they are sized for, their capacity and their bottleneck."""
    plan = size.plan
    hosts = some(size.hosts, 6)
    console.print(
        Text.assemble(
            "\n",
            (hosts, "bold"),
            f": sized for {counted(plan.cpus, 'CPU')} and {mb(plan.memory_mb)}; carries ",
            (f"{number(plan.capacity_rps, 1)} requests a second", "bold"),
            f" in {mb(plan.predicted_memory_mb)}",
            f", p95 {milliseconds(plan.p95_seconds)} at the peak" if plan.p95_seconds else "",
            f"\nbound by {plan.bound}",
        )
    )


def _print_size(console: Console, size: Size) -> None:
    print_heading(console, size)
    table = Table(show_edge=False, pad_edge=False, expand=True)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("provenance", no_wrap=True)
    table.add_column("reason", ratio=1)
    for setting in size.plan.settings.values():
        table.add_row(
            setting.name,
            written(setting.name, setting.value),
            Text(setting.provenance.value, STYLES[setting.provenance.value]),
            Sentence(setting.reason),
        )
    console.print(table)


def _print_summary(console: Console, groups: tuple[Size, ...]) -> None:
    console.print(f"\nAll {len(groups)} sizes (use --limit HOST for the reasons of one):")
    table = Table(show_edge=False, pad_edge=False)
    for column in ("hosts", "CPUs", "memory", "workers x threads", "requests/s"):
        table.add_column(column, no_wrap=True, justify="left" if column == "hosts" else "right")
    for size in groups:
        plan = size.plan
        pair = f"{plan.value('gunicorn.workers')} x {plan.per_worker}"
        table.add_row(some(size.hosts, 1), number(plan.cpus), mb(plan.memory_mb), pair, number(plan.capacity_rps, 1))
    console.print(table)


def _warnings(plans: Mapping[str, Plan]) -> Iterator[str]:
    """Each warning once, with the hosts it applies to."""
    hosts: dict[str, list[str]] = {}
    for plan in plans.values():
        for warning in plan.warnings:
            hosts.setdefault(warning, []).append(plan.host)
    for warning, names in hosts.items():
        if len(names) == len(plans):
            yield warning
        else:
            yield f"{some(names, 5)}: {warning}"


def print_loadtest(found: "LoadtestResult") -> None:
    """The steps as a table, and the result; an inconclusive run shows its steps alone."""
    from farrier.loadtest.page import sentences
    from farrier.loadtest.tables import HEADINGS, cells

    console = console_for()
    table = Table(show_edge=False, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in found.rows:
        table.add_row(*cells(row), style="" if row.carried else "yellow")
    console.print(table)
    if found.verdict.is_result:
        console.print()
        for sentence in sentences(found):
            console.print(sentence)


def gathering() -> "Callable[[HostEvent], None]":
    """Shows hosts as they answer, with a counter; on standard error, so that standard output stays for results."""
    console = console_for(stderr=sys.stderr is not None)

    def show(event: "HostEvent") -> None:
        if event.kind == "start":
            console.print(f"contacting {counted(event.total, 'host')}")
            return
        text, style = ("facts gathered", "") if event.kind == "gathered" else (f"{event.kind}: {event.reason}", "red")
        console.print(Text.assemble(f"[{event.done}/{event.total}] {event.host}: ", (text, style)))

    return show


def measuring() -> "Callable[[MeasureEvent], None]":
    """Shows each step of a measurement with the seconds so far, and the application's output when it fails."""
    console, begun = console_for(stderr=sys.stderr is not None), monotonic()

    def show(event: "MeasureEvent") -> None:
        if event.kind == "output":
            console.print(Text(event.text, "dim"), soft_wrap=True)
        else:
            console.print(f"{monotonic() - begun:4.0f} s  {event.text}")

    return show
