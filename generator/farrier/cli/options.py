"""Options shared by several commands, and the session for the project they name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from farrier.cli.session import Session

EnvironmentName = Annotated[
    str, typer.Argument(metavar="ENV", help="An environment of the project file, such as production.")
]
ProjectFile = Annotated[Path, typer.Option("--project", "-p", metavar="FILE", help="The project file.")]
PROJECT = Path("farrier.yml")

FactsDirectory = Annotated[
    Path | None,
    typer.Option(
        "--facts",
        metavar="DIR",
        help="Read host facts from here instead of facts/ENV: Farrier's own, `ansible -m setup --tree`, or a JSON fact cache.",
    ),
]
StatedFacts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact", metavar="NAME=VALUE", help="Set a fact for all hosts, such as cpus=2 or memory_mb=3936; repeatable."
    ),
]


def session_of(project: Path) -> "Session":
    """The session of a command, imported only when a command needs it."""
    from farrier.cli.session import Session

    return Session(project)
