"""Mistakes in the project file: all at once, one line each, with line, key, the bad value and what is right."""

from pathlib import Path

import pytest
import yaml
from ansible.module_utils.farrier_git import transports_of

from farrier.errors import InputError
from farrier.project.git_url import GIT_URL, git_url_fault
from farrier.project.reading import environment_of, read_project, read_workload
from farrier.project.reserved import why_not_a_name

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
        ":2: application.name: 'Notes' is not allowed here; expected lower-case letters, digits and "
        "single hyphens, "
        "at most 30, such as notes",
        ":3: application.wsgi: 'notes.wsgi' is not allowed here; expected module:callable, such as "
        "notes.wsgi:application",
        ":4: application.colour: unknown key; known are name, source, ref, wsgi, requirements, health_path, urls, "
        "migrate, static, "
        "environment, secrets",
        ":6: environments.production.domain: is missing; expected a host name in lower case (an internationalised one "
        "as xn--...), "
        "such as www.example.org",
        ":8: environments.production.workload.cpu_seconds: 'fast' is not a number; expected CPU time of one "
        "request, in seconds, such as 0.02",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", ":2: duplicate key 'a'; the first is on line 1"),
        ("a: !!set x\n", ":1: tag 'tag:yaml.org,2002:set' is not supported; write the value without a tag"),
        ("a: !vault x\n", ":1: tag '!vault' is not supported; write the value without a tag"),
        ("a:\n\t- x\n", ":2: not YAML: found character '\\t' that cannot start any token"),
        ("a: &x [*x]\n", ":1: aliases make the document endless or larger than 20,000 values"),
        ("a: x\u2028b: y\n", ":1: invisible line break '\\u2028'; write it as an escape in double quotes"),
        ("a: \0\n", ":1: the character '\\x00' is not allowed in YAML"),
        ("a: {{7*7}}\n", ":1: a key must be a scalar, not a list or mapping"),
        ("[1, 2]\n", ": must be a mapping with the keys application, environments, scenarios"),
        ("", ": must be a mapping with the keys application, environments, scenarios"),
        ("a: 1\n---\nb: 2\n", ":2: not YAML: but found another document"),
        (b"\xff\xfe", ": byte 0 is not UTF-8 text; save the file as UTF-8"),
        ("[" * 3000, ": nested too deeply"),
        ("x" * 1_000_001, ": is too large; the limit is 1,000,000 bytes"),
        ('a: "\\UFFFFFFFF"\n', ":1: not YAML: invalid character escape"),
        ('a: 1\nb: "\\U00110000"\n', ":2: not YAML: invalid character escape"),
        ('a: 1\n"\\ud800": 1\n', ":2: '\\ud800' is half of a surrogate pair; write the whole character"),
        ('a: 1\nb: ["x\\udfffy"]\n', ":2: '\\udfff' is half of a surrogate pair; write the whole character"),
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
    ("value", "reason"),
    [
        (
            "\"#jinja2: variable_start_string:'[['\\n[[ lookup(1) ]]\"",
            "Ansible would read other delimiters after #jinja2:; set this value in the inventory, tagged !unsafe",
        ),
        (r'"a\uFFFEb"', "contains U+FFFE, which makes systemd drop the value or the whole file; remove it"),
        (r'"\U0010FFFF"', "contains U+10FFFF, which makes systemd drop the value or the whole file; remove it"),
        (r'"\uFDD0"', "contains U+FDD0, which makes systemd drop the value or the whole file; remove it"),
        (r'"a\rb"', "contains U+000D, which makes systemd drop the value or the whole file; remove it"),
        (r'"\x7f"', "contains U+007F, which makes systemd drop the value or the whole file; remove it"),
        (r'"\0"', "contains U+0000, which makes systemd drop the value or the whole file; remove it"),
    ],
)
def test_what_ansible_or_systemd_would_not_take_as_it_stands(project: Path, value: str, reason: str) -> None:
    found = mistakes(project, with_application(f"environment: {{A: {value}}}"))
    assert len(found) == 1
    assert found[0].startswith(":4: application.environment.A: '")
    assert found[0].endswith(f"' {reason}")


