"""The keys of the project file and of a workload, from the published JSON schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from farrier.project.schema import project_schema
from reference_pages.markdown import shown, table, thousands

Schema = Mapping[str, Any]

PARTS = {
    "application": "Application",
    "application.static": "Static",
    "environments.ENV": "Environment",
    "environments.ENV.tls": "Tls",
    "scenarios.NAME": "Scenario",
}
"""Mappings of the project file by the name of their definition."""

SIMPLE = {"array": "list", "object": "mapping", "boolean": "true or false", "string": "text"}


def kind(part: Schema) -> str:
    """What a key's value is: its type, and its bounds where it has some."""
    if "$ref" in part:
        return "mapping"
    if options := part.get("anyOf") or part.get("oneOf"):
        return " or ".join(kind(each) for each in options if each.get("type") != "null")
    if "enum" in part:
        return " or ".join(f"`{each}`" for each in part["enum"])
    if part["type"] in SIMPLE:
        return SIMPLE[part["type"]]
    words = ["whole number" if part["type"] == "integer" else "number"]
    for word, bound in (("above", "exclusiveMinimum"), ("from", "minimum"), ("to", "maximum")):
        words += [word, thousands(part[bound])] if bound in part else []
    return " ".join(words)


def keys(part: Schema) -> str:
    """The table of a mapping's keys."""
    required = part.get("required", [])
    return table(
        "key", "value", "default", "meaning",
        rows=(
            (f"`{name}`", kind(key), "required" if name in required else shown(key.get("default")), key["description"])
            for name, key in part["properties"].items()
        ),
    )  # fmt: skip


def project_file() -> Iterator[str]:
    """Every key of farrier.yml."""
    schema = json.loads(project_schema())
    yield keys(schema)
    for heading, name in PARTS.items():
        yield f"## `{heading}`"
        yield keys(schema["$defs"][name])


def workload() -> Iterator[str]:
    """Every key of a workload; the schema calls it whatever `workload:` refers to."""
    schema = json.loads(project_schema())
    options = schema["$defs"]["Environment"]["properties"]["workload"]["oneOf"]
    name = next(option["$ref"].rpartition("/")[2] for option in options if "$ref" in option)
    part = schema["$defs"][name]
    yield keys(part)
    yield "## `reference`"
    yield keys(schema["$defs"]["Reference"])
    yield "## Measured"
    measurable = ", ".join(f"`{name}`" for name in part["properties"]["measured"]["items"]["enum"])
    yield f"`farrier measure` finds out {measurable}. A workload file lists those that it holds under `measured`."
