"""Terminal output: plans as tables, progress while facts are gathered."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from farrier.generate.variables import Size, sizes
from farrier.plan.model import Plan, Setting
from farrier.project.workload import Workload
from farrier.settings import BY_NAME
from farrier.wording import MB, counted, mb, milliseconds, number

if TYPE_CHECKING:
    from farrier.facts.gather import HostEvent
    from farrier.loadtest.page import Found
    from farrier.measure.run import MeasureEvent

WIDTH_WITHOUT_TERMINAL = 120
FULL_TABLES = 5
"""Sizes shown with all settings; for more, only a summary is readable."""

STYLES = {"default": "dim", "fact": "cyan", "measured": "green", "calculated": "", "override": "yellow"}


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
    hosts = ", ".join(size.hosts[:6]) + (f" and {len(size.hosts) - 6} more" if len(size.hosts) > 6 else "")
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
            _value(setting),
            Text(setting.provenance.value, STYLES[setting.provenance.value]),
            setting.reason,
        )
    console.print(table)


def _value(setting: Setting) -> str:
    """The value with its unit, as a person reads it."""
    unit = BY_NAME[setting.name].unit
    if unit == "bytes" and isinstance(setting.value, int):
        return mb(setting.value / MB) if setting.value >= MB else f"{number(setting.value)} bytes"
    if unit == "seconds":
        return f"{setting.value} s"
    if isinstance(setting.value, bool):
        return "on" if setting.value else "off"
    return str(setting.value)


def _print_summary(console: Console, groups: tuple[Size, ...]) -> None:
    console.print(f"\nAll {len(groups)} sizes (use --limit HOST for the reasons of one):")
    table = Table(show_edge=False, pad_edge=False)
    for column in ("hosts", "CPUs", "memory", "workers x threads", "requests/s"):
        table.add_column(column, no_wrap=True, justify="left" if column == "hosts" else "right")
    for size in groups:
        plan = size.plan
        hosts = size.hosts[0] + (f" and {len(size.hosts) - 1} more" if len(size.hosts) > 1 else "")
        pair = f"{plan.value('gunicorn.workers')} x {plan.in_service}"
        table.add_row(hosts, number(plan.cpus), mb(plan.memory_mb), pair, number(plan.capacity_rps, 1))
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
            yield f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}: {warning}"


class Gathering:
    """Shows hosts as they answer."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def show(self, event: "HostEvent") -> None:
        """One line for each finished host, with a counter."""
        if event.kind == "start":
            self.console.print(f"contacting {counted(event.total, 'host')}")
            return
        text = "facts gathered" if event.kind == "gathered" else f"{event.kind}: {event.reason}"
        style = "" if event.kind == "gathered" else "red"
        self.console.print(Text.assemble(f"[{event.done}/{event.total}] {event.host}: ", (text, style)))


class Measuring:
    """Shows each step of a measurement, and the application's output when it fails."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.begun = monotonic()

    def show(self, event: "MeasureEvent") -> None:
        """One line for each step, with the seconds so far."""
        if event.kind == "output":
            self.console.print(Text(event.text, "dim"), soft_wrap=True)
        else:
            self.console.print(f"{monotonic() - self.begun:4.0f} s  {event.text}")


def print_loadtest(found: "Found") -> None:
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


@contextmanager
def measuring() -> Iterator[Measuring]:
    """Progress on standard error."""
    yield Measuring(console_for(stderr=sys.stderr is not None))


@contextmanager
def gathering() -> Iterator[Gathering]:
    """Progress on standard error, so that standard output stays for results."""
    yield Gathering(console_for(stderr=sys.stderr is not None))