@pytest.mark.parametrize("value", ["a\tb\n", "\u0085\u2028\xad", "\U0001f600\ufffd\ufdcf\ufdf0", "\x80\x9f"])
def test_all_other_characters_may_stand_in_a_value(project: Path, value: str) -> None:
    flow = yaml.safe_dump({"A": value}, default_flow_style=True, width=1000).strip()
    project.write_text(with_application(f"environment: {flow}"))
    assert read_project(project).application.environment == {"A": value}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("GUNICORN_CMD_ARGS", "is set by systemd or decided by the plan"),
        ("LISTEN_FDS", "is set by systemd or decided by the plan"),
        ("CREDENTIALS_DIRECTORY", "is set by systemd or decided by the plan"),
        ("WATCHDOG_USEC", "is set by systemd or decided by the plan"),
        ("LD_AUDIT", "changes what code the C library loads into every process"),
        ("GCONV_PATH", "changes what code the C library loads into every process"),
        ("PYTHONSTARTUP", "changes what code Python runs or where it looks for it"),
        ("PYTHONSAFEPATH", "changes what code Python runs or where it looks for it"),
        ("BASH_ENV", "changes what every shell runs or reads"),
    ],
)
def test_variables_of_others_are_refused_as_values_and_as_secrets(project: Path, name: str, reason: str) -> None:
    message = f"{name} {reason}; remove it"
    assert mistakes(project, with_application(f"environment: {{{name}: x}}")) == [f":1: application: {message}"]
    assert mistakes(project, with_application(f"secrets: [{name}]")) == [f":1: application: {message}"]
    assert mistakes(project, with_environment(f"environment: {{{name}: x}}")) == [
        f":5: environments.production: {message}"
    ]


def test_variables_that_applications_commonly_take_are_free(project: Path) -> None:
    names = "ENV PYTHONUNBUFFERED PYTHONHASHSEED PYTHONWARNINGS PYTHONUTF8 MALLOC_ARENA_MAX NODE_OPTIONS LANG TZ TMPDIR".split()
    project.write_text(with_application(f"environment: {{{', '.join(f'{name}: x' for name in names)}}}"))
    assert read_project(project).application.environment.keys() == set(names)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "is a user or group of every Debian host; choose another name") for name in "shadow disk sudo adm".split()),
        *((name, "is a user, group or unit of the system; choose another name") for name in "lxd messagebus input dpkg".split()),
        *(
            (name, "is a user, group or unit of a common service; choose another name")
            for name in "docker postgres redis".split()
        ),
        ("ssl", "is a system directory or file; choose another name"),
        ("systemd-notes", "begins with systemd-, which is reserved for systemd; choose another name"),
        ("ansible-notes", "begins with ansible-, which is reserved for ansible; choose another name"),
        ("notes-measure", "ends in -measure, which is reserved for units of an application called 'notes'; choose another name"),
        ("notes-preflight", "ends in -preflight, which is reserved for units of an application called 'notes'; choose another name"),
    ],
)  # fmt: skip
def test_names_of_others_are_refused(project: Path, name: str, reason: str) -> None:
    assert mistakes(project, GOOD.replace("name: notes", f"name: {name}")) == [
        f":2: application.name: '{name}' {reason}"
    ]


def test_no_user_or_group_of_this_debian_is_a_name() -> None:
    """All names of base-passwd, where it is installed, that could be an application's."""
    masters = sorted(Path("/usr/share/base-passwd").glob("*.master"))
    names = {line.partition(":")[0] for master in masters for line in master.read_text().splitlines()}
    assert [name for name in names if name[:1].islower() and not why_not_a_name(name)] == []


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
        ":7: environments.production.domain: 'münchen.de' must be written as xn--mnchen-3ya.de"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("overrides: {gunicorn.worker: 3}", "gunicorn.worker is not a setting; did you mean gunicorn.workers?"),
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
            "gunicorn.worker_class: 'uvicorn.workers.UvicornWorker' is not supported: an ASGI worker accepts "
            "connections without limit and drains the socket's queue, so the plan's numbers would not hold; expected sync, "
            "gthread or gevent",
        ),
        ("overrides: {gunicorn.preload_app: 1}", "gunicorn.preload_app: 1 is not true or false"),
        ("facts: {cpu: 2}", "cpu is not a fact; did you mean cpus?"),
        ("facts: {cpus: -1}", "cpus: -1 is not a number above 0 to 4096"),
        ("hosts: {web1: {memory_mb: 1.5}}", "memory_mb: 1.5 is not a whole number from 1 to 67108864"),
        (
            "workload: {upload_limit_mb: 0}",
            "'0' should be greater than or equal to 1; expected the largest request body, in whole MB, such as 10",
        ),
        ("workload: {peak_rps: .inf}", "'.inf' is not a number; expected requests a second at the peak, such as 40"),
        ("aliases: [www.example.org]", "aliases repeat a host name; list each name once"),
    ],
)  # fmt: skip
def test_impossible_numbers_and_unknown_names(project: Path, line: str, message: str) -> None:
    found = mistakes(project, with_environment(line))
    assert len(found) == 1
    assert found[0].endswith(f": {message}"), found


