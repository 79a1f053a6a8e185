"""The published JSON schema is the one that the code checks by."""

import json
from pathlib import Path

import jsonschema
import pytest

from farrier.project.schema import project_schema
from farrier.project.yaml_lines import load

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "farrier.schema.json"


def test_the_published_schema_is_current() -> None:
    assert SCHEMA.read_text() == project_schema(), "run: python -m farrier.project.schema > farrier.schema.json"


def test_the_repositorys_own_project_file_is_valid() -> None:
    jsonschema.validate(load((ROOT / "farrier.yml").read_bytes(), "farrier.yml").data, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("application", "colour"), "red"),
        (("application", "name"), "Notes"),
        (("environments", "staging", "overrides"), {"gunicorn.workers": 0}),
        (("environments", "staging", "overrides"), {"gunicorn.worker": 3}),
        (("environments", "staging", "facts"), {"cpus": 0}),
        (("environments", "staging", "workload"), {"cpu_seconds": -1}),
    ],
)
def test_the_schema_refuses_what_the_code_refuses(path: tuple[str, ...], value: object) -> None:
    document = load((ROOT / "farrier.yml").read_bytes(), "farrier.yml").data
    place = document
    for key in path[:-1]:
        place = place[key]  # type: ignore[index]
    place[path[-1]] = value  # type: ignore[index]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_text()))
