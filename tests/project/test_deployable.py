"""What `generate` sees of a source that would fail on the host: said in a line, with nothing imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from farrier.errors import InputError
from farrier.project.deployable import require_deployable
from farrier.project.model import Application

WSGI = "from flask import Flask\napplication = Flask(__name__)\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project directory with an application in it that can be deployed."""
    directory = tmp_path / "app"
    (directory / "notes").mkdir(parents=True)
    (directory / "notes/__init__.py").touch()
    (directory / "notes/wsgi.py").write_text(WSGI)
    (directory / "requirements.txt").write_text("flask\n")
    (directory / "manage.py").touch()
    return directory


def refusal(source: Path, /, **keys: Any) -> list[str]:
    """What is said of an application, the directory left out."""
    application = Application.model_validate(
        {"name": "notes", "source": "app", "wsgi": "notes.wsgi:application", **keys}
    )
    try:
        require_deployable(application, source.parent)
    except InputError as error:
        return [message.replace(str(source), "app") for message in error.messages]
    return []


def test_a_source_that_has_it_all(source: Path) -> None:
    static = {"url": "/static/", "directory": "root/static", "command": "python manage.py collectstatic"}
    assert refusal(source, migrate="python manage.py migrate", static=static) == []


NO_DIRECTORY = "is not a directory beside the project file; name the one that holds the application"
NO_PIP = "is not a file that `pip install -r` reads; write one with"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"source": "nosuchdir"}, f"source: 'nosuchdir' {NO_DIRECTORY}"),
        ({"source": "app/manage.py"}, f"source: 'app/manage.py' {NO_DIRECTORY}"),
        (
            {"requirements": "uv.lock"},
            f"requirements: 'uv.lock' {NO_PIP} `uv export --format requirements-txt > requirements.txt` and name that",
        ),
        (
            {"requirements": "a/pyproject.toml"},
            f"requirements: 'a/pyproject.toml' {NO_PIP} `uv pip compile pyproject.toml --output-file requirements.txt` and "
            "name that",
        ),
        (
            {"requirements": "Pipfile"},
            f"requirements: 'Pipfile' {NO_PIP} `pipenv requirements > requirements.txt` and name that",
        ),
        ({"requirements": "prod.txt"}, "requirements: 'prod.txt' is not in app; name requirements.txt"),
        ({"wsgi": "notes.wsgy:application"}, "wsgi: 'notes.wsgy' is not in app: there is no notes/wsgy.py"),
        (
            {"wsgi": "note.wsgi:application"},
            "wsgi: 'note' is neither in app nor installed by requirements.txt; did you mean notes?",
        ),
        ({"wsgi": "notes.wsgi:app"}, "wsgi: 'notes.wsgi' defines no 'app'; known are Flask, application"),
        ({"migrate": "python mange.py migrate"}, "migrate: 'mange.py' is not in app; name one that is"),
        (
            {"static": {"url": "/s/", "directory": "s", "command": "python3 collect.py"}},
            "static.command: 'collect.py' is not in app; name one that is",
        ),
        (
            {"static": {"url": "/s/", "directory": "s"}},
            "static.directory: 's' is not a directory in app, and no static.command creates it; name the directory or the command",
        ),
    ],
)
def test_what_would_fail_on_the_host(source: Path, keys: dict[str, Any], message: str) -> None:
    assert refusal(source, **keys) == [f"application.{message}"]


def test_all_that_is_wrong_is_said_at_once(source: Path) -> None:
    (source / "requirements.txt").unlink()
    (source / "uv.lock").touch()
    assert refusal(source, wsgi="notes.wsgi:app", migrate="python x.py") == [
        "application.requirements: 'requirements.txt' is not in app; write it with "
        "`uv export --format requirements-txt > requirements.txt`",
        "application.wsgi: 'notes.wsgi' defines no 'app'; known are Flask, application",
        "application.migrate: 'x.py' is not in app; name one that is",
    ]


def test_a_static_directory_that_is_a_link(source: Path) -> None:
    (source / "files").symlink_to("/srv")
    assert refusal(source, static={"url": "/s/", "directory": "files/static"}) == [
        "application.static.directory: 'files/static' goes through the symbolic link files, which a release does "
        "not follow; name a directory inside the source"
    ]


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("from fastapi import FastAPI\napplication = FastAPI(title='x')\n", "fastapi's FastAPI"),
        ("import starlette.applications\nfrom starlette.applications import Starlette as S\napplication = S()\n", "starlette's Starlette"),
        ("import fastapi\napplication: fastapi.FastAPI = fastapi.FastAPI()\n", "fastapi's FastAPI"),
        ("from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n", "django's get_asgi_application"),
    ],
)  # fmt: skip
def test_an_asgi_application_is_told_how_to_become_one(source: Path, module: str, what: str) -> None:
    (source / "notes/wsgi.py").write_text(module)
    assert refusal(source) == [
        f"application.wsgi: 'notes.wsgi:application' is an ASGI application ({what}), and Farrier deploys WSGI; wrap it with "
        "a2wsgi (`wsgi = ASGIMiddleware(application)`) and name notes.wsgi:wsgi"
    ]


@pytest.mark.parametrize(
    "module",
    [
        "from fastapi import FastAPI\nfrom a2wsgi import ASGIMiddleware as W\napplication = FastAPI()\napplication = W(application)\n",
        "from .other import *\n",
        "def __getattr__(name):\n    return None\n",
        "globals()['application'] = 1\n",
        "try:\n    import x as application\nexcept ImportError:\n    application = None\n",
        "def make():\n    global application\n    application = 1\nmake()\n",
        "with open('x') as application:\n    pass\n",
        "this is no Python of any version\n",
        "from FastAPI import FastAPI\nclass application: pass\n",
    ],
)  # fmt: skip
def test_a_module_that_may_be_right_is_believed(source: Path, module: str) -> None:
    (source / "notes/wsgi.py").write_text(module)
    assert refusal(source) == []


@pytest.mark.parametrize(
    ("wsgi", "requirements"),
    [
        ("mailman_web.wsgi:application", "mailman-web==0.0.9\n"),
        ("superset.app:create_app()", "apache-superset>=4\n"),
        ("searx.webapp:app", "searxng\n"),
        ("anything:app", "-r other.txt\n"),
        ("anything:app", "flask\n-e .\n"),
        ("anything:app", "git+https://git.example.org/x.git\n"),
        ("anything:app", "./wheels/x.whl\n"),
    ],
)
def test_a_module_that_a_requirement_may_bring_is_believed(source: Path, wsgi: str, requirements: str) -> None:
    (source / "requirements.txt").write_text(requirements)
    assert refusal(source, wsgi=wsgi) == []


def test_a_compiled_module_and_one_without_init_are_there(source: Path) -> None:
    (source / "notes/fast.cpython-311-x86_64-linux-gnu.so").touch()
    assert refusal(source, wsgi="notes.fast:application") == []
    (source / "spaced/inner").mkdir(parents=True)
    assert refusal(source, wsgi="spaced.inner:application") == []


def test_of_a_git_source_only_names_are_looked_at(source: Path) -> None:
    git = {"source": "https://git.example.org/notes.git", "ref": "v1"}
    assert refusal(source, **git, wsgi="other:app") == []
    assert "is not a file that `pip install -r` reads" in refusal(source, **git, requirements="poetry.lock")[0]


def test_nothing_of_the_source_is_run(source: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (source / "notes/wsgi.py").write_text(f"open({json.dumps(str(mark))}, 'w')\napplication = 1\n")
    assert refusal(source) == []
    assert not mark.exists()
