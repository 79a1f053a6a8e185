"""What the documents say of commands, options, settings and files is what the code has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from farrier import errors
from farrier.cli.app import app
from farrier.project.model import Project
from farrier.project.yaml_lines import load
from farrier.settings import SPECS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, heading: str) -> str:
    """The first fenced block of a language after a heading."""
    found = re.search(rf"^##+ {heading}$.*?^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def test_the_table_of_commands_is_the_help() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined] # typer's group
    expected = [f"| `farrier {name}` | {(command.help or '').splitlines()[0]} |" for name, command in commands.items()]
    section = README.partition("### Commands")[2].partition("###")[0]
    assert [line for line in section.splitlines() if line.startswith("| `farrier ")] == expected


def test_the_table_of_exit_codes_is_complete() -> None:
    codes = {0} | {
        e.exit_code for e in (errors.DriftError, errors.InputError, errors.DoesNotFitError, errors.HostError)
    }
    assert {int(code) for code in re.findall(r"^\| (\d) \|", README, re.MULTILINE)} == codes


def test_the_table_of_settings_is_the_registry() -> None:
    rows = [line for line in README.splitlines() if re.match(r"\| `(gunicorn|systemd|kernel|nginx|farrier)\.", line)]
    assert rows == [f"| `{spec.name}` | {spec.meaning} |" for spec in SPECS]


def test_the_plan_in_the_readme_is_the_repositorys_own() -> None:
    command = [sys.executable, "-m", "farrier", "plan", "production"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    excerpt = README[README.index("    $ farrier plan production") :].split("\n\n")[0].splitlines()
    for line in excerpt[1:3]:
        assert line.strip() in printed
    for line in excerpt[4:-1]:
        setting, value = line.split()[:2]
        assert any(row.replace("│", " ").split()[:2] == [setting, value] for row in printed), line


def test_the_project_file_in_the_readme_is_valid() -> None:
    Project.model_validate(load(block("yaml", r"farrier\.yml").encode(), "README.md").data)


def test_the_json_in_the_readme_has_the_contracts_keys() -> None:
    host = json.loads(block("json", "Settings"))["hosts"]["web1"]
    assert set(host) == {"sized_for", "settings", "predicted", "warnings"}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/django/README.md"])
def test_links_lead_to_files_that_exist(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", text, re.MULTILINE))
    assert named <= targets, named - targets


def test_modules_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    package = ROOT / "generator/farrier"
    for name in re.findall(r"`([a-z_]+)\.py`", text):
        assert (
            list(package.rglob(f"{name}.py"))
            or list((ROOT / "tests").rglob(f"{name}.py"))
            or list((ROOT / "templates").rglob(f"{name}.py"))
        ), name
