"""What `plan --explain` and `plan --rules` show: derivations, and other people's rules beside the plan."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from farrier.cli.plan_table import FULL_TABLES, Sentence, console_for, print_environment, print_heading, print_warnings
from farrier.cli.policy_whys import whys
from farrier.generate.variables import sizes
from farrier.plan.comparison import Comparison, compare
from farrier.plan.derivation import written
from farrier.plan.model import Input, Plan, Provenance
from farrier.plan.what_if import Explanation, explain
from farrier.project.workload import Workload
from farrier.wording import counted, mb, milliseconds, number


def print_sheets(
    environment: str, plans: Mapping[str, Plan], workload: Workload, settings: Sequence[str], *, rules: bool
) -> None:
    """For each size of host the rules, if asked for, and the derivations of `settings`."""
    console = console_for()
    print_environment(console, environment, plans, workload)
    groups = sizes(plans)
    for size in groups[:FULL_TABLES]:
        print_heading(console, size)
        if rules:
            _print_rules(console, compare(size.plan.draft))
        for explanation in explain(size.plan, settings):
            _print_explanation(console, explanation)
    if len(groups) > FULL_TABLES:
        console.print(f"\n{counted(len(groups) - FULL_TABLES, 'more size')}; use --limit HOST for one of them")
    print_warnings(console, plans)


def _print_explanation(console: Console, found: Explanation) -> None:
    setting = found.setting
    value = written(setting.name, setting.value)
    console.print()
    console.print(Text.assemble((f"{setting.name} = {value}", "bold"), f"  ({setting.provenance.value})"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(ratio=1)
    _rows(table, "why", [setting.reason])
    _rows(table, "formula", [setting.formula])
    _rows(table, "inputs", [_input(one) for one in found.working.inputs])
    _rows(table, "steps", found.working.steps)
    result = written(setting.name, setting.own)
    if setting.provenance is Provenance.OVERRIDE:
        result = f"{result}; the operator's {value} takes its place"
    _rows(table, "result", [result])
    _rows(table, "would be", [*found.changes, _by_the_operator(found)])
    console.print(Padding(table, (0, 0, 0, 2)))


def _rows(table: Table, label: str, lines: Sequence[str]) -> None:
    for i, line in enumerate(lines):
        table.add_row(label if i == 0 else "", Sentence(line))


def _input(one: Input) -> str:
    """`c = 2 CPUs: usable CPUs (cpus), fact of the host`, `k = 0.97 (policy.KNEE): More workers ...`."""
    sign = "" if one.symbol.endswith("=") else " ="
    value = f"{one.symbol}{sign} {one.value}" if one.symbol else one.value
    if one.constant:
        return f"{value} ({one.meaning}): {whys()[one.constant]}"
    return f"{value}: {one.meaning}, {one.provenance}"


def _by_the_operator(found: Explanation) -> str:
    if found.setting.provenance is Provenance.OVERRIDE:
        return f"{written(found.setting.name, found.setting.own)} without `{found.setting.name}` in `overrides:`"
    return f"whatever `overrides: {{{found.setting.name}: ...}}` in the project file says"


def _print_rules(console: Console, found: Comparison) -> None:
    """Farrier's choice and the rules, best first would hide who is who: in the order of the registry."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("choice", no_wrap=True)
    table.add_column("rule")
    for column in ("workers x threads", "requests/s", "memory", f"p95 at {number(found.at_rps, 1)}/s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("fits", no_wrap=True)
    for i, row in enumerate(found.rows):
        table.add_row(
            row.name,
            row.formula or "work, CPUs, memory",
            f"{row.service.workers} x {row.service.per_worker}",
            number(row.service.capacity_rps, 1),
            mb(row.memory_mb),
            "not carried" if row.p95_seconds is None else milliseconds(row.p95_seconds),
            "yes" if row.fits else "no",
            style="bold" if i == 0 else "",
        )
    console.print(table)
    rate = "the peak" if found.is_peak else "70 % of Farrier's capacity, as no peak is stated"
    console.print(
        "n: CPUs, R: MB of memory, M: MB of a worker. All for the same application, predicted by the same model; p95 "
        f"at {rate}; fits: within the {mb(found.budget_mb)} that a slot may take.",
        style="dim",
    )
