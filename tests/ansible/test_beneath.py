"""What root does below a directory that somebody else may write to: nothing that is planted there leads anywhere."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils import farrier_beneath as beneath

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files change hands here, which root alone may do")

SERVICE = 4321


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that nobody may reach."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("kept")
    return place


@pytest.fixture
def top(tmp_path: Path, outside: Path) -> Path:
    place = tmp_path / "top"
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/file").write_text("ours")
    (place / "a/out").symlink_to(outside)
    (place / "a/secret").symlink_to(outside / "secret")
    os.mkfifo(place / "fifo")
    return place


@pytest.mark.parametrize("path", ["a/out/secret", "a/secret", "fifo", "../outside/secret", "a/b"])
def test_nothing_is_read_through_what_was_planted(top: Path, path: str) -> None:
    with pytest.raises(beneath.Refused):
        beneath.read(str(top), path)
    assert beneath.read_json(str(top), path) == {}
    assert beneath.read(str(top), "a/b/file") == b"ours"


def test_no_more_is_read_than_is_expected(top: Path) -> None:
    assert beneath.read(str(top), "a/b/file", most=4) == b"ours"
    with pytest.raises(beneath.Refused, match="larger than the 3 bytes"):
        beneath.read(str(top), "a/b/file", most=3)
    (top / "deep.json").write_text("[" * 100_000)
    (top / "good.json").write_text('{"a": 1}')
    assert beneath.read_json(str(top), "deep.json") == {}
    assert beneath.read_json(str(top), "good.json") == {"a": 1}


def test_what_is_written_replaces_a_link_and_goes_through_none(top: Path, outside: Path) -> None:
    beneath.write(str(top), "a/secret", b"new", 0o640, gid=SERVICE)
    assert (top / "a/secret").lstat().st_gid == SERVICE
    assert (top / "a/secret").read_text() == "new"
    assert stat.S_IMODE((top / "a/secret").lstat().st_mode) == 0o640
    assert (outside / "secret").read_text() == "kept"
    for path in ("a/out/other", "../outside/other"):
        with pytest.raises(beneath.Refused):
            beneath.write(str(top), path, b"new")
    assert [each.name for each in outside.iterdir()] == ["secret"]
    beneath.link(str(top), "a/secret", "b/file")
    assert str((top / "a/secret").readlink()) == "b/file"


def test_directories_are_made_whatever_the_umask_is(top: Path, outside: Path) -> None:
    before = os.umask(0o077)
    try:
        beneath.make_directory(str(top), "new/below", 0o755)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((top / path).stat().st_mode) for path in ("new", "new/below")] == [0o755, 0o755]
    with pytest.raises(beneath.Refused, match="out is a link"):
        beneath.make_directory(str(top), "a/out/new")
    assert not (outside / "new").exists()


def test_a_tree_changes_hands_but_nothing_that_it_points_to(top: Path, outside: Path) -> None:
    (top / "fifo").unlink()
    beneath.give(str(top), "", SERVICE, SERVICE, lambda mode: mode & ~0o077)
    assert {owner(each) for each in (top, top / "a", top / "a/b/file", top / "a/out")} == {SERVICE}
    assert stat.S_IMODE((top / "a/b/file").stat().st_mode) == 0o600
    assert {owner(each) for each in (outside, outside / "secret")} == {0}
    assert stat.S_IMODE((outside / "secret").stat().st_mode) == 0o644


@pytest.mark.parametrize("planted", ["link", "fifo", "foreign", "second name"])
def test_a_tree_does_not_change_hands_with_what_is_not_ours(top: Path, outside: Path, planted: str) -> None:
    (top / "fifo").unlink()
    if planted == "link":
        with pytest.raises(beneath.Refused):
            beneath.give(str(top), "a/out", SERVICE, SERVICE)
    elif planted == "fifo":
        os.mkfifo(top / "a/fifo")
        with pytest.raises(beneath.Refused, match=r"^a/fifo: not a regular file"):
            beneath.give(str(top), "a", SERVICE, SERVICE)
    elif planted == "foreign":
        os.chown(outside / "secret", 5, 5)
        os.link(outside / "secret", top / "a/b/hard")
        with pytest.raises(beneath.Refused, match="a/b/hard: belongs to user 5"):
            beneath.give(str(top), "a", 0, 0)
    else:
        os.link(outside / "secret", top / "a/b/hard")
        with pytest.raises(beneath.Refused, match="a/b/hard: another name of a file of root's"):
            beneath.give(str(top), "a", SERVICE, SERVICE)
        with pytest.raises(beneath.Refused, match="a/b/hard: another name of a file of root's"):
            beneath.give(str(top), "a", 0, 0, lambda _mode: 0o755, frozenset({SERVICE}))
    assert owner(outside) == 0
    assert owner(outside / "secret") in (0, 5)
    assert stat.S_IMODE((outside / "secret").stat().st_mode) == 0o644


def test_only_plain_numbers_are_process_ids(top: Path) -> None:
    place = top / "workers"
    place.mkdir()
    for name in ("12", "1", "²", "١٢", "-1", "+3", "1_2", "007", "99999999", "12.x", "worker--1"):
        (place / name).touch()
    assert beneath.numbers(str(top), "workers") == [1, 12]
    assert beneath.numbers(str(top), "missing") == []
    with pytest.raises(beneath.Refused, match="more than 3 entries"):
        beneath.names(str(top), "workers", most=3)


def test_a_tree_that_is_too_deep_to_be_walked_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(beneath.Refused, match=r"^d: its directories lie inside each other by the thousand$"):
        beneath.give(str(tmp_path), "d", os.geteuid(), os.getegid())
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