@pytest.mark.parametrize("group", ["''", "-web", "'{{x}}'", "a b", "'@file'", "'~web'", "'web;id'", "'$HOME'", "&web"])
def test_hostile_groups_are_refused(project: Path, group: str) -> None:
    assert len(mistakes(project, with_environment(f"group: {group}"))) == 1


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_project(tmp_path / "farrier.yml")
    assert caught.value.messages == (
        f"{tmp_path}/farrier.yml: no such file; run `farrier init` to write one, or name another with --project",
    )


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_project(tmp_path)


def test_an_unknown_environment_lists_the_known(project: Path) -> None:
    project.write_text(GOOD)
    with pytest.raises(InputError, match="environment 'staging' is not in the project file, which has production"):
        environment_of(read_project(project), "staging")


def test_a_workload_file_is_checked_like_the_project_file(project: Path) -> None:
    project.write_text(with_environment("workload: workload.yml"))
    (project.parent / "workload.yml").write_text("cpu_seconds: 0.01\nwait_seconds: -2\n")
    with pytest.raises(InputError) as caught:
        read_workload(read_project(project).environments["production"], project.parent)
    assert caught.value.messages == (
        f"{project.parent}/workload.yml:2: wait_seconds: '-2' should be greater than or equal to 0; expected what "
        "one request waits for others, in seconds, such as 0.03",
    )


def test_scenarios_name_environments_that_exist(project: Path) -> None:
    found = mistakes(project, GOOD + "scenarios:\n  small: {environment: staging}\n")
    assert found == [":1: scenario 'small' names environment 'staging'; known are production"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "https://me:s3cret@example.org/n.git",
            "source 'https://***@example.org/n.git' contains a user, password or token, which would end up in files "
            "under version control; leave it out and use git's credential helper, or an SSH key with git@HOST:PATH",
        ),
        (
            "ssh://git:s3cret@example.org/n.git",
            "source 'ssh://***@example.org/n.git' contains a user, password or token, which would end up in files "
            "under version control; leave it out and use git's credential helper, or an SSH key with git@HOST:PATH",
        ),
        (
            "git://example.org/n.git",
            "source 'git://example.org/n.git': the connection is not authenticated, so the code could be replaced "
            "on the way; use https or ssh",
        ),
        (
            "http://example.org/n.git",
            "source 'http://example.org/n.git': the connection is not authenticated, so the code could be replaced "
            "on the way; use https or ssh",
        ),
    ],
)
def test_a_git_url_holds_no_secret_and_says_whose_code_it_is(project: Path, url: str, told: str) -> None:
    assert mistakes(project, with_application(f"source: {url}\n  ref: v1")) == [f":1: application: {told}"]


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.org:8443/a/b.git", True),
        ("ssh://git@example.org:2222/a/b.git", True),
        ("file:///srv/git/a", True),
        ("git@example.org:a/b.git", True),
        ("ext::sh -c id", False),
        ("ssh://-oProxyCommand=id/x", False),
        ("file://server/a", False),
        ("https://example.org", False),
        ("https://t0ken@example.org/a", False),
        ("git://example.org/a", False),
    ],
)
def test_the_generator_and_the_role_agree_on_git_urls(url: str, good: bool) -> None:
    assert (bool(GIT_URL.fullmatch(url)) and not git_url_fault(url)) is good
    if good:
        assert transports_of(url)
    else:
        with pytest.raises(ValueError, match=r"URL|use https"):
            transports_of(url)
