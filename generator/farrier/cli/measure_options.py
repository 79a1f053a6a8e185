"""The options of `farrier measure`."""

from pathlib import Path
from typing import Annotated

import typer

from farrier.policy import MEASURE_MOST_SECONDS

HostName = Annotated[str | None, typer.Option(metavar="NAME", help="Measure on this host; the first one by default.")]
Local = Annotated[
    bool,
    typer.Option(
        "--local", help="Measure on this machine, as that host, without SSH; sudo is used unless you are root."
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        min=10, max=MEASURE_MOST_SECONDS, metavar="N", help="Time spent on requests; starting workers comes on top."
    ),
]
AccessLog = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Request the most frequent paths of an NGINX access log, plain or .gz."),
]
LocustFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Send what the users of a Locust file send, in the same proportions."),
]
Methods = Annotated[
    str | None,
    typer.Option(metavar="GET,...", help="Only these methods of a log or a Locust file; GET and HEAD by default."),
]
