"""What each command does, without printing: reads the input, calls the pure parts, writes the output."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from farrier.ansible.inventory import hosts_of, missing_inventory, no_hosts
from farrier.errors import HostError, InputError
from farrier.facts.documents import from_statements
from farrier.facts.files import import_facts, read_facts, require_writable, write_atomically
from farrier.facts.model import INDISPENSABLE, HostFacts
from farrier.files import unlinked
from farrier.plan.model import Plan
from farrier.plan.planner import plan_all
from farrier.project.model import Environment, Project
from farrier.project.reading import environment_of, read_measured, read_project, read_workload
from farrier.project.workload import Workload
from farrier.settings import Value
from farrier.wording import counted, nearest, number, shown, some

if TYPE_CHECKING:
    from farrier.facts.gather import CollectResult, HostEvent
    from farrier.loadtest.page import LoadtestResult
    from farrier.loadtest.run import LoadtestOptions
    from farrier.measure.result import Measured
    from farrier.measure.run import MeasureEvent, MeasureOptions
    from farrier.measure.sources import RequestSource

Stated = Mapping[str, float | int | str]


@dataclass(frozen=True)
class Generated:
    """What `generate` did or, with `--check`, would do."""

    changed: bool
    diff: Sequence[str]
    summary: Sequence[str]


STATED = "stated"
"""The host of a plan for one that is nowhere yet."""


def not_planned(environment: str, hosts: Sequence[str]) -> str:
    """That an inventory has hosts which no plan is for, and what to do."""
    names = [shown(host).strip("'") for host in hosts]
    return (
        f"{some(names, 5)} {'is' if len(hosts) == 1 else 'are'} in the inventory of {environment} but without facts, so "
        f"not planned; gather them with `farrier facts {environment}`"
    )


@dataclass(frozen=True)
class Planned:
    """The plans of an environment by host, and the work that they are for."""

    environment: str
    plans: Mapping[str, Plan]
    workload: Workload
    without_facts: Sequence[str] = ()
    """Hosts of its inventory that were not planned because they have no facts."""
    notes: Sequence[str] = ()
    """What the inventory lacks, in words."""


class Session:
    """One command's view of a project: its file, and paths relative to it."""

    def __init__(self, project_file: Path) -> None:
        self.project: Project = read_project(project_file)
        self.root = project_file.parent

    def facts_directory(self, environment: str) -> Path:
        """Where the facts of an environment are kept."""
        return self.root / "facts" / environment

    def collect(
        self, name: str, limit: str | None, extra: Sequence[str], on_event: "Callable[[HostEvent], None]"
    ) -> "CollectResult":
        """Gather the facts of an environment's hosts with Ansible."""
        from farrier.facts.gather import collect

        environment = environment_of(self.project, name)
        return collect(
            Path(environment.inventory),
            self.project.application.name,
            unlinked(self.root, f"facts/{name}").resolve(),
            limit=limit,
            extra=extra,
            cwd=self.root,
            on_event=on_event,
            pattern=environment.group,
        )

    def import_facts(self, name: str, source: Path) -> tuple[str, ...]:
        """Import an environment's facts from files that Ansible wrote."""
        environment_of(self.project, name)
        return import_facts(source, unlinked(self.root, f"facts/{name}"))

    def measure(
        self, name: str, source: "RequestSource", how: "MeasureOptions", on_event: "Callable[[MeasureEvent], None]"
    ) -> "tuple[Measured, Path, bool]":
        """Measure the application on a host and write the workload file; returns its path, and whether the project names it."""
        from farrier.measure.evaluate import evaluate
        from farrier.measure.run import MeasureEvent, measure, most_threads
        from farrier.measure.sources import asked_for
        from farrier.measure.workload_file import compared, pace_of, workload_text

        environment = environment_of(self.project, name)
        earlier = read_workload(environment, self.root, optional=True)
        relative = Path("workloads") / f"{name}.yml"
        file = unlinked(self.root, relative.as_posix())
        require_writable(file.parent, "workloads")
        if asking := source.access_log or source.locustfile:
            on_event(MeasureEvent("step", f"Choosing requests from {shown(asking.name)}"))
        asked = asked_for(self.project, source)
        how = how._replace(threads=most_threads(earlier.database_connections))
        where, found = measure(self.project, name, self.root, asked, how, on_event)
        measured = evaluate(found, asked.names, asked.notes, how.seconds, where)
        before = read_measured(file)
        pace = pace_of(measured, where, before)
        measured = replace(measured, skipped=(*measured.skipped, *compared(measured, pace, before)))
        text = workload_text(name, where, measured, pace, earlier, before)
        write_atomically(file, text, "workloads")
        return measured, relative, environment.workload == relative.as_posix()

    def loadtest(
        self,
        name: str,
        host: str | None,
        options: "LoadtestOptions",
        output: Path | None,
        extra: Sequence[str],
        on_event: "Callable[[MeasureEvent], None]",
    ) -> "tuple[LoadtestResult, tuple[Path, Path]]":
        """Load one host beyond its predicted capacity, and write the report and its figures; returns their paths."""
        from farrier.loadtest.page import page
        from farrier.loadtest.plots import require_matplotlib
        from farrier.loadtest.run import run_loadtest
        from farrier.loadtest.schedule import prediction
        from farrier.loadtest.tables import csv_text

        require_matplotlib()
        planned = self.plan(name, None, {})
        chosen = host or next(iter(planned.plans))
        if chosen not in planned.plans:
            raise InputError(f"--host {shown(chosen)} is not planned in {name}; {nearest(chosen, planned.plans)}")
        directory = output or unlinked(self.root, f"loadtests/{name}")
        require_writable(directory, "load tests")
        found = run_loadtest(
            self.project,
            name,
            self.root,
            prediction(chosen, planned.plans[chosen].draft),
            timeout_seconds=float(planned.workload.client_timeout_seconds),
            options=options,
            extra=extra,
            on_event=on_event,
        )
        report, figures = directory / f"{chosen}.html", directory / f"{chosen}.csv"
        write_atomically(figures, csv_text(found.rows), "load tests")
        write_atomically(report, page(found), "load tests")
        return found, (report, figures)

    def plan(
        self, name: str, directory: Path | None, stated: Stated, limit: str | None = None, peak_rps: float | None = None
    ) -> "Planned":
        """The plans of an environment's hosts, for the workload's peak or another one."""
        environment = environment_of(self.project, name)
        workload = read_workload(environment, self.root)
        known, missing = self._facts(name, environment, directory, stated, alone=True)
        hosts = len(known)
        if limit is not None:
            known = {host: facts for host, facts in known.items() if fnmatchcase(host, limit)}
            missing = [host for host in missing if fnmatchcase(host, limit)]
            if not known:
                raise InputError(f"--limit {shown(limit)} matches no host with facts")
        planned = _planned(name, known, workload, environment.overrides, peak_rps, hosts)
        notes = () if STATED in known else self._notes(name, environment, missing)
        return replace(planned, without_facts=missing, notes=notes)

    def generate(
        self, name: str, directory: Path | None, stated: Stated, output: Path | None, *, check: bool, force: bool
    ) -> Generated:
        """Write the generated tree to disk, or compare it with what is there."""
        from farrier.generate.disk import Output
        from farrier.generate.tree import environment_tree
        from farrier.project.deployable import require_deployable

        environment = environment_of(self.project, name)
        require_deployable(self.project.application, self.root)
        workload = read_workload(environment, self.root)
        known, missing = self._facts(name, environment, directory, stated)
        plans = plan_all(known.values(), workload, environment.overrides)
        files = environment_tree(self.project, name, known.values(), plans, workload)
        target = Output(output or self.root, name)
        with target.locked(write=not check):
            changes = target.compare(files)
            diff = list(target.diff(changes))
            kept = [] if check else target.write(files, changes, force=force)
        summary = [f"{'would write' if check else 'written'} {path}" for path in changes.written]
        summary += [f"{'would remove' if check else 'removed'} {path}" for path in changes.removed]
        summary += [f"your version is kept in {path}" for path in kept]
        summary += [f"modified by hand: {path}" for path in changes.foreign if check]
        number = len(changes.written) + len(changes.removed)
        differ = "differs" if number == 1 else "differ"
        summary.append(
            f"{name}: {counted(number, 'file')} of {len(files)} {differ if check else 'changed'}, "
            f"for {counted(len(plans), 'host')}"
        )
        summary += [f"warning: {note}" for note in self._notes(name, environment, missing)]
        return Generated(bool(changes), diff, summary)

    def _notes(self, name: str, environment: Environment, without_facts: Sequence[str]) -> list[str]:
        found = [not_planned(name, without_facts)] if without_facts else []
        return [*found, *filter(None, [missing_inventory(self.root, environment.inventory)])]

    def _facts(
        self, name: str, environment: Environment, directory: Path | None, stated: Stated, *, alone: bool = False
    ) -> tuple[dict[str, HostFacts], list[str]]:
        """Facts by host, and the hosts of the inventory without any.

        Gathered ones are overridden by the project file's, those by the command line's. Where none are gathered, stated ones
        that suffice are planned for: those of a host of the inventory or, `alone`, of one that is nowhere.
        """
        everywhere = {**environment.facts, **stated}
        for_one = {host: {**environment.facts, **own, **stated} for host, own in environment.hosts.items()}
        source = directory or self.facts_directory(name)
        known = read_facts(source, everywhere, for_one) if directory or source.is_dir() else {}
        listed = hosts_of(self.root / environment.inventory, environment.group)
        if listed == ():
            raise no_hosts(environment.inventory, shown(environment.group))
        gathered = set(known)
        for host in for_one if listed is None else listed:
            own = for_one.get(host, everywhere)
            if host not in known and own.keys() >= {*INDISPENSABLE}:
                known[host] = from_statements(host, own)
        if alone and not known and not for_one and everywhere.keys() >= {*INDISPENSABLE}:
            known[STATED] = from_statements(STATED, everywhere)
        if not known:
            raise HostError(
                f"environment {name} has no host facts: {source} has none; gather them with `farrier facts {name}`, "
                "or set cpus and memory_mb of each host under `hosts:` in the project file"
            )
        _require_named(environment, name, known if listed is None else gathered.union(listed), read=listed is not None)
        return known, [host for host in listed or () if host not in known]


