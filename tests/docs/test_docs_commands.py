"""Every command line in the documents is one that the program it names takes, and names files that exist."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
from ansible.cli import CLI
from ansible.cli.adhoc import AdHocCLI
from ansible.cli.playbook import PlaybookCLI
from ansible.cli.vault import VaultCLI

from farrier.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "templates/role/README.md.tmpl"]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
PROGRAMS = ("farrier", "make", "molecule", "ansible", "ansible-playbook", "ansible-vault", "pipx", "pytest", "python")
ANSIBLE: dict[str, type[CLI]] = {"ansible": AdHocCLI, "ansible-playbook": PlaybookCLI, "ansible-vault": VaultCLI}
PLACEHOLDERS = {"ENV", "NAME", "SETTING", "DIR", "GROUP", "N"}


def command_lines() -> Iterator[tuple[Path, str]]:
    """Lines of code blocks, and code spans, that begin with a program of ours."""
    for path in PAGES:
        text = re.sub(r"<%=.*?%>", "production", path.read_text())
        text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for line in [*re.findall(r"^    \$? ?(\S.*)$", text, re.MULTILINE), *re.findall(r"`([^`]+)`", text)]:
            command = re.split(r"\s#\s|; then ", " ".join(line.split()) if "`" in line else line)[0].strip()
            words = command.split()
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if len(words) > 1 and Path(words[0]).name in PROGRAMS and words[:2] != ["ansible", "-m"]:
                yield path, " ".join(words)


LINES = sorted({line for _, line in command_lines()})


def lines(*programs: str) -> list[list[str]]:
    words = [shlex.split(line) for line in LINES]
    return [each for each in words if Path(each[0]).name in programs]


def test_there_are_command_lines() -> None:
    for program, least in {"farrier": 30, "make": 5, "molecule": 3, "ansible-playbook": 6, "pipx": 3}.items():
        assert len(lines(program)) >= least, program


@pytest.mark.parametrize("words", lines("farrier"), ids=" ".join)
def test_farrier_takes_it(words: list[str]) -> None:
    group: Any = typer.main.get_command(app)
    name, *arguments = words[1:]
    parent = group.make_context("farrier", [name], resilient_parsing=True)
    if name.startswith("-"):
        assert name in {option for each in group.get_params(parent) for option in each.opts}
    elif not arguments:  # a sentence that speaks of the command
        assert name in group.commands
    else:
        context = group.commands[name].make_context(name, arguments, parent=parent)
        assert not context.args or "--" in words
        assert context.params.get("environment") in {None, "staging", "production"} | PLACEHOLDERS


@pytest.mark.parametrize("words", lines(*ANSIBLE), ids=" ".join)
def test_ansible_takes_it(words: list[str]) -> None:
    cli = ANSIBLE[words[0]](words)
    cli.init_parser()
    given = cli.parser.parse_args(words[1:])
    for playbook in getattr(given, "args", []) if words[0] == "ansible-playbook" else []:
        assert (ROOT / playbook).exists(), playbook


@pytest.mark.parametrize("words", lines("molecule"), ids=" ".join)
def test_scenarios_that_molecule_runs_exist(words: list[str]) -> None:
    for flag, value in pairwise(words):
        if flag == "-s":
            assert (ROOT / "molecule" / value).is_dir()
        if flag == "-c":
            assert (ROOT / value).exists()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[1] for words in lines("make")}
    assert named <= targets, named - targets


def test_extras_that_are_installed_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra for words in lines("pipx") for found in re.findall(r"\[(.*?)\]", words[-1]) for extra in found.split(",")
    }
    assert named
    assert named <= set(extras), named - set(extras)


@pytest.mark.parametrize("words", lines("pytest", "python"), ids=" ".join)
def test_paths_that_python_is_given_exist(words: list[str]) -> None:
    for word in words[1:]:
        if "/" in word and not word.startswith("-"):
            assert list(ROOT.glob(word)), word
