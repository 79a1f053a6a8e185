"""farrier_release makes a release aside and brings it into place whole; what is in use is never pruned."""

import io
import json
import os
import pwd
import shlex
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import farrier_archive, farrier_cell, farrier_workplace
from ansible.module_utils.farrier_archive import date_by_content, links_stay_inside, unpack
from ansible.module_utils.farrier_beneath import Refused
from ansible.module_utils.farrier_cell import as_user, end_of, ended, handed, of_pip
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_requirements import from_the_release, requirement_files, venv_key
from ansible.module_utils.farrier_venv import state_of

from farrier.ansible.modules import farrier_command
from farrier.ansible.modules.farrier_release import Builder
from module_runner import run_module

pytestmark = pytest.mark.programs

ID = "0123456789ab"
ME = pwd.getpwuid(os.geteuid())


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


class Maker:
    """Builds releases below a temporary home; systemd-run, venv and pip are played by a few lines."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home = root, root / "srv"
        self.calls: list[list[str]] = []
        self.fails = ""
        self.brings: tuple[str, ...] = ()
        monkeypatch.setattr(farrier_workplace, "as_user", self.as_user)
        for name in ("releases", "venvs"):
            (self.home / name).mkdir(parents=True)
        self.params: dict[str, Any] = {
            "home": str(self.home),
            "user": ME.pw_name,
            "python": sys.executable,
            "requirements": "requirements.txt",
            "gunicorn": "gunicorn==27.0.1",
            "pip": None,
            "worker_class": None,
            "static_directory": "static_root",
            "static_command": "collect",
            "environment_file": "/etc/notes/environment",
            "sandbox": ["ProtectSystem=strict"],
            "keep": 3,
            "commit": "v1",
        }

    def as_user(
        self, user: str, properties: list[str], command: list[str], environment: Mapping[str, str] | None = None
    ) -> str:
        assert user == ME.pw_name
        assert "ProtectSystem=strict" in properties
        assert ("PrivateNetwork=yes" in properties) is not ("pip" in command or command[0] in ("collect", "true"))
        assert not environment or "pip" in command
        self.calls.append(command)
        if self.fails and self.fails in " ".join(command):
            raise Failure("no index in reach")
        if "venv" in command:
            python = Path(command[-1], "bin/python")
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
            for each in self.brings:
                Path(command[-1], f"lib/python3.11/site-packages/{each}.dist-info").mkdir(parents=True)
        if "-c" in command or command[0] == "cp":
            subprocess.run(command, check=True)
        if "collect" in command:
            where = Path(next(each for each in properties if each.startswith("WorkingDirectory=")).partition("=")[2])
            (where / "static_root/style.css").write_text("a { color: red }\n")
            self.plants(where / "static_root")
        return ""

    def plants(self, static: Path) -> None:
        """What else the static command leaves behind."""

    def archive(self, release: str = ID, requirements: str = "django==5.2.19\n") -> str:
        source = self.root / f"source-{release}"
        source.mkdir()
        (source / "requirements.txt").write_text(requirements)
        (source / "app.py").write_text("x = 1\n")
        packed = run_module("farrier_source", {"source": str(source), "cache": str(self.root / "cache")})["archive"]
        archive = self.home / "releases" / f"{release}.tar.gz"
        archive.write_bytes(Path(packed).read_bytes())
        return str(archive)

    def build(self, release: str = ID, **params: Any) -> Builder:
        archive = self.archive(release, params.pop("requirements_text", "django==5.2.19\n"))
        builder = Builder({**self.params, "release": release, "archive": archive, **params})
        builder.build()
        return builder


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    return Maker(tmp_path, monkeypatch)


def test_a_release_is_whole_and_says_what_it_is(maker: Maker) -> None:
    builder = maker.build()
    release = maker.home / "releases" / ID
    assert names(maker.home / "releases") == [ID]
    facts = json.loads((release / "RELEASE.json").read_text())
    assert (facts["release"], facts["commit"]) == (ID, "v1")
    assert (facts["size_mb"], facts["venv_mb"]) == (1, 1)
    assert (maker.home / "venvs" / facts["venv"] / ".complete").exists()
    assert (release / "static_root/style.css").exists()
    assert list(release.glob("__pycache__/app.*.pyc"))
    assert any("compileall" in " ".join(call) for call in maker.calls), "as the service's user, like all else"
    assert builder.changed is True
    assert list(builder.seconds) == ["unpack", "venv", "pip", "gunicorn", "finish", "static", "compile"]
    assert maker.calls[2][-1] == "gunicorn==27.0.1", "the requirements brought none"


def test_releases_with_the_same_requirements_share_an_environment(maker: Maker) -> None:
    maker.build("aaaaaaaaaaaa")
    maker.build("bbbbbbbbbbbb")
    assert len(names(maker.home / "venvs")) == 1
    maker.build("cccccccccccc", requirements_text="django==5.2.20\n")
    assert len(names(maker.home / "venvs")) == 2


def test_a_failed_pip_leaves_no_release_and_the_next_run_makes_it(maker: Maker) -> None:
    maker.fails = "requirements.txt"
    with pytest.raises(Failure, match=r"^Installing requirements.txt with pip failed: no index in reach$"):
        maker.build()
    assert not (maker.home / "releases" / ID).exists()
    assert not list(maker.home.glob("venvs/*/.complete"))
    maker.fails = ""
    (maker.root / f"source-{ID}").rename(maker.root / "before")
    maker.build()
    assert names(maker.home / "releases") == [ID]
    assert list(maker.home.glob("venvs/*/.complete"))


def test_a_release_without_the_gevent_that_its_worker_class_needs_is_refused(maker: Maker) -> None:
    maker.params["worker_class"] = "gevent"
    with pytest.raises(
        Failure, match=r"^requirements.txt brings no gevent, which gunicorn.worker_class gevent needs: add"
    ):
        maker.build()
    assert not (maker.home / "releases" / ID).exists()
    (venv,) = (maker.home / "venvs").iterdir()
    assert not (venv / ".complete").exists()
    maker.brings = ("gevent-26.9.0", "packaging-26.3")
    (maker.root / f"source-{ID}").rename(maker.root / "before")
    maker.build()
    assert names(maker.home / "releases") == [ID]


def test_static_files_that_were_not_collected_are_missed(maker: Maker) -> None:
    with pytest.raises(Failure, match="`true` failed: it left no file in static_root"):
        maker.build(static_command="true")


def test_a_release_without_its_environment_is_mended(maker: Maker) -> None:
    maker.build()
    mark = next(maker.home.glob("venvs/*/.complete"))
    mark.unlink()
    builder = Builder({**maker.params, "release": ID, "archive": None})
    builder.mend()
    assert builder.changed is True
    assert mark.exists()
    again = Builder({**maker.params, "release": ID, "archive": None})
    again.mend()
    assert again.changed is False


def test_old_releases_go_but_never_one_that_a_slot_uses(maker: Maker) -> None:
    ids = [digit * 12 for digit in "12345"]
    for number, release in enumerate(ids):
        maker.build(release, requirements_text=f"django==5.{number}\n")
        note = maker.home / "releases" / release / "RELEASE.json"
        note.write_text(json.dumps({**json.loads(note.read_text()), "built": f"2026-01-0{number + 1}"}))
    slot = maker.home / "slots/a/slot.json"
    slot.parent.mkdir(parents=True)
    slot.write_text(json.dumps({"release": ids[0], "previous": None}))
    (maker.home / "releases" / f"{ids[0]}.partial").mkdir()
    (maker.home / "venvs/unused").mkdir()

    removed = Builder({**maker.params, "release": ids[4], "archive": None}).prune()
    assert removed == [ids[1]]
    assert names(maker.home / "releases") == [ids[0], ids[2], ids[3], ids[4]]
    assert len(names(maker.home / "venvs")) == 4


def test_a_static_file_is_dated_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a.css", "red"), ("b.css", "red"), ("c.css", "blu")):
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("/etc/hostname")
    date_by_content(str(tmp_path))
    dates = [int((tmp_path / name).stat().st_mtime) for name in ("a.css", "b.css", "c.css")]
    assert dates[0] == dates[1] == 1_000_000_000 + int("b1f51a5", 16), "the first digits of red's SHA-256"
    assert dates[2] != dates[0], "the same size, and yet another ETag"


def test_requirements_are_read_with_all_that_they_include(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/base.txt").write_text("django\n-c ../pins.txt  # pinned\n")
    (tmp_path / "pins.txt").write_text("django==5.2.19\n")
    (tmp_path / "production.txt").write_text(
        "-r requirements/base.txt\n--requirement=pins.txt\n-r https://example.org/x.txt\n"
    )
    assert sorted(requirement_files(str(tmp_path), "production.txt")) == [
        "pins.txt",
        "production.txt",
        "requirements/base.txt",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-e .", "requirements.txt, line 1: -e .: an editable install cannot be shared by releases"),
        ("-r ../secret.txt", "../secret.txt: requirements must lie inside the source"),
        ("-r more.txt", "more.txt: No such file or directory; it is named as the application's requirements"),
    ],
)
def test_requirements_that_cannot_be_shared_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    with pytest.raises(Failure) as caught:
        requirement_files(str(tmp_path), "requirements.txt")
    assert str(caught.value) == message


def test_the_key_of_an_environment_depends_on_what_decides_its_content() -> None:
    pinned, local = {"r.txt": b"django==5\n"}, {"r.txt": b"django==5\n./vendor/lib\n"}
    base = venv_key(pinned, "cpython-311", "gunicorn==27.0.1", "aaa")
    assert base == venv_key(pinned, "cpython-311", "gunicorn==27.0.1", "bbb")
    assert base != venv_key(pinned, "cpython-313", "gunicorn==27.0.1", "aaa")
    assert base != venv_key(pinned, "cpython-311", "gunicorn==28", "aaa")
    assert base != venv_key({"r.txt": b"django==6\n"}, "cpython-311", "gunicorn==27.0.1", "aaa")
    assert venv_key(local, "p", "g", "aaa") != venv_key(local, "p", "g", "bbb"), "it holds a part of the release"


def test_what_may_be_another_thing_next_time_is_not_shared() -> None:
    sha = "0123456789abcdef0123456789abcdef01234567"
    settled = f"""\
