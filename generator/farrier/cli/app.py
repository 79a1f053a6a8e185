"""The command line: parses arguments, calls, and maps errors to exit codes."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from farrier.cli.loadtest import loadtest
from farrier.cli.measure import measure
from farrier.cli.options import PROJECT, EnvironmentName, FactsDirectory, ProjectFile, StatedFacts, session_of
from farrier.errors import EXIT_CODES, FarrierError, InputError
from farrier.wording import counted, number, printable, shown

if TYPE_CHECKING:
    from farrier.cli.session import Planned

FOR_ANSIBLE = {"allow_extra_args": True, "ignore_unknown_options": False}
"""Settings of commands that pass on what stands after `--`."""

app = typer.Typer(
    name="farrier",
    help="Sizes Gunicorn and NGINX for your hosts and writes the Ansible role that deploys them.\n\n"
    "A project takes four steps: init, facts, plan, generate; then ansible-playbook and molecule take over. "
    "`farrier plan --local` shows a plan for this machine right away.",
    epilog=f"Exit codes: {'; '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"farrier {version('farrier')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="The application's source directory.")] = Path(),
    *,
    project: ProjectFile = PROJECT,
    environment: Annotated[str, typer.Option(metavar="ENV", help="The first environment's name.")] = "production",
    domain: Annotated[str, typer.Option(metavar="NAME", help="The site's host name.")] = "www.example.org",
    inventory: Annotated[str | None, typer.Option(metavar="PATH", help="Its Ansible inventory.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing project file.")] = False,
) -> None:
    """Write a first project file from what a Django or Flask application shows."""
    from farrier.project.first_file import write_project_file

    found, missing = write_project_file(
        directory, project, environment, domain, inventory or f"inventories/{environment}.yml", force=force
    )
    for line in found:
        typer.echo(f"found    {printable(line, 1000)}")
    for line in missing:
        typer.echo(f"MISSING  {printable(line, 1000)}")
    typer.echo(f"written  {printable(str(project), 1000)}; next: farrier facts {environment}")


@app.command(context_settings=FOR_ANSIBLE)
def facts(
    context: typer.Context,
    environment: EnvironmentName,
    *,
    project: ProjectFile = PROJECT,
    limit: Annotated[str | None, typer.Option(metavar="PATTERN", help="Only these hosts; an Ansible pattern.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Import facts written by `ansible -m setup --tree DIR` or a JSON fact cache; contact no host.",
        ),
    ] = None,
) -> None:
    """Gather host facts over Ansible's own connections into facts/ENV/HOST.json.

    Arguments after `--` are passed to ansible: farrier facts production -- --ask-vault-pass --forks 50
    """
    from farrier.cli.plan_table import gathering

    session = session_of(project)
    if source is not None:
        hosts = session.import_facts(environment, source)
        typer.echo(f"{counted(len(hosts), 'host')} imported from {source} into {session.facts_directory(environment)}")
        return
    result = session.collect(environment, limit, tuple(context.args), gathering())
    for host in result.removed:
        typer.echo(f"{host}: no longer in the inventory; facts removed")
    typer.echo(
        f"{number(len(result.gathered))} of {counted(len(result.gathered) + len(result.failed), 'host')} gathered into "
        f"{session.facts_directory(environment)}"
    )
    if result.failed:
        for note in result.notes:
            typer.echo(note, err=True)
    result.raise_for_failed()


app.command(context_settings=FOR_ANSIBLE)(measure)
app.command(context_settings=FOR_ANSIBLE)(loadtest)


@app.command()
def plan(
    environment: Annotated[
        str | None, typer.Argument(metavar="ENV", help="An environment of the project file, such as production.")
    ] = None,
    *,
    project: ProjectFile = PROJECT,
    facts_directory: FactsDirectory = None,
    stated: StatedFacts = None,
    limit: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Only hosts whose names match, such as 'web*'.")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Plan for this machine, without a project file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan for other programs.")] = False,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING",
            help="Show how a setting such as gunicorn.workers is derived, with its numbers; repeatable.",
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Compare with common rules of thumb, such as 2n + 1.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot predicted latency against load to this .svg or .png file.")
    ] = None,
    cpus: Annotated[str | None, typer.Option(metavar="N", help="Plan as if the hosts had N CPUs.")] = None,
    memory: Annotated[str | None, typer.Option(metavar="MB", help="Plan as if the hosts had this much memory.")] = None,
    peak_rps: Annotated[
        str | None, typer.Option(metavar="N", help="Plan as if the peak were N requests a second.")
    ] = None,
) -> None:
    """Show every setting of every host, with its provenance and reason."""
    from farrier.cli.option_values import parse_peak, parse_settings, parse_stated
    from farrier.cli.session import local_plan

    own, peak = parse_stated(stated or [], cpus, memory), parse_peak(peak_rps)
    settings = parse_settings(explain or [])
    if as_json and settings:
        raise InputError("--explain prints text; leave out --json")
    if local:
        if environment is not None:
            raise InputError(f"--local plans for this machine; leave out the environment {shown(environment)}")
        planned = local_plan(own, peak)
    else:
        if environment is None:
            raise InputError("name an environment, such as `farrier plan production`, or use --local for this machine")
        planned = session_of(project).plan(environment, facts_directory, own, limit, peak)
    if plot is not None:
        from farrier.cli.plot import draw

        draw(planned.environment, planned.plans, plot)
    if as_json:
        typer.echo(_plan_document(planned, rules=rules), nl=False)
    elif settings or rules:
        from farrier.cli.explain_table import print_sheets

        print_sheets(planned.environment, planned.plans, planned.workload, settings, rules=rules)
    else:
        from farrier.cli.plan_table import print_plans

        print_plans(planned.environment, planned.plans, planned.workload)
    for note in () if as_json else planned.notes:
        typer.echo(f"warning: {note}")
    if plot is not None:
        typer.echo(f"written {plot}", err=True)


def _plan_document(planned: "Planned", *, rules: bool) -> str:
    """The plans as JSON, with the rules of thumb if requested."""
    from farrier.files import json_document
    from farrier.plan.model import plans_document

    document = plans_document(planned.environment, planned.plans)
    document["hosts_without_facts"] = list(planned.without_facts)
    if rules:
        from farrier.plan.comparison import compare, with_rules

        document = with_rules(document, {host: compare(plan.draft) for host, plan in planned.plans.items()})
    return json_document(document).decode()


@app.command()
def generate(
    environment: EnvironmentName,
    *,
    project: ProjectFile = PROJECT,
    facts_directory: FactsDirectory = None,
    stated: StatedFacts = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write to this directory instead of beside the project file.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with status 1 if anything would change.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Show what changes; with --check, without writing it.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files changed by hand; a copy of each is kept.")
    ] = False,
) -> None:
    """Write the environment's role, playbooks and Molecule scenarios."""
    from farrier.cli.option_values import parse_stated

    result = session_of(project).generate(
        environment, facts_directory, parse_stated(stated or []), output, check=check, force=force
    )
    if diff:
        for line in result.diff:
            typer.echo("\t".join(printable(part, 10_000) for part in line.split("\t")))
    for line in result.summary:
        typer.echo(printable(line, 1000))
    if check and result.changed:
        raise typer.Exit(1)


def _end(error: FarrierError) -> NoReturn:
    for message in error.messages:
        print(f"farrier: {message}", file=sys.stderr)  # noqa: T201 - typer is gone here
    sys.exit(error.exit_code)


def main() -> None:
    """Run the command line; every exit has a code from the table above and no traceback."""
    # None is wanted, and looking for them takes longer than planning a host.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    except FarrierError as error:
        _end(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a path from the command line or the project file that the system rejects
        _end(InputError(f"{error.filename or 'the system'}: {(error.strerror or str(error)).lower()}"))
    except RecursionError:
        _end(InputError("the input is nested too deeply"))
    except KeyboardInterrupt:
        sys.exit(130)
