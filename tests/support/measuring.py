"""`farrier measure` on a living host, and what it must leave there."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from deployed import Deployed, ended, started
from known_cost import change
from testbed import ENVIRONMENT

SECONDS = 10
LEFTOVERS = (
    "ls -d /srv/notes-measure /run/farrier-measure-* /run/systemd/transient/farrier-measure* 2>&1 | grep -v 'No such'; "
    "systemctl list-units --all --plain --no-legend 'farrier-measure*'; "
    "ps -u notes -o args= | grep measure; true"
)


def start(stack: Deployed, *arguments: str) -> subprocess.Popen[str]:
    return started(stack, "measure", ENVIRONMENT, "--seconds", str(SECONDS), *arguments)


def measure(stack: Deployed, *arguments: str) -> tuple[int, str, str]:
    """Exit code, result and progress."""
    return ended(start(stack, *arguments))


def live(stack: Deployed) -> str:
    """What serves, so that nothing of it may change: the slot, its processes, and its releases."""
    return stack.shell(
        "readlink /srv/notes/active; systemctl show -p MainPID,ActiveEnterTimestampMonotonic notes@a notes@b; "
        "ls /srv/notes/releases /srv/notes/venvs"
    )


@contextmanager
def appended(stack: Deployed, text: str) -> Iterator[None]:
    """The application with this at the end of its WSGI module; nothing of what is live or left may change by it."""
    before, directory = live(stack), stack.project / "changed"
    shutil.copytree(stack.project / "app", directory)
    with (directory / "notes/wsgi.py").open("a") as file:
        file.write(text)
    change(stack.project, source="changed")
    try:
        yield
    finally:
        change(stack.project, source="app")
        shutil.rmtree(directory)
    assert stack.shell(LEFTOVERS) == ""
    assert live(stack) == before
