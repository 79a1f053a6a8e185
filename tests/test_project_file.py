"""Mistakes in the project file: all at once, one line each, with line, key, the bad value and what is right."""

from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.project_file import environment_of, read_project, read_workload

GOOD = """\
application:
  name: notes
  wsgi: notes.wsgi:application
environments:
  production:
    inventory: inventories/production.yml
    domain: www.example.org
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "farrier.yml"


def mistakes(path: Path, text: str | bytes) -> list[str]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_project(path)
    assert all("\n" not in message for message in caught.value.messages)
    return [message.removeprefix(f"{path}") for message in caught.value.messages]


def with_application(line: str) -> str:
    return GOOD.replace("environments:", f"  {line}\nenvironments:")


def with_environment(line: str) -> str:
    return f"{GOOD}    {line}\n"


def test_a_small_project_file_is_enough(project: Path) -> None:
    project.write_text(GOOD)
    found = read_project(project)
    assert found.role("production") == "notes_production"
    assert found.application.requirements == "requirements.txt"
    assert not read_workload(found.environments["production"], project.parent).stated


def test_all_mistakes_are_reported_at_once(project: Path) -> None:
    text = """\
application:
  name: Notes
  wsgi: notes.wsgi
  colour: red
environments:
  production:
    inventory: inventories/production.yml
    workload: {cpu_seconds: fast}