Django[argon2]>=5,<6 ; python_version > "3.9"  # comment
gunicorn==27.0.1 \\
    --hash=sha256:{sha}
--index-url https://example.org/simple
-i https://example.org/simple
notes @ git+https://example.org/notes.git@{sha}
git+https://example.org/notes.git@{sha}#egg=notes
notes @ https://example.org/notes.whl#sha256={sha}
-r base.txt
--constraint=pins.txt
requests (>=2)
"""
    released = [".", "./pkg", "pkg/", "wheels/x-1-py3-none-any.whl", "x-1-py3-none-any.whl", "x.tar.gz", "file:./x.whl"]
    released += ["x @ file:./x.whl", "-f wheels", "--find-links=wheels", ".[extra]", "/opt/x"]
    elsewhere = ["git+https://example.org/notes.git", "notes @ git+ssh://git@example.org/notes.git@main"]
    elsewhere += ["https://example.org/main.zip", "-r https://example.org/r.txt", "-f https://example.org/wheels"]

    def key(text: str, release: str) -> str:
        return str(venv_key({"r.txt": text.encode()}, "p", "g", release))

    assert key(settled, "aaa") == key(settled, "bbb")
    assert not from_the_release({"r.txt": settled.encode()})
    for line in [*released, *elsewhere]:
        assert key(line, "aaa") != key(line, "bbb"), line
        assert from_the_release({"r.txt": line.encode()}) is (line in released), line


def test_pip_builds_a_part_of_the_release_in_a_copy_of_it(maker: Maker) -> None:
    maker.build(requirements_text="django==5.2.19\n./lib\n")
    copy = next(call for call in maker.calls if call[0] == "cp")
    assert copy[-2:] == [f"{maker.home}/releases/{ID}.partial", f"{maker.home}/releases/{ID}.build/source"]
    assert names(maker.home / "releases") == [ID], "the copy is gone"
    maker.build("bbbbbbbbbbbb", requirements_text="django==5.2.19\n./lib\n")
    assert len(names(maker.home / "venvs")) == 2, "./lib may be another one"


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (
            lambda static: (static / "x").symlink_to("/etc/passwd"),
            "static_root/x: the link leads out of the directory, to /etc/pas",
        ),
        (
            lambda static: (static / "x").symlink_to("../../.."),
            "static_root/x: the link leads out of the directory, to ../../..",
        ),
        (lambda static: os.mkfifo(static / "x"), "static_root/x: not a regular file"),
    ],
)
def test_what_the_static_command_plants_is_not_published(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, plant: Any, message: str
) -> None:
    monkeypatch.setattr(maker, "plants", plant)
    with pytest.raises(Failure, match=f"^`collect` failed: {message}"):
        maker.build()
    assert not (maker.home / "releases" / ID).exists()


@pytest.mark.parametrize(("directory", "link"), [("static_root", "static_root"), ("a/b", "a")])
def test_static_files_are_collected_below_no_link(maker: Maker, directory: str, link: str) -> None:
    archive = packed(
        maker.home / "releases/x.tar.gz", ("requirements.txt", 0o644, b""), ("c/d", 0o644, b""), (link, 0, "c")
    )
    params = {**maker.params, "release": ID, "archive": archive, "static_directory": directory}
    with pytest.raises(Failure, match=f"^`collect` failed: .*/{link}: {link} is a link or a file, not a directory$"):
        Builder(params).build()


def test_a_link_within_the_release_is_kept(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maker, "plants", lambda static: (static / "x").symlink_to("../app.py"))
    maker.build()
    assert (maker.home / "releases" / ID / "static_root/x").read_text() == "x = 1\n"


def test_only_a_mark_of_roots_own_says_that_an_environment_is_whole(maker: Maker) -> None:
    maker.build()
    mark = next(maker.home.glob("venvs/*/.complete"))
    plants: list[Callable[[], None]] = [
        lambda: mark.symlink_to(maker.root / "other"),
        lambda: os.mkfifo(mark),
        lambda: os.link(maker.root / "other", mark),
    ]
    (maker.root / "other").touch()
    for plant in plants:
        mark.unlink()
        plant()
        again = Builder({**maker.params, "release": ID, "archive": None})
        again.mend()
        assert again.changed is True
        assert stat.S_ISREG(mark.lstat().st_mode)
        assert mark.stat().st_nlink == 1


def test_a_release_is_whole_while_there_is_nothing_to_do_for_it(maker: Maker) -> None:
    wish = {**maker.params, "release": ID}
    assert {key: state_of(wish)[key] for key in ("present", "whole", "active")} == {
        "present": False,
        "whole": False,
        "active": None,
    }
    maker.brings = ("gevent-1", "packaging-1", "gunicorn-1")
    maker.build()
    release, venv = maker.home / "releases" / ID, next(maker.home.glob("venvs/*"))
    assert (state_of(wish)["whole"], state_of(wish)["venv"]) == (True, str(venv))
    assert state_of({**wish, "worker_class": "gevent"})["whole"] is True
    (venv / "lib/python3.11/site-packages/gevent-1.dist-info").rmdir()
    assert state_of({**wish, "worker_class": "gevent"})["whole"] is False
    assert state_of({**wish, "gunicorn": "gunicorn==1"})["whole"] is False, "another environment is asked for"
    for shut in (release, maker.home, maker.home / "venvs"):
        shut.chmod(0o700)
        assert state_of(wish)["whole"] is False, shut
        shut.chmod(0o755)
    assert state_of(wish)["whole"] is True
    (venv / ".complete").unlink()
    assert state_of(wish)["whole"] is False


def packed(path: Path, *members: tuple[str, int, bytes | str]) -> str:
    """An archive of files, as mode and content, and of links, as 0 and target."""
    with tarfile.open(path, "w:gz") as tar:
        for name, mode, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = mode, 1_000_000_000
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return str(path)


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


def test_directories_that_a_umask_has_shut_are_opened(maker: Maker) -> None:
    maker.build()
    shut = [maker.home, maker.home / "releases", maker.home / "venvs", maker.home / "releases" / ID / "static_root"]
    for each in [*shut, maker.home / "releases" / ID]:
        each.chmod(0o700)
    arguments = {
        name: value for name, value in maker.params.items() if value is not None and name != "environment_file"
    }
    result = run_module("farrier_release", {**arguments, "release": ID})
    assert result["changed"] is True
    assert [oct(stat.S_IMODE(each.stat().st_mode)) for each in shut] == ["0o755"] * 4
    assert run_module("farrier_release", {**arguments, "release": ID})["changed"] is False


def test_check_mode_says_that_a_release_would_be_made(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "release": ID,
        "home": str(tmp_path),
        "user": "notes",
        "requirements": "r.txt",
        "gunicorn": "gunicorn",
    }
    arguments["sandbox"] = ["ProtectSystem=strict"]
    result = run_module("farrier_release", arguments, check=True)
    assert (result["changed"], result["present"], result["active"]) == (True, False, None)
    assert result["diff"]["after"] == f"release {ID}\n"
    assert names(tmp_path) == []


def test_a_command_runs_in_the_cell_with_its_own_path_and_no_expansion_by_systemd() -> None:
    call = farrier_command.call("python manage.py migrate $X", "/srv/r", "/srv/v", "/etc/e", ["User=notes"])
    assert shlex.join(call) == (
        "systemd-run --wait --pipe --collect --quiet --property=User=notes --property=WorkingDirectory=/srv/r "
        "--property=Environment=PATH=/srv/v/bin:/usr/local/bin:/usr/bin:/bin --property=EnvironmentFile=/etc/e "
        "-- /bin/sh -c 'python manage.py migrate $$X'"
    )


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of systemd-run, which is not run."""
    seen: list[list[str]] = []

    def run(command: list[str]) -> tuple[int, str]:
        seen.append(command)
        return 0, ""

    monkeypatch.setattr(farrier_cell, "run", run)
    return seen


