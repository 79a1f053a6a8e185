"""Settings, constants, facts, commands and exit codes, from the tables and parsers that the program itself uses."""

from collections.abc import Iterator
from typing import Any

import typer.main

from farrier import errors, policy
from farrier.cli.app import app
from farrier.cli.policy_whys import whys
from farrier.facts.model import FACTS
from farrier.settings import SPECS, SettingSpec
from reference_pages.markdown import grouped, table, thousands


def settings() -> Iterator[str]:
    """Every setting, a table for each program that it belongs to."""
    for section in dict.fromkeys(spec.section for spec in SPECS):
        rows = (
            (f"`{spec.name}`", spec.meaning, _values(spec), f"`<role>_{spec.variable}`")
            for spec in SPECS
            if spec.section == section
        )
        yield f"## {section}"
        yield table("setting", "meaning", "values", "role variable", rows=rows)


def _values(spec: SettingSpec) -> str:
    if spec.type is bool:
        return "true or false"
    if spec.choices:
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    unit = f" {spec.unit}" if spec.unit else ""
    return f"{thousands(spec.minimum)} to {thousands(spec.maximum)}{unit}"


def constants() -> Iterator[str]:
    """Every constant of the policy with its why."""
    rows = ((f"`{name}`", f"`{getattr(policy, name)}`", why) for name, why in whys().items())
    yield table("constant", "value", "why", rows=rows)


def facts() -> Iterator[str]:
    """Every fact that the document of a host may hold, and an operator may state."""
    rows = ((f"`{name}`", f"`{f.place}`", grouped(str(f.kind)), f.meaning, f.unknown) for name, f in FACTS.items())
    yield table("fact", "in the document", "value", "meaning", "where unknown", rows=rows)


def commands() -> Iterator[str]:
    """Every command with its arguments and options, as typer parses them."""
    every: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] # typer's group
    texts = {name: [" ".join(part.split()) for part in each.help.split("\n\n")] for name, each in every.items()}
    yield table("command", "", rows=((f"[`farrier {name}`](#farrier-{name})", text[0]) for name, text in texts.items()))
    for name, command in every.items():
        yield f"## farrier {name}"
        yield from texts[name]
        yield table("argument or option", "default", "meaning", rows=(_option(each) for each in command.params))


def _option(parameter: Any) -> tuple[str, str, str]:
    """One row: names with their placeholder, the default, the help with the bounds of a number."""
    is_option = parameter.opts[0].startswith("-")
    is_flag = is_option and parameter.is_flag
    name = ", ".join(parameter.opts) if is_option else parameter.metavar
    named = name if is_flag or not is_option else f"{name} {parameter.metavar}"
    default = "" if is_flag or parameter.default is None else f"`{parameter.default}`"
    within = "" if parameter.min is None else f" From {thousands(parameter.min)} to {thousands(parameter.max)}."
    return f"`{named}`", "required" if parameter.required else default, parameter.help + within


def exit_codes() -> Iterator[str]:
    """Every exit code of a command."""
    yield table("code", "meaning", rows=((str(code), meaning) for code, meaning in errors.EXIT_CODES.items()))
