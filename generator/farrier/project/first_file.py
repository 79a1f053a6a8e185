"""Writes a first project file: what a source directory shows, and what could not be found."""

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from farrier.ansible.render import yaml_block
from farrier.errors import InputError
from farrier.files import write_whole
from farrier.project.discover import Discovery, discover
from farrier.project.model import Application, Environment, Project
from farrier.project.reading import KEYS
from farrier.project.yaml_lines import load
from farrier.wording import shown

HEADER = """\
# What Farrier deploys, and where. Editors check it against farrier.schema.json of the Farrier repository.
# Next: farrier facts {environment}, farrier plan {environment}, farrier generate {environment}
"""

WORKLOAD = """\
    # What one request costs. Fill in what you have measured; the rest is assumed, and the plan says so.
    # workload:
    #   cpu_seconds: 0.02            # CPU time of one request
    #   wait_seconds: 0.03           # time spent waiting for the database and other services
    #   memory_private_mb: 45        # memory that one worker does not share
    #   memory_shared_mb: 35         # memory that preloaded workers share
    #   preload_safe: true           # importing the application starts no threads and opens no sockets
    #   database_connections: 90     # available to the application on all hosts together
    #   peak_rps: 40                 # requests a second at the peak
    #   request_limit_seconds: 30    # the slowest legitimate request
"""


def write_project_file(
    directory: Path, target: Path, environment: str, domain: str, inventory: str, *, force: bool
) -> tuple[list[str], list[str]]:
    """Write `target` for the application in `directory`; returns what was found and what the user has to add.

    Raises:
        InputError: the directory cannot be read, or `target` exists and `force` is not set.
    """
    if not directory.is_dir():
        raise InputError(f"{shown(str(directory), 200)} is not a directory; name the application's source directory")
    if os.path.lexists(target) and not force:
        raise InputError(f"{target}: already exists; edit it, or overwrite it with --force")
    smallest = {
        "application": {"name": "notes", "wsgi": "notes:app"},
        "environments": {environment: {"inventory": "hosts", "domain": "www.example.org"}},
    }
    _require("--environment", Project, smallest, environment, "environments")
    _require("--domain", Environment, {"domain": domain}, domain, "domain")
    _require("--inventory", Environment, {"inventory": inventory}, inventory, "inventory")
    source = _source(directory, target)
    _require("the directory", Application, {"source": source}, source, "source")
    seen = discover(directory)
    for key, value in list(seen.keys.items()):
        if _wrong(Application, {key: value}, key):
            del seen.keys[key]
            seen.hints[key] = f"{shown(value)} was found, but is not valid in a project file"
    text = _document(seen, source, environment, domain, inventory)
    load(text.encode(), str(target))  # do not write what could not be read back
    try:
        write_whole(target, text.encode())
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return seen.found, seen.missing


def _wrong(model: type[BaseModel], document: Mapping[str, object], key: str) -> bool:
    """Whether a model rejects `key` in a document, in which other keys may be missing."""
    try:
        model.model_validate(document)
    except ValidationError as error:
        mistakes = [each for each in error.errors() if each["type"] != "missing"]
        return any(each["loc"][:1] in ((key,), ()) for each in mistakes)
    return False


def _require(what: str, model: type[BaseModel], document: Mapping[str, object], value: str, key: str) -> None:
    if _wrong(model, document, key):
        right = KEYS[key] if key in KEYS else model.model_fields[key].description
        raise InputError(f"{what}: {shown(value)} is not valid in a project file; expected {right}")


def _source(directory: Path, target: Path) -> str:
    """The directory as the project file names it: relative to the file."""
    base, source = target.resolve().parent, directory.resolve()
    if source == base:
        return "."
    try:
        return source.relative_to(base).as_posix()
    except ValueError:
        raise InputError(
            f"{shown(str(directory), 200)} is not below {base}; use --project to write the project file beside or "
            "above the source"
        ) from None


def _document(seen: Discovery, source: str, environment: str, domain: str, inventory: str) -> str:
    application = {"name": seen.name, "source": source, **seen.keys}
    lines = [HEADER.format(environment=environment), "application:"]
    for key in ("name", "source", "wsgi", "requirements", "health_path", "migrate", "static", "environment", "secrets"):
        if key in application:
            lines.append(_indented({key: application[key]}, 2))
        elif key in seen.hints:
            field = Application.model_fields[key]
            lines.append(f"  # {key}:  not found: {seen.hints[key]} ({field.description})")
    own = {"inventory": inventory, "domain": domain}
    if seen.environment:
        own["environment"] = {key: value.format(domain=domain) for key, value in seen.environment.items()}  # type: ignore[assignment]
    lines += ["", "environments:", f"  {environment}:", _indented(own, 4), WORKLOAD]
    return "\n".join(lines)


def _indented(value: object, by: int) -> str:
    return textwrap.indent(yaml_block(value), " " * by)