def _require_named(environment: Environment, name: str, hosts: Collection[str], *, read: bool) -> None:
    """InputError for a host that the project file states facts for, but the inventory, if it could be `read`, does not have."""
    place = "inventory" if environment.group == "all" else f"group {shown(environment.group)}"
    wrong = f"is not in its {place}" if read else "has neither gathered facts nor cpus and memory_mb"
    lines = [
        f"environment {name}: {shown(host)} under `hosts:` {wrong}; {nearest(host, sorted(hosts))}"
        for host in environment.hosts
        if host not in hosts
    ]
    if lines:
        raise InputError(*lines)


def local_plan(stated: Stated, peak_rps: float | None = None) -> Planned:
    """A plan for this machine, for the default workload."""
    from farrier.facts.local import local_facts

    facts = local_facts(stated)
    return _planned("local", {facts.host: facts}, Workload(), {}, peak_rps)


def _planned(
    name: str,
    facts: Mapping[str, HostFacts],
    workload: Workload,
    overrides: Mapping[str, Value],
    peak_rps: float | None,
    hosts: int = 1,
) -> Planned:
    notes: tuple[str, ...] = ()
    if peak_rps is not None:
        before = "no peak" if workload.peak_rps is None else f"a peak of {number(workload.peak_rps)}"
        notes = (f"planned for --peak-rps {number(peak_rps)}; the workload itself has {before}",)
        workload = replace(workload, peak_rps=peak_rps, stated=workload.stated | {"peak_rps"})
    plans = plan_all(facts.values(), workload, overrides, hosts)
    if notes:
        plans = {host: replace(plan, warnings=plan.warnings + notes) for host, plan in plans.items()}
    return Planned(name, plans, workload)
