"""The options of `farrier measure`."""

from pathlib import Path
from typing import Annotated

import typer

from farrier.policy import MEASURE_MOST_SECONDS

HostName = Annotated[
    str | None, typer.Option(metavar="NAME", help="On this host of the inventory; without it on the first.")
]
Local = Annotated[
    bool,
    typer.Option("--local", help="On this machine, as that host, without SSH; sudo is used unless you are root."),
]
Seconds = Annotated[
    float, typer.Option(min=10, max=MEASURE_MOST_SECONDS, metavar="N", help="Time for requests; boots come on top.")
]
AccessLog = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Ask for the most frequent paths of an NGINX access log, also a .gz one."),
]
LocustFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Ask for what the users of a Locust file ask for, in the same proportion."),
]
Methods = Annotated[
    str | None,
    typer.Option(metavar="GET,...", help="Only these of a log or a Locust file; without it GET and HEAD."),
]