"""
    assert mistakes(project, text) == [
        ":2: application.name: 'Notes' has a form that is not allowed here; expected lower-case letters, digits and "
        "single hyphens, "
        "at most 30, such as notes",
        ":3: application.wsgi: 'notes.wsgi' has a form that is not allowed here; expected module:callable, such as "
        "notes.wsgi:application",
        ":4: application.colour: is no known key; known are name, source, ref, wsgi, requirements, health_path, urls, "
        "migrate, static, "
        "environment, secrets",
        ":6: environments.production.domain: is missing; expected a host name in lower case (an internationalised one "
        "as xn--...), "
        "such as www.example.org",
        ":8: environments.production.workload.cpu_seconds: 'fast' is not a number; expected CPU seconds of one "
        "request, such as 0.02",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", ":2: the key 'a' stands twice; the first is on line 1"),
        ("a: !!set x\n", ":1: the tag 'tag:yaml.org,2002:set' has no meaning here; write the value without a tag"),
        ("a: !vault x\n", ":1: the tag '!vault' has no meaning here; write the value without a tag"),
        ("a:\n\t- x\n", ":2: not YAML: found character '\\t' that cannot start any token"),
        ("a: &x [*x]\n", ":1: aliases make the document endless or larger than 20000 values"),
        ("a: x\u2028b: y\n", ":1: the invisible line break '\\u2028'; write it as an escape in double quotes"),
        ("a: \0\n", ":1: the character '\\x00' cannot stand in YAML"),
        ("a: {{7*7}}\n", ":1: a key must be a word, not a list or mapping"),
        ("[1, 2]\n", ": should be a mapping with the keys application, environments, scenarios"),
        ("", ": should be a mapping with the keys application, environments, scenarios"),
        ("a: 1\n---\nb: 2\n", ":2: not YAML: but found another document"),
        (b"\xff\xfe", ": byte 0 is not UTF-8 text; save the file as UTF-8"),
        ("[" * 3000, ": nested too deeply to be read"),
        ("x" * 1_000_001, ": 1000001 bytes are more than a file written by hand has; at most 1000000"),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml(project: Path, text: str | bytes, message: str) -> None:
    assert mistakes(project, text) == [message]


def test_an_anchor_bomb_is_refused_quickly(project: Path) -> None:
    levels = ["a: &a [1,1,1,1,1,1,1,1,1,1]"]
    levels += [f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "aliases make the document endless" in mistakes(project, "\n".join(levels))[0]


def test_words_of_old_yaml_stay_words(project: Path) -> None:
    project.write_text(with_application("environment: {A: no, B: '012', C: 012, D: 5, E: 'true', F: 1.2.3}"))
    environment = read_project(project).application.environment
    assert environment == {"A": "no", "B": "012", "C": "012", "D": "5", "E": "true", "F": "1.2.3"}


@pytest.mark.parametrize("value", ["true", "1e3", "1.0", "[a]", "~"])
def test_a_value_with_two_spellings_must_be_quoted(project: Path, value: str) -> None:
    assert ":4: application.environment.A: " in mistakes(project, with_application(f"environment: {{A: {value}}}"))[0]


@pytest.mark.parametrize("value", ["{{7*7}}", "x{%raw%}", "{#"])
def test_jinja_never_comes_in_as_data(project: Path, value: str) -> None:
    assert mistakes(project, with_application(f"environment: {{A: '{value}'}}")) == [
        f":4: application.environment.A: '{value}' Ansible would evaluate "
        f"{{{{, {{% and {{#; set this value in the inventory, tagged !unsafe"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "source: /etc",
        "source: -x",
        "source: a b",
        "source: $(id)",
        'source: "a\\nExecStartPre=/bin/sh"',
        "requirements: ../requirements.txt",
        "requirements: /etc/passwd",
        "requirements: -r",
        "migrate: python manage.py migrate; id",
        "migrate: $(id)",
        "migrate: '`id`'",
        "migrate: -rf",
        'migrate: "a\\nb"',
        "migrate: python %s",
        "health_path: health",
        "health_path: /../etc",
        "health_path: /a;b",
        "health_path: /$host",
        "health_path: '/{}'",
        "static: {url: /static, directory: x}",
        "static: {url: '/a;b/', directory: x}",
        "static: {url: /static/, directory: ../x}",
        "static: {url: /static/, directory: /x}",
        "static: {url: /%2e%2e/, directory: x}",
        "ref: -x",
        "ref: v1",
        "secrets: [SECRET KEY]",
        "secrets: [A, '']",
        "environment: {GUNICORN_CMD_ARGS: --workers=1}",
        "environment: {LD_PRELOAD: x}",
        "environment: {'A=B': x}",
        "environment: {A: \"a\\0b\"}",
    ],
)  # fmt: skip
def test_hostile_application_values_are_refused(project: Path, line: str) -> None:
    found = mistakes(project, with_application(line))
    assert len(found) == 1
    assert found[0].startswith((":4: ", ":1: application: "))


@pytest.mark.parametrize(
    "name",
    [
        "''",
        ".",
        "..",
        "/",
        "'@'",
        "Notes",
        "a b",
        "a/b",
        "-a",
        "a-",
        "a--b",
        "a_b",
        "root",
        "www-data",
        "nginx",
        "'%i'",
        "no\u00ebl",
        "a" * 31,
    ],
)
def test_hostile_names_are_refused(project: Path, name: str) -> None:
    assert mistakes(project, GOOD.replace("name: notes", f"name: {name}"))[0].startswith(":2: application.name: ")


@pytest.mark.parametrize("name", ["shared", "a-rollback", "a-status", "A", "a/b", "..", "'a b'"])
def test_environments_that_collide_or_are_no_names(project: Path, name: str) -> None:
    assert len(mistakes(project, GOOD.replace("production:", f"{name}:"))) == 1


@pytest.mark.parametrize(
    "domain",
    [
        "'a;b'",
        "'*'",
        "'~^www'",
        "www.example.org.",
        "'$host'",
        '"a\\r\\nb"',
        "'{}'",
        "a..b",
        "-a.org",
        "'a b'",
        "..",
        "x" * 254,
        f"{'x' * 64}.org",
        "WWW.example.org",
    ],
)
def test_hostile_domains_are_refused(project: Path, domain: str) -> None:
    found = mistakes(project, GOOD.replace("www.example.org", domain))
    assert len(found) == 1
    assert found[0].startswith(":7: environments.production.domain: ")


def test_an_international_domain_is_told_its_other_spelling(project: Path) -> None:
    assert mistakes(project, GOOD.replace("www.example.org", "münchen.de")) == [
        ":7: environments.production.domain: 'münchen.de' has to be written as xn--mnchen-3ya.de"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("overrides: {gunicorn.worker: 3}", "gunicorn.worker is no setting; did you mean gunicorn.workers?"),
        ("overrides: {gunicorn.workers: 0}", "gunicorn.workers: 0 is not a whole number from 1 to 1024"),
        ("overrides: {gunicorn.workers: 1.5}", "gunicorn.workers: 1.5 is not a whole number from 1 to 1024"),
        ("overrides: {gunicorn.workers: true}", "gunicorn.workers: True is not a whole number from 1 to 1024"),
        ("overrides: {gunicorn.timeout: 1000000000}", "gunicorn.timeout: 1000000000 is not a whole number from 1 to 86400 (seconds)"),
        (
            "overrides: {gunicorn.worker_class: tornado}",
            "gunicorn.worker_class: 'tornado' is not sync, gthread or gevent",
        ),
        (
            "overrides: {gunicorn.worker_class: uvicorn.workers.UvicornWorker}",
            "gunicorn.worker_class: 'uvicorn.workers.UvicornWorker' is not offered, as an ASGI worker accepts connections "
            "without a bound and makes the socket's queue its own, so that the plan's numbers would not hold; it is sync, "
            "gthread or gevent",
        ),
        ("overrides: {gunicorn.preload_app: 1}", "gunicorn.preload_app: 1 is not true or false"),
        ("facts: {cpu: 2}", "cpu is no fact; did you mean cpus?"),
        ("facts: {cpus: -1}", "cpus: -1 is not a number above 0 to 4096"),
        ("hosts: {web1: {memory_mb: 1.5}}", "memory_mb: 1.5 is not a whole number from 1 to 67108864"),
        ("workload: {upload_limit_mb: 0}", "'0' should be greater than or equal to 1; expected largest request body in whole MB"),
        ("workload: {peak_rps: .inf}", "'.inf' is not a number; expected requests a second at the peak, such as 40"),
        ("aliases: [www.example.org]", "aliases name a host twice; each name once"),
    ],
)  # fmt: skip
def test_impossible_numbers_and_unknown_names(project: Path, line: str, message: str) -> None:
    found = mistakes(project, with_environment(line))
    assert len(found) == 1
    assert found[0].endswith(f": {message}"), found


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_project(tmp_path / "farrier.yml")
    assert caught.value.messages == (
        f"{tmp_path}/farrier.yml: there is no such file; run `farrier init` to write one, or name another with "
        f"--project",
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_project(tmp_path)


def test_an_unknown_environment_lists_the_known(project: Path) -> None:
    project.write_text(GOOD)
    with pytest.raises(InputError, match="environment 'staging' is not in the project file; it has production"):
        environment_of(read_project(project), "staging")


def test_a_workload_file_is_checked_like_the_project_file(project: Path) -> None:
    project.write_text(with_environment("workload: workload.yml"))
    (project.parent / "workload.yml").write_text("cpu_seconds: 0.01\nwait_seconds: -2\n")
    with pytest.raises(InputError) as caught:
        read_workload(read_project(project).environments["production"], project.parent)
    assert caught.value.messages == (
        f"{project.parent}/workload.yml:2: wait_seconds: '-2' should be greater than or equal to 0; expected seconds "
        f"one request "
        "waits for others, such as 0.03",
    )


def test_scenarios_name_environments_that_exist(project: Path) -> None:
    found = mistakes(project, GOOD + "scenarios:\n  small: {environment: staging}\n")
    assert found == [":1: scenario 'small' names environment 'staging'; known are production"]
