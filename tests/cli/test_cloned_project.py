"""A project that somebody else has made: its links, FIFOs and sources lead nowhere else and hold nothing up."""

import json
import os
import sys
from pathlib import Path

import pytest

from farrier.files import write_whole
from test_cli import PROJECT, fails, farrier, write_project

FACTS = {"ansible_processor_nproc": 2, "ansible_memtotal_mb": 2000}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    write_project(root)
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (root / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"web1": here}}}))
    return root


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("arguments", [("facts", "production", "--from", "tree"), ("facts", "production")])
@pytest.mark.parametrize("link", ["facts", "facts/production"])
def test_facts_are_not_written_through_a_link(
    project: Path, elsewhere: Path, link: str, arguments: tuple[str, ...]
) -> None:
    (project / "tree").mkdir()
    (project / "tree/web1").write_text(json.dumps({"ansible_facts": FACTS}))
    (project / link).parent.mkdir(exist_ok=True)
    (project / link).symlink_to(elsewhere)
    said = fails(project, 2, *arguments)
    assert said == f"farrier: {link}: is a symbolic link, which Farrier does not write through; remove it"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "link"),
    [
        ("measure", "workloads"),
        ("measure", "workloads/production.yml"),
        ("loadtest", "loadtests"),
        ("loadtest", "loadtests/production"),
    ],
)
def test_what_was_measured_is_not_written_through_a_link(
    project: Path, elsewhere: Path, command: str, link: str
) -> None:
    (project / link).parent.mkdir(exist_ok=True)
    (project / link).symlink_to(elsewhere)
    said = fails(project, 2, command, "production")
    assert said == f"farrier: {link}: is a symbolic link, which Farrier does not write through; remove it"
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_a_hosts_facts_is_replaced(project: Path, elsewhere: Path) -> None:
    (project / "tree").mkdir()
    (project / "tree/web1").write_text(json.dumps({"ansible_facts": FACTS}))
    (project / "facts/production").mkdir(parents=True)
    (project / "facts/production/web1.json").symlink_to(elsewhere / "kept")
    (elsewhere / "kept").write_text("kept")
    result = farrier(project, "facts", "production", "--from", "tree")
    assert result.returncode == 0, result.stderr
    assert (elsewhere / "kept").read_text() == "kept"
    assert json.loads((project / "facts/production/web1.json").read_text()) == {"ansible_facts": FACTS}


def test_a_planted_temporary_file_is_not_written_through(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "kept").write_text("kept")
    (tmp_path / f".web1.json.{os.getpid()}").symlink_to(elsewhere / "kept")
    write_whole(tmp_path / "web1.json", b"text")
    assert (elsewhere / "kept").read_text() == "kept"


def test_a_fifo_in_place_of_a_file_holds_nothing_up(project: Path) -> None:
    workload = "    workload: workloads/production.yml\n"
    (project / "farrier.yml").write_text(PROJECT.replace("    hosts:", workload + "    hosts:"))
    (project / "workloads").mkdir()
    os.mkfifo(project / "workloads/production.yml")
    assert fails(project, 2, "plan", "production") == (
        "farrier: workloads/production.yml: cannot be read: Not a regular file"
    )
    (project / "workloads/production.yml").unlink()
    (project / "workloads/production.yml").write_text("cpu_seconds: 0.02\n")
    (project / "facts/production").mkdir(parents=True)
    os.mkfifo(project / "facts/production/web1.json")
    result = farrier(project, "facts", "production")
    assert result.returncode == 0, result.stderr
    assert (project / "facts/production/web1.json").is_file()


@pytest.mark.parametrize(
    "content",
    [b"from flask import Flask\napp = Flask(__name__)\nx = " + b"-" * 200_000 + b"1\n", None],
    ids=["nested", "huge"],
)
def test_a_source_that_is_made_to_hurt_is_no_source(project: Path, content: bytes | None) -> None:
    (project / "app").mkdir()
    (project / "app/requirements.txt").write_text("flask\n")
    path = project / "app/web.py"
    path.write_bytes(content or b"")
    if content is None:
        os.truncate(path, 1 << 40)
    result = farrier(project, "init", "app", "--force")
    assert result.returncode == 0, result.stderr
    assert "MISSING  wsgi: there is neither a manage.py nor a module with `Flask(...)`" in result.stdout
