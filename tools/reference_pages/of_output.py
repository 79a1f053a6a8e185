"""What other programs read: the keys of `plan --json`, the CSV of a load test, the variables of a generated role."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from farrier.loadtest.tables import FIELDS
from farrier.settings import SPECS
from reference_pages.markdown import table
from reference_pages.texts import CSV, JSON_KEYS, ONE_RUN_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
OF_SETTINGS = {spec.variable: spec.name for spec in SPECS}


def farrier(*arguments: str) -> str:
    """What a command prints for the repository's own project."""
    command, environment = [sys.executable, "-m", "farrier", *arguments], {**os.environ, "COLUMNS": "110"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def with_explanation(text: str) -> str:
    """A document with how one setting comes about between its marks."""
    printed = farrier("plan", "production", "--explain", "gunicorn.backlog")
    sheet = "\n".join(line.rstrip() for line in printed[printed.index("gunicorn.backlog = ") :].splitlines())
    before, begin, rest = text.partition("<!-- explain: begin -->")
    return f"{before}{begin}\n```\n{sheet.rstrip()}\n```\n<!-- explain: end -->{rest.partition('<!-- explain: end -->')[2]}"


def paths(document: object, place: str = "") -> Iterator[str]:
    """The place of every key of a document; hosts stand for each other, and so do settings."""
    if isinstance(document, dict):
        for key, value in document.items():
            name = {"hosts": "HOST", "hosts.HOST.settings": "SETTING"}.get(place, key)
            yield (here := f"{place}.{name}".lstrip("."))
            yield from paths(value, here)
    elif isinstance(document, list):
        for value in document:
            yield from paths(value, f"{place}[]")


def example(document: dict[str, Any]) -> str:
    """The document with one host and one setting, in a block of code."""
    host, plan = next(iter(document["hosts"].items()))
    plan = {key: value for key, value in plan.items() if key != "rules"}
    plan["settings"] = {"gunicorn.workers": plan["settings"]["gunicorn.workers"]}
    return f"```json\n{json.dumps({**document, 'hosts': {host: plan}}, indent=2, ensure_ascii=False)}\n```"


def json_and_csv() -> Iterator[str]:
    """Every key of a plan with rules, and every column of a load test."""
    document = json.loads(farrier("plan", "production", "--json", "--rules"))
    yield example(document)
    found = dict.fromkeys(paths(document))
    yield table("key", "meaning", rows=((f"`{path}`", JSON_KEYS[path]) for path in found))
    yield CSV
    yield ", ".join(f"`{name}`" for name in FIELDS) + "."


def role_variables() -> Iterator[str]:
    """Those of the repository's production role, generated for two hosts that differ."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(ROOT / "facts" / "production", facts := Path(name, "facts"))
        smaller = json.loads((facts / "web2.json").read_text())
        smaller["cpus"]["usable"] = 1.0
        (facts / "web2.json").write_text(json.dumps(smaller))
        farrier("generate", "production", "--facts", str(facts), "--output", f"{name}/out")
        (specs,) = Path(name, "out", "roles").glob("*/meta/argument_specs.yml")
        document = yaml.load(specs.read_text(), yaml.BaseLoader)  # which takes `!unsafe` for what it is, text
    prefix = f"{specs.parents[1].name}_"
    options = {name.removeprefix(prefix): each for name, each in document["argument_specs"]["main"]["options"].items()}
    own = ((f"`<role>_{n}`", each["type"], each["description"]) for n, each in options.items() if n not in OF_SETTINGS)
    yield table("variable", "type", "meaning", rows=own)
    yield "## For one run, with `-e`"
    yield table("variable", "meaning", rows=((f"`{name}`", text) for name, text in ONE_RUN_VARIABLES.items()))
    yield "## One for each setting"
    rows = ((f"`<role>_{name}`", f"`{OF_SETTINGS[name]}`") for name in options if name in OF_SETTINGS)
    yield table("variable", "setting", rows=rows)
