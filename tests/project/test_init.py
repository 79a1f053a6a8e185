"""`farrier init`: what it sees of real layouts, what it says it could not find; nothing of the application is run."""

import json
import shutil
from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.project.discover import discover
from farrier.project.first_file import write_project_file
from farrier.project.reading import read_project

ROOT = Path(__file__).parents[2]


def init(directory: Path, target: Path, *, force: bool = False) -> tuple[list[str], list[str]]:
    return write_project_file(
        directory, target, "production", "www.example.org", "inventories/production.yml", force=force
    )


def test_the_django_example(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/django", tmp_path / "site")
    found, missing = init(tmp_path / "site", tmp_path / "farrier.yml")
    assert missing == []
    application = read_project(tmp_path / "farrier.yml").application
    assert application.name == "notes"
    assert application.source == "site"
    assert application.wsgi == "notes.wsgi:application"
    assert application.health_path == "/health/"
    assert application.migrate == "python manage.py migrate --noinput"
    assert application.static is not None
    assert (application.static.url, application.static.directory) == ("/static/", "static_root")
    assert application.secrets == ["SECRET_KEY"]
    assert "Django, settings notes.settings, named in manage.py" in found


def test_a_flask_application(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os\nfrom flask import Flask\napp = Flask(__name__)\nkey = os.environ['PAYMENT_API_KEY']\n"
        "@app.route('/healthz')\ndef health():\n    return 'ok'\n"
    )
    (tmp_path / "requirements.txt").write_text("flask\n")
    (tmp_path / "static").mkdir()
    seen = discover(tmp_path)
    assert seen.keys["wsgi"] == "shop:app"
    assert seen.keys["health_path"] == "/healthz"
    assert seen.keys["secrets"] == ["PAYMENT_API_KEY"]
    assert seen.keys["static"] == {"url": "/static/", "directory": "static"}
    assert seen.missing == []


def test_a_flask_factory(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").write_text(
        "from flask import Flask\ndef create_app(config=None):\n    return Flask(__name__)\n"
    )
    assert discover(tmp_path).keys["wsgi"] == "shop:create_app()"


def test_a_flask_factory_that_wsgi_py_calls_in_its_own_way(tmp_path: Path) -> None:
    (tmp_path / "shop/static").mkdir(parents=True)
    (tmp_path / "shop/__init__.py").write_text(
        "from flask import Flask\ndef create_app(config='development'):\n    return Flask(__name__)\n"
    )
    (tmp_path / "wsgi.py").write_text("from shop import create_app\n\napp = create_app('production')\n")
    seen = discover(tmp_path)
    assert seen.keys["wsgi"] == "wsgi:app"
    assert seen.keys["static"] == {"url": "/static/", "directory": "shop/static"}


def django(directory: Path, settings: str) -> Path:
    (directory / "site1").mkdir()
    (directory / "manage.py").write_text("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\n")
    (directory / "site1/wsgi.py").write_text("application = None\n")
    (directory / "site1/settings.py").write_text(settings)
    return directory


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("os.environ['DJANGO_SECRET_KEY']", ["DJANGO_SECRET_KEY"]),
        ("env.str('DJANGO_SECRET_KEY', default='x')", ["DJANGO_SECRET_KEY"]),
        ("required('SECRET_KEY')", ["SECRET_KEY"]),
        (f"f({'-' * 500}1)", ["SECRET_KEY"]),
        ("'of a developer'", None),
    ],
)
def test_the_secret_key_has_the_name_that_the_settings_read(
    tmp_path: Path, value: str, secrets: list[str] | None
) -> None:
    assert discover(django(tmp_path, f"SECRET_KEY = {value}\n")).keys.get("secrets") == secrets


STARTPROJECT = """\
DEBUG = True
ALLOWED_HOSTS = []
DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'db.sqlite3'}}
STATIC_ROOT = BASE_DIR / 'static_root'
"""


def test_what_startproject_leaves_for_the_developer_to_change_is_said(tmp_path: Path) -> None:
    assert discover(django(tmp_path, STARTPROJECT)).missing[:3] == [
        "ALLOWED_HOSTS: empty in the settings, so Django answers 400; list the domain and its aliases",
        "DEBUG: True in the settings, so visitors would see tracebacks and settings; set it to False on hosts",
        "DATABASES: beside the code, which is read-only on a host; put it below /var/lib/site1",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DEBUG = True", "DEBUG = os.environ.get('DEBUG') == '1'"),
        ("ALLOWED_HOSTS = []", "ALLOWED_HOSTS = ['www.example.org']"),
        ("BASE_DIR / 'db.sqlite3'", "Path(os.environ.get('DATA', BASE_DIR)) / 'db.sqlite3'"),
    ],
)
def test_what_has_been_changed_is_not_said(tmp_path: Path, old: str, new: str) -> None:
    assert old in STARTPROJECT
    key = STARTPROJECT[: STARTPROJECT.index(old)].count("\n")
    told = ("DEBUG", "ALLOWED_HOSTS", "DATABASES")
    seen = discover(django(tmp_path, STARTPROJECT.replace(old, new)))
    assert {name for name in told if name in seen.hints} == set(told) - {told[key]}


def test_of_several_settings_modules_nobody_can_say_which_the_host_takes(tmp_path: Path) -> None:
    django(tmp_path, STARTPROJECT)
    (tmp_path / "site1/settings_production.py").write_text("DEBUG = False\n")
    assert not {"DEBUG", "ALLOWED_HOSTS", "DATABASES"} & set(discover(tmp_path).hints)


