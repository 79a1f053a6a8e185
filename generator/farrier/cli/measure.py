"""The command `farrier measure`."""

from pathlib import Path
from typing import Annotated

import typer

from farrier.cli.options import PROJECT, EnvironmentName, ProjectFile, session_of
from farrier.policy import MEASURE_MOST_SECONDS, MEASURE_SECONDS


def measure(
    context: typer.Context,
    environment: EnvironmentName,
    *,
    project: ProjectFile = PROJECT,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure on this host; the first one by default.")
    ] = None,
    local: Annotated[
        bool,
        typer.Option(
            "--local", help="Measure on this machine, as that host, without SSH; sudo is used unless you are root."
        ),
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(
            min=10, max=MEASURE_MOST_SECONDS, metavar="N", help="Time spent on requests; starting workers comes on top."
        ),
    ] = MEASURE_SECONDS,
    access_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Request the most frequent paths of an NGINX access log, plain or .gz."),
    ] = None,
    locustfile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send what the users of a Locust file send, in the same proportions."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(metavar="GET,...", help="Only these methods of a log or a Locust file; GET and HEAD by default."),
    ] = None,
) -> None:
    """Measure what a request costs on a host and write workloads/ENV.yml.

    Your source runs beside the live release, with the same Gunicorn, sandbox and database, and receives GET requests for the
    paths of `application.urls`, or for those of a log or a Locust file. Arguments after `--` are passed to
    ansible-playbook.
    """
    from farrier.cli.plan_table import measuring
    from farrier.measure.run import MeasureOptions
    from farrier.measure.sources import RequestSource
    from farrier.measure.workload_file import facts as measured_facts

    source = RequestSource(access_log, locustfile, methods)
    how = MeasureOptions(host, seconds, tuple(context.args), local)
    measured, path, named = session_of(project).measure(environment, source, how, measuring())
    for line in measured_facts(measured):
        typer.echo(line)
    typer.echo(f"\nwritten  {path}" + ("" if named else f"; name it in {project}: `workload: {path}`"))
