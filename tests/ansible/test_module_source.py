"""farrier_source names a release by its content alone, and packs the same bytes wherever it runs."""

import os
import socket
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_members
from ansible.module_utils.farrier_git import is_url, joined
from ansible.module_utils.farrier_members import Member, Reader, patterns_of

from module_runner import run_module


def small_source(directory: Path) -> Path:
    directory.mkdir()
    (directory / "app.py").write_text("application = None\n")
    (directory / "manage.py").write_text("#!/usr/bin/env python\n")
    (directory / "manage.py").chmod(0o755)
    (directory / "static").mkdir()
    (directory / "static/style.css").write_text("a { color: red }\n")
    return directory


def write(directory: Path, *paths: str) -> None:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text("x")


def pack(source: Path | str, cache: Path, **options: Any) -> dict[str, Any]:
    return run_module("farrier_source", {"source": str(source), "cache": str(cache), **options})


def names(packed: dict[str, Any]) -> list[str]:
    assert "archive" in packed, packed
    with tarfile.open(packed["archive"]) as tar:
        return [member.name for member in tar]


def modes(packed: dict[str, Any]) -> dict[str, str]:
    with tarfile.open(packed["archive"]) as tar:
        return {member.name: oct(member.mode) for member in tar}


def test_the_same_content_has_the_same_name_and_bytes_wherever_it_lies(tmp_path: Path) -> None:
    one, two = small_source(tmp_path / "one"), small_source(tmp_path / "two")
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    (two / "app.py").chmod(0o600)
    two.chmod(0o700)
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
    (source / "app.py").chmod(0o750)
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "app.py").write_text("application = 1\n")
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "app.py").rename(source / "wsgi.py")
    seen.append(pack(source, tmp_path / "c")["release"])
    (source / "current").symlink_to("wsgi.py")
    seen.append(pack(source, tmp_path / "c")["release"])
    assert len(set(seen)) == 7


def test_the_archive_holds_no_owner_and_no_time(tmp_path: Path) -> None:
    archive = pack(small_source(tmp_path / "source"), tmp_path / "c")["archive"]
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == ["app.py", "manage.py", "static/style.css"]
    assert {member.uid for member in members.values()} == {0}
    assert {member.mtime for member in members.values()} == {1_000_000_000}
    assert [oct(member.mode) for member in members.values()] == ["0o644", "0o755", "0o644"]