def test_what_farrier_has_generated_is_no_part_of_the_application(tmp_path: Path) -> None:
    for path in ("roles/shop_production/library/farrier_x.py", "roles/admin/views.py"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("@app.route('/status')\ndef status(): return os.environ['ADMIN_TOKEN']\n")
    (tmp_path / ".farrier").mkdir()
    (tmp_path / ".farrier/production.json").write_text('{"roles/shop_production/library/farrier_x.py": "sha256:0"}')
    (tmp_path / ".farrier/broken.json").write_text("[")
    seen = discover(tmp_path)
    assert "health_path: /status in roles/admin/views.py" in seen.found
    (tmp_path / "roles/admin/views.py").unlink()
    assert {"health_path", "secrets"} & set(discover(tmp_path).keys) == set()


def test_what_is_not_found_is_said_and_left_to_the_person(tmp_path: Path) -> None:
    source = tmp_path / "empty"
    source.mkdir()
    _, missing = init(source, tmp_path / "farrier.yml")
    assert [line.partition(":")[0] for line in missing] == ["wsgi", "requirements", "health_path"]
    text = (tmp_path / "farrier.yml").read_text()
    assert "  # wsgi:  not found: there is neither a manage.py nor a module with `Flask(...)`" in text
    with pytest.raises(InputError, match=r"application\.wsgi: is missing"):
        read_project(tmp_path / "farrier.yml")


def test_code_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("app = Flask(\n")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00Flask(")
    assert "wsgi" in discover(tmp_path).hints


def test_nothing_of_the_application_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "app.py").write_text(f"open({json.dumps(str(mark))}, 'w')\nfrom flask import Flask\napp = Flask('x')\n")
    assert discover(tmp_path).keys["wsgi"] == "app:app"
    assert not mark.exists()


@pytest.mark.parametrize(
    ("directory", "name"),
    [("My Site", "my-site"), ("shop_2", "shop-2"), ("2fast", "app-2fast"), ("nginx", "nginx-app"), ("___", "app")],
)
def test_a_name_is_made_from_the_directory(tmp_path: Path, directory: str, name: str) -> None:
    (tmp_path / directory).mkdir()
    assert discover(tmp_path / directory).name == name


def test_an_existing_project_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "farrier.yml").write_text("mine")
    with pytest.raises(InputError, match="already exists; edit it"):
        init(tmp_path, tmp_path / "farrier.yml")
    assert (tmp_path / "farrier.yml").read_text() == "mine"
    init(tmp_path, tmp_path / "farrier.yml", force=True)
    assert "application:" in (tmp_path / "farrier.yml").read_text()


def test_a_source_outside_the_project_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "source").mkdir()
    with pytest.raises(InputError, match="is not below"):
        init(tmp_path / "source", tmp_path / "project/farrier.yml")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("environment", value)
        for value in ("a:b", "a #b", "a\nb", "'", '"', "größe", "shared", "", "x" * 10_000, "{{a}}", "\x1b[31m", "\udc80", "a-status")
    ]
    + [("domain", value) for value in ("a b", "#", "x: y", "a\nb", "münchen.de", "", "{{a}}", "\udc80", "a." * 200)]
    + [("inventory", value) for value in ("a b", "#", "x: y", "a\nb", "ü", "", "-i", "{{a}}", "\udc80", "a/" * 400)],
)  # fmt: skip
def test_arguments_that_a_project_file_does_not_take(tmp_path: Path, option: str, value: str) -> None:
    given = {"environment": "production", "domain": "www.example.org", "inventory": "hosts.yml", option: value}
    with pytest.raises(InputError) as caught:
        write_project_file(tmp_path, tmp_path / "farrier.yml", **given, force=False)
    (line,) = caught.value.messages
    assert line.startswith(f"--{option}: '")
    assert " is not valid in a project file; expected " in line
    assert line.isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["my site", "a:b", "a#b", "a\nb", "ü", "{{a}}", "- a"])
def test_a_source_whose_name_a_project_file_does_not_take(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"^the directory: '.*' is not valid in a project file; expected "):
        init(tmp_path / name, tmp_path / "farrier.yml")
    assert not (tmp_path / "farrier.yml").exists()


def test_what_is_seen_but_not_taken_is_left_to_the_person(tmp_path: Path) -> None:
    """The settings of others may hold anything."""
    (tmp_path / "manage.py").write_text("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/wsgi.py").write_text("application = 1\n")
    (tmp_path / "site/settings.py").write_text(
        "STATIC_ROOT = '../out: #{{x}}'\nSTATIC_URL = 'https://cdn.example.org/'\nSECRET_KEY = env('SECRET_KEY')\n"
    )
    (tmp_path / "requirements.txt").touch()
    _, missing = init(tmp_path, tmp_path / "farrier.yml")
    assert [line.partition(":")[0] for line in missing] == ["health_path", "static"]
    assert missing[1].endswith(" was found, but is not valid in a project file")
    assert read_project(tmp_path / "farrier.yml").application.static is None


def test_the_project_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    root, precious = tmp_path / "project", tmp_path / "precious"
    root.mkdir()
    for name in ("farrier.yml", ".farrier.yml.part"):
        (root / name).symlink_to(precious)
    with pytest.raises(InputError, match="already exists"):
        init(root, root / "farrier.yml")
    init(root, root / "farrier.yml", force=True)
    assert not precious.exists()
    assert not (root / "farrier.yml").is_symlink()
