"""The example application passes its own tests and Django's own checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "django"

pytest.importorskip("django", reason="Django comes with the test extra")


def manage(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs manage.py with nothing in its environment that the caller did not put there."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=EXAMPLE,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            "NOTES_DATA": str(data),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_own_tests_pass(tmp_path: Path) -> None:
    result = manage(tmp_path, "test", DEBUG="1")
    assert result.returncode == 0, result.stderr


def test_every_change_of_a_model_has_its_migration(tmp_path: Path) -> None:
    result = manage(tmp_path, "makemigrations", "--check", "--dry-run", SECRET_KEY="for this test")  # noqa: S106
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_a_secret_key_it_says_what_to_set(tmp_path: Path) -> None:
    result = manage(tmp_path, "migrate")
    assert result.returncode != 0
    assert "SECRET_KEY is not set. Give the service one in its environment" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_pinned_django_is_the_one_under_test() -> None:
    import django

    pinned = (EXAMPLE / "requirements.txt").read_text(encoding="utf-8").split("==")[1].strip()
    assert django.__version__ == pinned
