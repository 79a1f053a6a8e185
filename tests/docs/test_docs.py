"""What the documents say of keys, settings, files and figures is what the code has; links lead somewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import reference
from farrier import errors
from farrier.ansible.render import comment
from farrier.cli.app import app
from farrier.facts.model import FACTS
from farrier.project.model import Environment, Project
from farrier.project.yaml_lines import load
from farrier.settings import SPECS
from reference_pages.texts import JSON_KEYS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/django/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
ROLE_README = ROOT / "templates/role/README.md.tmpl"
UNITS = r"(?:%|s|ms|KB|MB|GB|CPUs?|cores?|seconds?|minutes?|hours?|days?|weeks?|requests?|workers?|threads?|processes|hosts?)\b"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def page(name: str) -> str:
    return (ROOT / "docs" / "reference" / f"{name}.md").read_text()


def prose(text: str) -> str:
    """A document without code, in blocks or spans."""
    return re.sub(r"`[^`]*`|^    .*$", "", FENCE.sub("", text), flags=re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    assert reference.stale() == [], "run: .venv/bin/python tools/reference.py"


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_what_exists(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        linked = (path.parent / target).resolve() if target else path
        assert linked.is_relative_to(ROOT), link
        assert linked.exists(), link
        if anchor:
            assert anchor in anchors(linked.read_text()), link


@pytest.mark.parametrize("path", [*PAGES, ROLE_README], ids=name_of)
def test_no_unit_is_parted_from_its_number(path: Path) -> None:
    assert re.findall(rf"\d\n[ >*-]*{UNITS}", path.read_text()) == []


@pytest.mark.parametrize("width", range(20, 40))
def test_no_unit_is_parted_in_a_comment_of_the_role(width: int) -> None:
    text = comment("At least 3 times the 1 s that a worker takes to start, and 95 % of 252 MB.", width=width)
    assert re.findall(rf"\d\n[# ]*{UNITS}", text) == []
    assert " ".join(line.removeprefix("# ") for line in text.splitlines()).endswith(
        "the 1 s that a worker takes to start, and 95 % of 252 MB."
    )


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_thousands_are_written_one_way(path: Path) -> None:
    assert re.findall(r"(?<![\w.,-])\d{5,}(?![\w-])", prose(path.read_text())) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", README)}
    assert {path for path in PAGES if path.is_relative_to(ROOT / "docs")} - linked == {ROOT / "docs" / "README.md"}


def test_every_command_and_option_is_documented() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined] # typer's group
    for name, command in commands.items():
        section = page("commands").partition(f"## farrier {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.opts[0].startswith("-") else [parameter.metavar]:
                assert option in section, f"{name} {option}"


def test_every_key_setting_fact_and_exit_code_is_documented() -> None:
    schema = json.loads((ROOT / "farrier.schema.json").read_text())
    keys = {key for part in schema["$defs"].values() for key in part.get("properties", ())} | set(schema["properties"])
    documented = page("project-file") + page("workload")
    assert [key for key in sorted(keys) if f"| `{key}` |" not in documented] == []
    for spec in SPECS:
        assert f"| `{spec.name}` | {spec.meaning} |" in page("settings")
        assert f"| `<role>_{spec.variable}` | `{spec.name}` |" in page("role-variables")
    assert [name for name, fact in FACTS.items() if f"| `{name}` | `{fact.place}` |" not in page("facts")] == []
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", page("exit-codes"), re.MULTILINE)]
    assert codes == [0, 1, *sorted(each.exit_code for each in errors.FarrierError.__subclasses__())]


def test_no_key_of_the_json_is_explained_that_no_plan_has() -> None:
    assert [key for key in JSON_KEYS if f"| `{key}` |" not in page("json")] == []


def test_the_plan_in_the_readme_is_the_repositorys_own() -> None:
    command = [sys.executable, "-m", "farrier", "plan", "production"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    excerpt = README[README.index("    $ farrier plan production") :].split("\n\n")[0].splitlines()
    for line in excerpt[1:3]:
        assert line.strip() in printed
    for line in excerpt[4:-1]:
        setting, value = line.split()[:2]
        assert any(row.replace("│", " ").split()[:2] == [setting, value] for row in printed), line


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """A part of a project file with what it lacks."""
    if set(document) <= set(Environment.model_fields) - {"environment"}:
        document = {"environments": {"production": document}}
    for environment in document.setdefault("environments", {"production": {}}).values():
        environment.setdefault("inventory", "inventories/production.yml")
        environment.setdefault("domain", "www.example.org")
    return {"application": {"name": "notes", "wsgi": "notes.wsgi:application"}} | document


def test_project_files_in_the_documents_are_valid() -> None:
    found = [
        (path, load(block.encode(), name_of(path)).data)
        for path in PAGES
        for language, block in FENCE.findall(path.read_text())
        if language == "yaml"
    ]
    ours = {*Project.model_fields, *Environment.model_fields}
    documents = [(path, each) for path, each in found if isinstance(each, dict) and set(each) <= ours]
    assert len(documents) >= 6
    for _, document in documents:
        Project.model_validate(completed(document))


def test_modules_and_folders_that_contributing_names_exist() -> None:
    places = [ROOT / name for name in ("generator/farrier", "tests", "templates", "tools")]
    for name in re.findall(r"`([\w./]+(?:\.py|/))`", CONTRIBUTING):
        assert (ROOT / name).exists() or any(list(place.rglob(name.rstrip("/"))) for place in places), name


def test_each_walk_of_contributing_leads_to_its_file() -> None:
    rows = re.findall(r"^\| (?:a|what|how) .*? \| `(.*?)`(?: > `(.*?)`)?", CONTRIBUTING, re.MULTILINE)
    assert len(rows) == 5
    for folder, file in rows:
        assert (ROOT / folder / file).exists(), f"{folder}{file}"


def test_contributing_says_why_each_module_of_the_role_exists() -> None:
    (role,) = (ROOT / "roles").glob("*_production")
    modules = {path.stem for path in (role / "library").glob("*.py")}
    assert set(re.findall(r"^\| `(farrier_\w+)` \|", CONTRIBUTING, re.MULTILINE)) == modules
