"""farrier_source names a release by its content alone, and packs the same bytes wherever it runs."""

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from farrier.modules.farrier_source import ignored, is_url, patterns_of
from module_runner import run_module


def small_source(directory: Path) -> Path:
    directory.mkdir()
    (directory / "app.py").write_text("application = None\n")
    (directory / "manage.py").write_text("#!/usr/bin/env python\n")
    (directory / "manage.py").chmod(0o755)
    (directory / "static").mkdir()
    (directory / "static/style.css").write_text("a { color: red }\n")
    return directory


def pack(source: Path | str, cache: Path, **options: Any) -> dict[str, Any]:
    return run_module("farrier_source", {"source": str(source), "cache": str(cache), **options})


def names(archive: str) -> list[str]:
    with tarfile.open(archive) as tar:
        return [member.name for member in tar]


def test_the_same_content_has_the_same_name_and_bytes_wherever_it_lies(tmp_path: Path) -> None:
    one, two = small_source(tmp_path / "one"), small_source(tmp_path / "two")
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    (two / "app.py").chmod(0o600)
    first, second = pack(one, tmp_path / "c1"), pack(two, tmp_path / "c2")
    assert first["release"] == second["release"] == "88a9f5c7d523"
    assert Path(first["archive"]).read_bytes() == Path(second["archive"]).read_bytes()
    assert first["files"] == 3
    assert first["changed"] is False


def test_every_difference_makes_another_release(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    seen = [pack(source, tmp_path / "c")["release"], pack(source, tmp_path / "c", recipe={"static": "x"})["release"]]
    (source / "app.py").chmod(0o755)
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "app.py").write_text("application = 1\n")
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "app.py").rename(source / "wsgi.py")
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "current").symlink_to("wsgi.py")
    seen.append(pack(source, tmp_path / "c")["release"])
    assert len(set(seen)) == 6


def test_the_archive_holds_no_owner_and_no_time(tmp_path: Path) -> None:
    archive = pack(small_source(tmp_path / "source"), tmp_path / "c")["archive"]
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == ["app.py", "manage.py", "static/style.css"]
    assert {member.uid for member in members.values()} == {0}
    assert {member.mtime for member in members.values()} == {1_000_000_000}
    assert [oct(member.mode) for member in members.values()] == ["0o644", "0o755", "0o644"]


def test_what_never_belongs_to_a_release_is_left_out(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    for path in (".git/config", "static/__pycache__/a.pyc", "venv/bin/python", "node_modules/x/y.js"):
        (source / path).parent.mkdir(parents=True)
        (source / path).write_text("x")
    for path in ("db.sqlite3", ".env", "b.pyc", "notes.log", "static/raw.psd", "docs.md"):
        (source / path).write_text("x")
    (source / ".farrierignore").write_text("# not for servers\n*.log\n/static/*.psd\n\ndocs.md\n")
    assert names(pack(source, tmp_path / "c")["archive"]) == ["app.py", "manage.py", "static/style.css"]


@pytest.mark.parametrize(
    ("path", "pattern", "left_out"),
    [
        ("a/b/c.log", "*.log", True),
        ("a/b", "b/", True),
        ("a/b", "a/b", True),
        ("x/a/b", "a/b", False),
        ("x/a/b", "/b", False),
        ("b.log.txt", "*.log", False),
    ],
)
def test_ignore_patterns(path: str, pattern: str, left_out: bool) -> None:
    assert ignored(path, patterns_of(pattern)) is left_out


def test_an_unchanged_source_is_not_packed_again(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    archive = Path(pack(source, tmp_path / "c")["archive"])
    os.utime(archive, (5, 5))
    pack(source, tmp_path / "c")
    assert archive.stat().st_mtime == 5
    assert [each.name for each in archive.parent.iterdir()] == [archive.name]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "static/../../outside"])
def test_a_link_out_of_the_source_is_refused(tmp_path: Path, target: str) -> None:
    source = small_source(tmp_path / "source")
    (source / "link").symlink_to(target)
    assert pack(source, tmp_path / "c")["msg"] == f"link: the link leads out of the source, to {target}"


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    os.mkfifo(source / "pipe")
    assert pack(source, tmp_path / "c")["msg"].startswith("pipe: neither a file nor a directory nor a link")


def test_a_missing_or_empty_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pack(tmp_path / "nowhere", tmp_path / "c")["msg"].endswith(
        "there is no such directory on the control machine"
    )
    assert pack(tmp_path / "empty", tmp_path / "c")["msg"].endswith("there is nothing in it to release")


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("https://example.org/notes.git", True),
        ("git@example.org:notes.git", True),
        ("file:///srv/git/notes", True),
        ("/srv/git/notes", False),
        ("examples/django", False),
    ],
)
def test_what_is_a_git_url(source: str, url: bool) -> None:
    assert is_url(source) is url


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", directory, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_git_repository_gives_the_release_of_its_files(tmp_path: Path) -> None:
    source, cache = small_source(tmp_path / "source"), tmp_path / "cache"
    git(source, "init")
    git(source, "add", ".")
    git(source, "commit", "-m", "first")
    git(source, "tag", "v1")
    first = git(source, "rev-parse", "HEAD")
    url = f"file://{source}"

    by_tag = pack(url, cache, ref="v1")
    assert by_tag["release"] == pack(source, cache)["release"] == "88a9f5c7d523"
    assert by_tag["commit"] == first

    (source / "app.py").unlink()
    git(source, "commit", "-am", "second")
    moved = pack(url, cache, ref="main")
    assert names(moved["archive"]) == ["manage.py", "static/style.css"]
    assert pack(url, cache, ref=first)["release"] == by_tag["release"], "a known commit needs no fetch"
    assert [each.name for each in cache.iterdir() if each.name.startswith("checkout-")] == []


def test_a_ref_that_is_not_there_or_no_ref_is_named(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    git(source, "init")
    git(source, "add", ".")
    git(source, "commit", "-m", "first")
    url = f"file://{source}"
    assert "rev-parse" in pack(url, tmp_path / "c", ref="v9")["msg"]
    assert pack(url, tmp_path / "c")["msg"] == f"{url}: a git repository needs a ref, such as a tag"
    assert pack(url, tmp_path / "c", ref="--upload-pack=x")["failed"] is True
    assert "git fetch" in pack(f"file://{tmp_path}/nowhere", tmp_path / "c", ref="v1")["msg"]