def test_what_others_may_not_read_here_they_may_not_read_on_the_host(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    (source / "app.py").chmod(0o600)
    (source / "manage.py").chmod(0o700)
    (source / "static/style.css").chmod(0o640)
    private = {"app.py": "0o640", "manage.py": "0o750"}
    assert modes(pack(source, tmp_path / "c")) == {**private, "static/style.css": "0o640"}
    served = {**private, "static/style.css": "0o644"}
    assert modes(pack(source, tmp_path / "c", recipe={"static_directory": "static"})) == served
    source.chmod(0o700)  # as umask 077 makes all of it, where it says nothing about one file
    assert set(modes(pack(source, tmp_path / "c")).values()) == {"0o644", "0o755"}


def test_what_never_belongs_to_a_release_is_left_out(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    write(source, "vendored/.git/config", "static/__pycache__/a.pyc", "venv/bin/python", "node_modules/x/y.js")
    write(source, ".env", ".env.production", "keys/id_rsa", "keys/id_ed25519", ".ssh/config", ".vault_pass")
    write(source, "db.sqlite3", "b.pyc", "notes.log", "static/raw.psd", "docs.md")
    (source / ".farrierignore").write_text("# not for servers\n*.log\n/static/*.psd\n\ndocs.md\n")
    assert names(pack(source, tmp_path / "c")) == ["app.py", "manage.py", "static/style.css"]


def test_farrierignore_takes_back_in_what_is_left_out(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    write(
        source, "keys/id_rsa", "dist/assets/app.js", "dist/assets/app.pyc", "dist/report.html", "other.log", "keep.log"
    )
    (source / ".farrierignore").write_text("static\ndist\n*.log\n!dist/assets\n!keep.log\n!/keys/id_rsa\nkeys/none\n")
    packed = names(pack(source, tmp_path / "c"))
    assert packed == ["app.py", "keep.log", "manage.py", "dist/assets/app.js", "keys/id_rsa"]


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
    assert [each.matches(path) for each in patterns_of(pattern)] == [left_out]


def test_what_farrier_wrote_is_no_part_of_the_release(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    write(source, "farrier.yml", "roles/notes_production/tasks/main.yml", "roles/mine/main.yml")
    write(source, "inventories/group_vars/all.yml", "inventories/other.txt")
    own = ["farrier.yml", "roles/notes_production", "inventories/group_vars"]
    kept = ["app.py", "manage.py", "inventories/other.txt", "roles/mine/main.yml", "static/style.css"]
    assert names(pack(".", tmp_path / "c", project=str(source), own=own)) == kept
    (source / ".farrierignore").write_text("!inventories/group_vars\n")
    packed = names(pack(".", tmp_path / "c", project=str(source), own=own))
    assert "inventories/group_vars/all.yml" in packed
    # The project lies beside the source, and its inventory inside.
    (tmp_path / "project").mkdir()
    (source / ".farrierignore").unlink()
    beside = pack(
        "../source", tmp_path / "c", project=str(tmp_path / "project"), own=["../source/inventories", "roles"]
    )
    assert [path for path in names(beside) if path.startswith(("inventories", "roles"))] == [
        "roles/mine/main.yml",
        "roles/notes_production/tasks/main.yml",
    ]


def test_an_unchanged_source_is_not_packed_again(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    archive = Path(pack(source, tmp_path / "c")["archive"])
    os.utime(archive, (5, 5))
    pack(source, tmp_path / "c")
    assert archive.stat().st_mtime == 5
    assert [each.name for each in archive.parent.iterdir()] == [archive.name]


def test_the_cache_is_the_users_alone(tmp_path: Path) -> None:
    source, cache = small_source(tmp_path / "source"), tmp_path / "c"
    (cache / "releases").mkdir(parents=True, mode=0o777)
    cache.chmod(0o777)
    archive = Path(pack(source, cache)["archive"])
    assert [oct(each.stat().st_mode & 0o777) for each in (cache, cache / "releases", archive)] == [
        "0o700",
        "0o700",
        "0o600",
    ]
    content = archive.read_bytes()
    archive.rename(tmp_path / "planted")
    (tmp_path / "planted").write_bytes(b"planted")
    archive.symlink_to(tmp_path / "planted")
    pack(source, cache)
    assert (archive.is_symlink(), archive.read_bytes()) == (False, content)
    (tmp_path / "elsewhere").symlink_to(cache)
    assert pack(source, tmp_path / "elsewhere")["msg"] == (
        f"{tmp_path}/elsewhere: must be a directory of your own, as releases come from it; remove it"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="files change hands here, which root alone may do")
def test_a_cache_or_an_archive_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    source, cache = small_source(tmp_path / "source"), tmp_path / "c"
    archive = Path(pack(source, cache)["archive"])
    content = archive.read_bytes()
    archive.write_bytes(b"planted")
    os.chown(archive, 4321, 4321)
    pack(source, cache)
    assert (archive.read_bytes(), archive.stat().st_uid) == (content, 0)
    os.chown(cache, 4321, 4321)
    assert "must be a directory of your own" in pack(source, cache)["msg"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "static/../../outside"])
def test_a_link_out_of_the_source_is_refused(tmp_path: Path, target: str) -> None:
    source = small_source(tmp_path / "source")
    (source / "link").symlink_to(target)
    assert pack(source, tmp_path / "c")["msg"] == f"link: the link leads out of the source, to {target}"


def test_a_link_that_leaves_the_source_through_another_is_refused(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    (source / "a/b/c/d").mkdir(parents=True)
    (source / "a/b/c/d/top").symlink_to("../../../..")
    (source / "inside").symlink_to("a/b/c/d/top/static/style.css")
    assert "inside" in names(pack(source, tmp_path / "c"))
    target = "a/b/c/d/top/../../../../etc"
    (source / "static_root").symlink_to(target)
    assert pack(source, tmp_path / "c")["msg"] == f"static_root: the link leads out of the source, to {target}"


def test_links_without_an_end_are_refused(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    (source / "one").symlink_to("two")
    (source / "two").symlink_to("one/x")
    assert pack(source, tmp_path / "c")["msg"] == "one: links that lead to each other without an end"


@pytest.mark.parametrize(("link", "directory"), [("static_root", "static_root"), ("public", "public/static")])
def test_static_files_behind_a_link_are_refused(tmp_path: Path, link: str, directory: str) -> None:
    source = small_source(tmp_path / "source")
    (source / link).symlink_to("static")
    packed = pack(source, tmp_path / "c", recipe={"static_directory": directory})
    assert packed["msg"] == (
        f"{link}: is a link, but the static files of the release lie in {directory}, which has to be a directory of its own"
    )


def test_a_pipe_and_a_socket_are_refused_and_never_opened(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    refused = "neither a file nor a directory nor a link that can be used here; name it in .farrierignore"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "socket"))
        assert pack(source, tmp_path / "c")["msg"] == f"socket: {refused}"
    (source / "socket").unlink()
    os.mkfifo(source / "pipe")
    # A writer waits for the first reader there is.
    writer = threading.Thread(target=lambda: os.close(os.open(source / "pipe", os.O_WRONLY)), daemon=True)
    writer.start()
    assert pack(source, tmp_path / "c")["msg"] == f"pipe: {refused}"
    assert writer.is_alive()
    os.close(os.open(source / "pipe", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()
    (source / ".farrierignore").write_text("pipe\n")
    assert names(pack(source, tmp_path / "c")) == ["app.py", "manage.py", "static/style.css"]


def swapped_after(monkeypatch: pytest.MonkeyPatch, name: str, change: Any) -> None:
    """Has something happen between the moment a name is looked at and the moment it is opened."""
    look = os.stat

    def then(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        found = look(path, *arguments, **options)
        if path == name and options.get("dir_fd") is not None:
            change()
        return found

    monkeypatch.setattr(farrier_members.os, "stat", then)


@pytest.mark.parametrize("name", ["static", "app.py"])
def test_what_becomes_a_link_while_it_is_read_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source, outside = small_source(tmp_path / "source"), small_source(tmp_path / "outside")

    def swap() -> None:
        (source / name).rename(source / "away")
        (source / name).symlink_to(outside / name)

    swapped_after(monkeypatch, name, swap)
    with pytest.raises(
        ValueError, match=f"{name}: was changed into a link or a file while the source was read; try again"
    ):
        Reader().read(str(source))


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = small_source(tmp_path / "source")

    def replace() -> None:
        (source / "next").write_text("other")
        (source / "next").replace(source / "app.py")

    swapped_after(monkeypatch, "app.py", replace)
    with pytest.raises(
        ValueError, match=r"app\.py: was changed while it was read; try again, or name it in \.farrierignore"
    ):
        Reader().read(str(source))


@pytest.mark.parametrize(
    ("name", "told"), [(b"a\x1b[31mb", r"a\x1b[31mb"), (b"caf\xe9", r"caf\udce9"), (b"n" * 50 + b"\n" * 200, "nnnn")]
)
def test_a_name_that_no_terminal_should_see_is_refused_in_plain_words(tmp_path: Path, name: bytes, told: str) -> None:
    source = small_source(tmp_path / "source")
    Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_text("x")
    said = pack(source, tmp_path / "c")["msg"]
    assert said.startswith(told)
    assert said.endswith("a name that is not UTF-8 or holds control characters; rename it or name it in .farrierignore")
    assert said.isprintable()
    assert len(said) < 400


def test_what_cannot_be_read_or_is_too_deep_is_a_sentence(tmp_path: Path) -> None:
    source = small_source(tmp_path / "source")
    (source / ".farrierignore").write_bytes(b"caf\xe9\n")
    assert pack(source, tmp_path / "c")["msg"] == ".farrierignore: is not UTF-8"
    (source / ".farrierignore").unlink()
    (source / ".farrierignore").symlink_to("/etc/passwd")
    assert pack(source, tmp_path / "c")["msg"].startswith(".farrierignore: neither a file")
    (source / ".farrierignore").unlink()
    place = os.open(source, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=place)
        place, above = os.open("d", os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.close(place)
    assert pack(source, tmp_path / "c")["msg"].endswith("…: more than 100 directories inside each other")
    # Neither pytest nor shutil can remove that.
    subprocess.run(["rm", "-rf", source / "d"], check=True)


def test_a_missing_or_empty_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pack(tmp_path / "nowhere", tmp_path / "c")["msg"].endswith("no such directory on the control node")
    assert pack(tmp_path / "empty", tmp_path / "c")["msg"].endswith("contains nothing to release")


def test_members_tell_links_from_files() -> None:
    members = [Member("a", b"x"), Member("b/c", target="../a")]
    farrier_members.check_links(members, "")
    with pytest.raises(ValueError, match=r"a: is a file, but the static files of the release lie in a/b"):
        farrier_members.check_links(members, "a/b")


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


@pytest.mark.parametrize(
    ("parent", "address", "url"),
    [
        ("https://example.org/a/b.git", "../c.git", "https://example.org/a/c.git"),
        ("git@example.org:a/b.git", "../c.git", "git@example.org:a/c.git"),
        ("git@example.org:b.git", "../c.git", "git@example.org:c.git"),
        ("file:///srv/b", "./c", "file:///srv/b/c"),
        ("https://example.org/b", "https://example.com/c", "https://example.com/c"),
    ],
)
def test_the_address_of_a_submodule(parent: str, address: str, url: str) -> None:
    assert joined(parent, address) == url
