"""Reads farrier.yml and workload files from disk; every mistake is one line with file, line, key and what is expected."""

from pathlib import Path as FilePath
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from farrier.errors import InputError
from farrier.files import opened
from farrier.project.model import Environment, Project
from farrier.project.workload import Workload
from farrier.project.yaml_lines import MAXIMUM_BYTES, Document, Path, load
from farrier.wording import printable, shown

M = TypeVar("M", Project, Workload)

Holder = type[BaseModel] | type[Workload]
"""What a mapping of the project file is read as; both know their fields as `__pydantic_fields__`."""


def read_project(path: FilePath) -> Project:
    """The validated project file.

    Raises:
        InputError: it cannot be read or is wrong; all mistakes at once.
    """
    return _validated(Project, path, "run `farrier init` to write one, or name another with --project")


def read_workload(environment: Environment, root: FilePath, *, optional: bool = False) -> Workload:
    """The workload of an environment, from the project file or the file that it names, relative to `root`.

    An `optional` file may not exist yet.
    """
    given = environment.workload
    if isinstance(given, Workload):
        return given
    if optional and not (root / given).exists():
        return Workload()
    return _validated(
        Workload, root / given, "`workload:` in the project file names it; `farrier measure` writes workloads/ENV.yml"
    )


def read_measured(path: FilePath) -> Workload | None:
    """The existing workload file; None if there is none or it is invalid."""
    try:
        return _validated(Workload, path, "")
    except InputError:
        return None


def environment_of(project: Project, name: str) -> Environment:
    """The environment called `name`, or an error that lists the existing ones."""
    if name not in project.environments:
        raise InputError(
            f"environment {shown(name)} is not in the project file, which has {', '.join(sorted(project.environments))}"
        )
    return project.environments[name]


def _validated(model: type[M], path: FilePath, hint: str) -> M:
    try:
        with opened(path) as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    document = load(content, str(path))
    if not isinstance(document.data, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(model.__pydantic_fields__)}")
    try:
        return TypeAdapter(model).validate_python(document.data)
    except ValidationError as error:
        lines = dict.fromkeys(_line(model, details, document, path) for details in error.errors(include_url=False))
        raise InputError(*lines) from None


def _line(model: Holder, details: ErrorDetails, document: Document, path: FilePath) -> str:
    """One mistake as a line: `farrier.yml:12: application.name: 'Notes' ...`."""
    key = _key(details, document.data)
    what = ".".join(printable(str(part), 60) for part in key)
    prefix = f"{path}:{document.line(key)}: " + (f"{what}: " if what else "")
    kind, given = details["type"], details["input"]
    expected = _expected(model, key)
    right = f"; expected {expected}" if expected else ""
    if kind == "missing":
        return f"{prefix}is missing{right}"
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"{prefix}unknown key; known are {', '.join(_at(model, key[:-1])[0].__pydantic_fields__)}"
    if kind == "value_error":
        message = str(details.get("ctx", {}).get("error", details["msg"]))
        return f"{prefix}{message}" if isinstance(given, dict) else f"{prefix}{shown(given)} {message}"
    if isinstance(given, str) and len(given) < 254 and not given.isascii() and key[-1:] == ("domain",):
        return f"{prefix}{shown(given)} must be written as {_punycode(given)}"
    if details["loc"][-1] == "[key]":
        right = f"; expected {KEYS.get(str(key[-2]), KEYS['environment'])}"
    reason = _REASONS.get(kind, details["msg"].removeprefix("Input "))
    return f"{prefix}{shown(given)} {reason}{right}"


KEYS = {
    "environments": "a name of lower-case letters, digits and single hyphens, such as production",
    "scenarios": "a name of lower-case letters, digits and single hyphens, such as small",
    "urls": "a path that begins with a slash, such as /notes/?page=2",
    "hosts": "a host's name in the inventory",
    "environment": "a variable's name of letters, digits and underscores, such as SECRET_KEY",
}
"""What is expected of a key that the user names, by the mapping it is in."""


_REASONS = {
    "string_type": "is not text",
    "int_type": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "bool_type": "is not true or false",
    "string_pattern_mismatch": "is not allowed here",
    "dict_type": "is not a mapping",
    "list_type": "is not a list",
    "tuple_type": "is not a list",
    "frozen_set_type": "is not a list",
    "model_type": "is not a mapping",
    "dataclass_type": "is not a mapping",
    "string_too_long": "is too long",
    "string_too_short": "is too short",
    "literal_error": "is not one of the choices",
    "finite_number": "is not a finite number",
}


def _key(details: ErrorDetails, data: object) -> Path:
    """The part of pydantic's location that exists in the document, without union members and `[key]` marks."""
    key: list[int | str] = []
    location = details["loc"]
    for i, part in enumerate(location):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif details["type"] != "missing" or i < len(location) - 1:
            continue
        key.append(part)
    return tuple(key)


def _punycode(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return "its xn-- form"


def _models(annotation: Any) -> list[Holder]:
    """The models in an annotation, including those inside unions, lists and dicts."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel | Workload):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _at(model: Holder, key: Path) -> tuple[Holder, str | None]:
    """The model that holds `key`, and the name of the field in it."""
    current, name = model, None
    for part in key:
        if name is None or part in current.__pydantic_fields__:
            name = str(part)
        field = current.__pydantic_fields__.get(name)
        inner = _models(field.annotation) if field else []
        if inner and (not _is_mapping_of(field) or part != name):
            current, name = inner[0], None
    return current, name


def _is_mapping_of(field: Any) -> bool:
    return getattr(field.annotation, "__origin__", None) in (dict, list)


def _expected(model: Holder, key: Path) -> str | None:
    """What the description of the field at `key` says is right."""
    holder, name = _at(model, key[:-1]) if key else (model, None)
    last = str(key[-1]) if key else ""
    field = holder.__pydantic_fields__.get(last) or (holder.__pydantic_fields__.get(name) if name else None)
    return field.description if field else None
