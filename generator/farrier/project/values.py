"""An allow-list of values in the project file: names, paths, commands, numbers, facts, settings."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from farrier.ansible.trust import HEADER, MARKS
from farrier.facts.model import FACTS, Number, Text, is_a
from farrier.project.reserved import why_not_a_variable
from farrier.settings import BY_NAME, SPECS, SettingSpec, Value
from farrier.wording import nearest, quoted

NAME = r"^[a-z](-?[a-z0-9])*$"
HOST_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
INNER_PATH = r"^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$"
COMMAND = r"^[A-Za-z0-9_./][A-Za-z0-9_@+=:,./ -]*$"
REQUEST_PATH = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$"
SOURCE_DIRECTORY = re.compile(r"(\.{1,2}|[A-Za-z0-9_][A-Za-z0-9._+-]*)(/(\.{1,2}|[A-Za-z0-9_.][A-Za-z0-9._+-]*))*/?")


_LAST = "".join(chr(plane | low) for plane in range(0, 0x110000, 0x10000) for low in (0xFFFE, 0xFFFF))
NO_TEXT = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f\\ufdd0-\\ufdef{_LAST}]")
"""Characters for which systemd drops a value or its whole file: control characters other than tab and newline, and what
`unichar_is_valid` in its utf8.c refuses."""


def _plain(value: object) -> object:
    """A text that Ansible, which evaluates any Jinja it meets, and systemd use verbatim."""
    if not isinstance(value, str):
        return value
    if any(mark in value for mark in MARKS):
        raise ValueError("Ansible would evaluate {{, {% and {#; set this value in the inventory, tagged !unsafe")
    if HEADER in value:
        raise ValueError(
            f"Ansible would read other delimiters after {HEADER}; set this value in the inventory, tagged !unsafe"
        )
    if bad := NO_TEXT.search(value):
        raise ValueError(
            f"contains U+{ord(bad.group()):04X}, which makes systemd drop the value or the whole file; remove it"
        )
    return value


def _text_of_scalar(value: object) -> object:
    """An environment value may be written as a whole number; anything with more than one spelling must be quoted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bool | float):
        raise ValueError("can be written as text in more than one way; put it in quotes")  # noqa: TRY004 - pydantic wants ValueError
    return _plain(value)


def inside(value: str) -> str:
    """Refuse a path that leaves its directory."""
    if ".." in value.split("/"):
        raise ValueError("leaves the source directory; name a path inside it")
    return value


Name = Annotated[str, Field(pattern=NAME, max_length=30)]
InnerPath = Annotated[str, Field(pattern=INNER_PATH, max_length=200)]
Command = Annotated[str, Field(pattern=COMMAND, max_length=500)]
HostName = Annotated[str, Field(pattern=HOST_NAME, max_length=253)]
UrlPath = Annotated[str, Field(pattern=r"^/(\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]*/?)*$", max_length=200)]
RequestPath = Annotated[str, Field(pattern=REQUEST_PATH, max_length=500)]
Weight = Annotated[float, Field(gt=0, le=1_000_000)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]+$", max_length=200)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
EnvironmentValue = Annotated[str, BeforeValidator(_text_of_scalar), Field(max_length=65_536, pattern="^[^\\x00]*$")]
HostsPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*!][A-Za-z0-9_.:,*&!\[\]-]*$", max_length=253)]
InventoryHost = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._:-]*$", max_length=253)]


class Model(BaseModel):
    """Unknown keys are mistakes, and `"3"` is not 3."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _refuse(problems: Iterable[str]) -> None:
    """All that is wrong with a value in one error."""
    if found := "; ".join(problems):
        raise ValueError(found)


def check_variables(names: Iterable[str]) -> None:
    """Refuse environment variables that belong to systemd or the plan."""
    _refuse(f"{name} {why}; remove it" for name in sorted(names) if (why := why_not_a_variable(name)))


def _facts(value: Any) -> Any:
    """Check facts that an operator states against `facts.FACTS`."""
    if not isinstance(value, dict):
        return value
    _refuse(
        f"{name} is not a fact; {nearest(str(name), list(FACTS))}"
        if name not in FACTS
        else f"{name}: {quoted(given)} is not {FACTS[name].kind}"
        for name, given in value.items()
        if name not in FACTS or not is_a(FACTS[name].kind, given)
    )
    return value


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _facts_schema() -> dict[str, Any]:
    def one(kind: Number | Text) -> dict[str, Any]:
        if isinstance(kind, Text):
            return {"type": "string", "maxLength": kind.longest}
        low = {"minimum": kind.least} if kind.above is None else {"exclusiveMinimum": kind.above}
        return {"type": "integer" if kind.whole else "number", "maximum": kind.most, **low}

    return _object({name: {**one(fact.kind), "description": fact.meaning} for name, fact in FACTS.items()})


Stated = Annotated[dict[str, int | float | str], BeforeValidator(_facts), WithJsonSchema(_facts_schema())]


def _why_not_an_override(name: str, given: object) -> str | None:
    spec = BY_NAME.get(name)
    if spec is None:
        return f"{name} is not a setting; {nearest(str(name), list(BY_NAME))}"
    if name == "gunicorn.worker_class" and re.search("asgi|uvicorn", str(given), re.IGNORECASE):
        return (
            f"{name}: {given!r} is not supported: an ASGI worker accepts connections without limit and drains the "
            f"socket's queue, so the plan's numbers would not hold; expected {spec.expected}"
        )
    return None if spec.accepts(given) else f"{name}: {given!r} is not {spec.expected}"


def _overrides(value: Any) -> Any:
    """Check an operator's settings against `settings.SPECS`."""
    if not isinstance(value, dict):
        return value
    _refuse(filter(None, (_why_not_an_override(name, given) for name, given in value.items())))
    if value.get("gunicorn.worker_class") == "sync" and value.get("gunicorn.threads", 1) != 1:
        raise ValueError(
            "gunicorn.threads above 1 makes Gunicorn use gthread, which contradicts gunicorn.worker_class sync"
        )
    return value


def _overrides_schema() -> dict[str, Any]:
    def one(spec: SettingSpec) -> dict[str, Any]:
        if spec.type is bool:
            return {"type": "boolean", "description": spec.meaning}
        if spec.choices:
            return {"enum": list(spec.choices), "description": spec.meaning}
        meaning = f"{spec.meaning} ({spec.unit})" if spec.unit else spec.meaning
        return {"type": "integer", "minimum": spec.minimum, "maximum": spec.maximum, "description": meaning}

    return _object({spec.name: one(spec) for spec in SPECS})


Overrides = Annotated[dict[str, Value], BeforeValidator(_overrides), WithJsonSchema(_overrides_schema())]
