"""What an archive holds is unpacked in its place, readable by whom it is for, and nowhere else."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_archive
from ansible.module_utils.farrier_archive import links_stay_inside, unpack
from ansible.module_utils.farrier_beneath import Refused
from ansible.module_utils.farrier_host import Failure

from building import ME, names, packed

pytestmark = pytest.mark.programs


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a", 0, "../outside"), ("a/b", 0o644, b"x")], "a is a link or a file, not a directory"),
        ([("a", 0, "../outside/file"), ("a", 0o644, b"x")], "^a: stands in the archive more than once$"),
        ([("a", 0o644, b"x"), ("./a", 0o644, b"y")], "^a: stands in the archive more than once$"),
        ([("a", 0o644, b"x"), ("a/b", 0o644, b"y")], "a is a link or a file, not a directory"),
        ([("../outside/x", 0o644, b"x")], "^../outside/x: leads out of the directory$"),
        ([("/x", 0o644, b"x")], "^/x: leads out of the directory$"),
    ],
)
def test_an_archive_writes_nothing_elsewhere(tmp_path: Path, members: list[Any], message: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "top").mkdir()
    with pytest.raises((Failure, Refused), match=message):
        unpack(packed(tmp_path / "archive", *members), str(tmp_path / "top"), ME.pw_gid)
    assert names(tmp_path / "outside") == []


def test_links_that_lead_out_over_other_links_are_found(tmp_path: Path) -> None:
    members: list[tuple[str, int, bytes | str]] = [
        ("a/b/top", 0, "../.."),
        ("inside", 0, "a/b/top"),
        ("a/b/c/file", 0o644, b"x"),
        ("out", 0, "a/b/top/../x"),
    ]
    unpack(packed(tmp_path / "archive", *members), str(tmp_path), ME.pw_gid)
    with pytest.raises(Failure, match=r"^out: the link leads out of the directory, to a/b/top/../x$"):
        links_stay_inside(str(tmp_path))
    (tmp_path / "out").unlink()
    links_stay_inside(str(tmp_path))


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(tmp_path)
    small = os.statvfs_result([1 << 20, 1 << 20, 3, 3, 3, *list(real)[5:]])
    monkeypatch.setattr(farrier_archive.os, "statvfs", lambda _path: small)
    archive = packed(tmp_path / "archive", *((name, 0o644, bytes(1 << 20)) for name in "abcd"))
    with pytest.raises(Failure, match=f"^the source is larger than the 3 MB that are free on the disk of {tmp_path}$"):
        unpack(archive, str(tmp_path), ME.pw_gid)


def test_private_files_stay_private_whatever_the_umask_is(tmp_path: Path) -> None:
    members = [
        ("a/public", 0o644, b""),
        ("a/run", 0o755, b""),
        ("key", 0o640, b""),
        ("private", 0o750, b""),
        ("setuid", 0o6777, b""),
    ]
    archive = packed(tmp_path / "archive", *members)
    before = os.umask(0o077)
    try:
        unpack(archive, str(tmp_path), 12345 if os.geteuid() == 0 else ME.pw_gid)
    finally:
        os.umask(before)
    modes = {
        name: oct(stat.S_IMODE((tmp_path / name).stat().st_mode)) for name in ("a", *(name for name, _, _ in members))
    }
    assert modes == {
        "a": "0o755",
        "a/public": "0o644",
        "a/run": "0o755",
        "key": "0o640",
        "private": "0o750",
        "setuid": "0o755",
    }
    if os.geteuid() == 0:
        assert ((tmp_path / "key").stat().st_gid, (tmp_path / "a/public").stat().st_gid) == (12345, 0)