def test_a_transient_service_gets_words_literally(systemd: list[list[str]]) -> None:
    as_user("notes", ["PrivateTmp=yes"], ["python", "-c", "print('$HOME')"])
    assert systemd[0][-1] == "print('$$HOME')"
    assert "--property=User=notes" in systemd[0]


def test_what_is_handed_to_pip_stands_on_no_command_line(systemd: list[list[str]]) -> None:
    as_user("notes", [], ["pip"], {"PIP_INDEX_URL": "https://robot:hush@example.org/simple"})
    assert "hush" not in repr(systemd)
    with handed({"A": 'x "$y" `z` \\', "B": "2"}) as (setting,):
        path = Path(setting.removeprefix("EnvironmentFile="))
        assert path.read_text() == 'A="x \\"\\$y\\" \\`z\\` \\\\"\nB="2"\n'
        assert oct(stat.S_IMODE(path.stat().st_mode)) == "0o600"
    assert not path.exists()


def test_a_failed_command_shows_the_end_of_what_it_said() -> None:
    status, said = farrier_cell.run(
        ["sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exit 3"]
    )
    assert status == 3
    assert end_of(said).splitlines() == [f"line {number}" for number in range(39960, 40000)]
    assert end_of("x" * 10_000) == "x" * 8000


def test_a_message_holds_no_control_characters_and_no_passwords() -> None:
    assert end_of("\x1b[31mred\x1b[0m\x07 \u202egnp\n\ttab") == "red\\x07 \\u202egnp\n\ttab"
    variables = {"PIP_EXTRA_INDEX_URL": "https://example.org/ https://robot:h%40sh@example.org/simple"}
    said = "ERROR: https://other:word@example.org/x, git+ssh://git@example.org/y, h%40sh and h@sh"
    assert end_of(said, variables) == "ERROR: https://***@example.org/x, git+ssh://***@example.org/y, *** and ***"


def test_pips_variables_come_from_the_play_and_from_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PIP_RETRIES": "2", "https_proxy": "http://a", "HOME": "/root"})
    assert of_pip(None) == {"PIP_RETRIES": "2", "https_proxy": "http://a"}
    assert of_pip('{"PIP_RETRIES": 0, "CFLAGS": "-O1"}') == {
        "PIP_RETRIES": "0",
        "https_proxy": "http://a",
        "CFLAGS": "-O1",
    }
    for wrong in ("[]", "{", '{"A B": "x"}', '"x"'):
        with pytest.raises(Failure, match=r"^pip_environment is not a mapping from names of environment variables"):
            of_pip(wrong)


def test_what_systemd_says_by_a_status_is_told() -> None:
    assert ended(3) == "it ended with status 3"
    assert ended(200) == (
        "it ended with status 200 (systemd could not start it; CHDIR: its working directory is missing or its user may not "
        "enter it)"
    )
