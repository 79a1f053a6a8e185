"""The wheel carries its templates: installed in an empty environment elsewhere, it generates the same tree."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("roles", "playbooks", "molecule", ".config")


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=clean_environment())
    assert result.returncode == 0, result.stderr
    return result.stdout


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git tracks, so that nothing lying about can help."""
    source = tmp_path_factory.mktemp("source")
    for name in run("git", "ls-files", cwd=ROOT).splitlines():
        if (ROOT / name).is_file() and not name.startswith(("roles/", "molecule/", "playbooks/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", "dist", cwd=source)
    return next((source / "dist").glob("*.whl"))


@pytest.mark.network
def test_an_installed_wheel_generates_the_repositorys_own_trees(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "farrier.yml", project)
    shutil.copytree(ROOT / "facts", project / "facts")
    shutil.copytree(ROOT / "examples", project / "examples")
    for environment in ("staging", "production"):
        run(tmp_path / "venv/bin/farrier", "generate", environment, cwd=project)
    for part in PARTS:
        for path in sorted(p for p in (ROOT / part).rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            assert (project / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), path
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).lower()
    for only_for_tests in ("molecule", "testinfra", "ansible-lint", "matplotlib"):
        assert only_for_tests not in installed


@pytest.mark.network
def test_the_wheel_holds_templates_modules_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "py.typed",
        "templates/role/defaults/main.yml.tmpl",
        "ansible/modules/farrier_switch.py",
        "ansible/callback/farrier_events.py",
        "ansible/module_utils/measured_gunicorn.py",
    ):
        assert f"farrier/{name}" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests/", "roles/"))]
