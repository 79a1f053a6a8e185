"""The command `farrier loadtest`."""

from pathlib import Path
from typing import Annotated

import typer

from farrier.cli.options import PROJECT, EnvironmentName, ProjectFile, session_of
from farrier.loadtest.bounds import LOADTEST_SECONDS, LOADTEST_STEPS, LOADTEST_UP_TO


def loadtest(
    context: typer.Context,
    environment: EnvironmentName,
    *,
    project: ProjectFile = PROJECT,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="The host to load; the first one by default.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Send to this URL, such as http://192.0.2.10:8080, instead of the host's own address."
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=3, max=600, metavar="N", help="Measured time of each step; a warm-up of a fifth of it comes first."
        ),
    ] = LOADTEST_SECONDS,
    steps: Annotated[int, typer.Option(min=1, max=50, metavar="N", help="Number of rates.")] = LOADTEST_STEPS,
    up_to: Annotated[
        float,
        typer.Option(min=0.05, max=5, metavar="SHARE", help="The last rate, as a share of the predicted capacity."),
    ] = LOADTEST_UP_TO,
    workers: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Send with N Locust workers, if one core is not enough.")
    ] = 0,
    workers_from: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="Also send from a Locust worker on each host of this inventory group."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write to this directory instead of loadtests/ENV.")
    ] = None,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Allow a --url outside this environment, at your own risk.")
    ] = False,
) -> None:
    """Load a host to and beyond its predicted capacity, and compare prediction and measurement.

    Sends GET requests for the paths of `application.urls` through NGINX with Locust, open loop: on schedule, however slow the
    responses are. Arguments after `--` are passed to ansible.
    """
    from farrier.cli.plan_table import measuring, print_loadtest
    from farrier.errors import HostError
    from farrier.loadtest.run import LoadtestOptions

    options = LoadtestOptions(url, seconds, steps, up_to, workers, workers_from, foreign)
    found, written = session_of(project).loadtest(environment, host, options, output, tuple(context.args), measuring())
    print_loadtest(found)
    typer.echo(f"\nwritten  {written[0]} and {written[1]}")
    if found.verdict.limited:
        from farrier.loadtest.page import sentences

        raise HostError(*sentences(found))
