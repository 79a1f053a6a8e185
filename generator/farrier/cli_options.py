"""What several commands take: their common options, and the project that these name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from farrier.session import Session

EnvironmentName = Annotated[
    str, typer.Argument(metavar="ENV", help="An environment of the project file, such as production.")
]
ProjectFile = Annotated[Path, typer.Option("--project", "-p", metavar="FILE", help="The project file.")]
PROJECT = Path("farrier.yml")


def session_of(project: Path) -> "Session":
    """The session of a command; what it imports waits until a command needs it."""
    from farrier.session import Session

    return Session(project)
