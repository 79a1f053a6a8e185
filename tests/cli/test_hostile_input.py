"""Whatever stands in the project file: an exit code of the table, one printable line a mistake, nothing half-written.

Whole commands, in this process; seeded mutations of a good file's bytes and of its structure.
"""

import contextlib
import io
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from farrier.cli.app import main

GOOD: dict[str, Any] = {
    "application": {
        "name": "notes",
        "source": "app",
        "wsgi": "notes:application",
        "health_path": "/health/",
        "urls": {"/": 1, "/a?b=c": 2.5},
        "migrate": "python manage.py migrate",
        "static": {"url": "/static/", "directory": "root", "command": "python manage.py collect"},
        "environment": {"A": "b", "C": 5},
        "secrets": ["SECRET_KEY"],
    },
    "environments": {
        "production": {
            "inventory": "hosts.yml",
            "group": "web",
            "domain": "www.example.org",
            "aliases": ["example.org"],
            "environment": {"D": "e"},
            "workload": {"cpu_seconds": 0.02, "measured": ["cpu_seconds"], "peak_rps": 30},
            "overrides": {"gunicorn.workers": 2, "gunicorn.preload_app": True, "farrier.switch": "overlap"},
            "facts": {"memory_mb": 3936},
            "hosts": {"web1": {"cpus": 2, "memory_mb": 4096}},
            "tls": {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"},
            "metrics_directory": "/var/lib/metrics",
        }
    },
    "scenarios": {"small": {"environment": "production", "system": "debian12", "cpus": 1, "memory_mb": 512}},
}
TEXT = yaml.safe_dump(GOOD, sort_keys=False).encode()
PIECES = [
    *(b"\x00", b"\xff", b"\x1b[31m", b"\r", b"\t", b"\xef\xbf\xbe", b"\xe2\x80\xa8", b'"\\UFFFFFFFF"', b'"\\ud800"', b"\xed\xa0\x80"),
    *(b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!python/name:os.system", b"!unsafe ", b"<<: ", b"? ", b"- ", b": ", b"#", b"---\n"),
    *(b"{{ x }}", b"#jinja2: a\n", b"1e999", b".nan", b"-0", b"9" * 5000, b"x" * 70_000, b"[" * 3000, b"- " * 2000, b"~", b"\n"),
]  # fmt: skip
VALUES: list[Any] = [
    *(None, True, 0, -1, 10**30, 1.5, float("inf"), float("nan"), "", " ", "\n", "\x1b[31m", "\x00", "\ufffe", "a" * 70_000, "-", "/"),
    *("..", "../x", "/etc/passwd", "~", "{{ x }}", "#jinja2: a\nb", "$(id)", "%n", "a: b", "\U0010ffff", "ü" * 300, "root", "all"),
    *([], {}, [[]], {"": ""}, {"a": {"a": {"a": 1}}}, ["x"] * 500, {str(i): i for i in range(500)}, {"\x1b": "\r"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    (root / "app").mkdir()
    (root / "app/notes.py").write_text("application = 1\n")
    (root / "app/requirements.txt").touch()
    (root / "app/manage.py").touch()
    (root / "hosts.yml").write_text("web: {hosts: {web1: {}}}\n")
    return root


def run(root: Path, *arguments: str) -> tuple[int, str]:
    """One command's exit code and what it says on standard error."""
    said = io.StringIO()
    before = sys.argv
    sys.argv = ["farrier", *arguments, "--project", str(root / "farrier.yml")]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0), said.getvalue()
    finally:
        sys.argv = before
    raise AssertionError("a command always ends with an exit code")


def holds(root: Path, content: bytes, *command: str) -> int:
    """A command, `generate --check` if none is named, ends as the table says; its exit code."""
    (root / "farrier.yml").write_bytes(content)
    before = sorted(root.rglob("*"))
    code, said = run(root, *(command or ("generate", "production", "--check")))
    assert code in (0, 1, 2, 3, 4), said
    lines = said.split("\n")
    assert lines.pop() == ""
    assert (code in (0, 1)) == (lines == [])
    assert len(lines) <= 100
    for line in lines:
        assert line.startswith("farrier: ")
        assert line.isprintable()
        assert len(line) <= 2_010
    assert sorted(root.rglob("*")) == before
    return code


def mutated(chance: random.Random) -> bytes:
    """The good file with a few of its bytes replaced, removed or doubled."""
    content = TEXT
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content))
        end = start + chance.choice([0, 0, 1, 3, 20])
        content = content[:start] + chance.choice([*PIECES, b"", content[start:end] * 2]) + content[end:]
    return content


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any, *, key: bool) -> Any:
    """A copy with another value, or another key, at one place."""
    first, *rest = path
    copy = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[first] = replaced(value[first], tuple(rest), new, key=key)
    elif key:
        copy = {new if name == first else name: inner for name, inner in value.items()}
    else:
        copy[first] = new
    return copy


def test_the_good_file_is_one(project: Path) -> None:
    assert holds(project, TEXT, "plan", "production") == 0
    assert holds(project, TEXT) == 1, "its tree is not there yet"


def test_mutated_bytes(project: Path) -> None:
    chance = random.Random(11)  # noqa: S311 - the same files in every run
    codes = [holds(project, mutated(chance)) for _ in range(150)]
    assert {1, 2} <= set(codes)


def test_mutated_structure(project: Path) -> None:
    """Every place in turn, with values and keys drawn from those that have a meaning to somebody."""
    chance = random.Random(12)  # noqa: S311 - the same files in every run
    for path in places(GOOD):
        for key in (False, True):
            new = chance.choice([value for value in VALUES if not key or isinstance(value, str)])
            if key and not isinstance(path[-1], str):
                continue
            holds(project, yaml.safe_dump(replaced(GOOD, path, new, key=key), sort_keys=False).encode())


@settings(max_examples=40)
@given(value=st.text(max_size=200) | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_text_as_an_environment_value_arrives_or_is_refused(project: Path, value: str) -> None:
    document = replaced(GOOD, ("application", "environment", "A"), value, key=False)
    content = yaml.safe_dump(document).encode("utf-8", "surrogatepass")
    assert holds(project, content) in (1, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b"- " * 400_000,
        b"a: " * 300_000,
        b"x" * 100_000_000,
        b"{a: " * 100_000,
        b"\n".join(b" " * i + b"a:" for i in range(1_300)),
        b"a: &a [" + b"*a, " * 1_000 + b"]",
        b'"\\ud800": 1',
        b'a: "\\UFFFFFFFF"',
        b"\x00",
        b"? [a]\n: b",
        b"a: !!binary x",
        "a: \u2028b".encode(),
        b"%YAML 9.9\n---\na: b",
        b"a: '" + b"\xcc\x88" * 100_000 + b"'",
        b"scenarios: {" + b", ".join(b"a%d: {}" % i for i in range(5_000)) + b"}",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_files_that_are_made_to_hurt(project: Path, content: bytes) -> None:
    assert holds(project, content) == 2
