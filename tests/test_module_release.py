"""farrier_release makes a release aside and brings it into place whole; what is in use is never pruned."""

import json
import os
import shlex
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.farrier_play import Failure

from farrier.modules import farrier_command, farrier_release
from farrier.modules.farrier_release import Builder, date_by_content, requirement_files, venv_key
from module_runner import run_module

pytestmark = pytest.mark.programs

ID = "0123456789ab"


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


class Maker:
    """Builds releases below a temporary home; systemd-run, venv and pip are played by a few lines."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home = root, root / "srv"
        self.calls: list[list[str]] = []
        self.fails = ""
        self.brings: tuple[str, ...] = ()
        monkeypatch.setattr(farrier_release, "as_user", self.as_user)
        monkeypatch.setattr(farrier_release, "give", lambda *_args, **_kw: None)
        for name in ("releases", "venvs"):
            (self.home / name).mkdir(parents=True)
        self.params: dict[str, Any] = {
            "home": str(self.home),
            "user": "notes",
            "python": sys.executable,
            "requirements": "requirements.txt",
            "gunicorn": "gunicorn==27.0.1",
            "worker_class": None,
            "static_directory": "static_root",
            "static_command": "collect",
            "environment_file": "/etc/notes/environment",
            "sandbox": ["ProtectSystem=strict"],
            "keep": 3,
            "commit": "v1",
        }

    def as_user(self, user: str, properties: list[str], command: list[str]) -> str:
        assert user == "notes"
        self.calls.append(command)
        if self.fails and self.fails in " ".join(command):
            raise Failure("no index in reach")
        if "venv" in command:
            python = Path(command[-1], "bin/python")
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
            for each in self.brings:
                Path(command[-1], f"lib/python3.11/site-packages/{each}.dist-info").mkdir(parents=True)
        if "collect" in command:
            where = next(each for each in properties if each.startswith("WorkingDirectory=")).partition("=")[2]
            Path(where, "static_root/style.css").write_text("a { color: red }\n")
        return ""

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
    assert (maker.home / "venvs" / facts["venv"] / ".complete").exists()
    assert (release / "static_root/style.css").exists()
    assert list(release.glob("__pycache__/app.*.pyc"))
    assert builder.changed is True
    assert list(builder.seconds) == ["unpack", "venv", "pip", "gunicorn", "static", "compile"]
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_finished_tree_can_be_read_by_all_and_written_by_none_but_root(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("x")
    (tmp_path / "run.sh").write_text("x")
    (tmp_path / "run.sh").chmod(0o4770)
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("/etc/shadow")
    before = Path("/etc/shadow").stat().st_mode
    farrier_release.give(str(tmp_path), "root", read_only=True)
    modes = {name: stat.S_IMODE((tmp_path / name).lstat().st_mode) for name in ("app.py", "run.sh", "private")}
    assert modes == {"app.py": 0o644, "run.sh": 0o755, "private": 0o755}
    assert Path("/etc/shadow").stat().st_mode == before


def test_check_mode_says_that_a_release_would_be_made(tmp_path: Path) -> None:
    arguments = {"release": ID, "home": str(tmp_path), "user": "notes", "requirements": "r.txt", "gunicorn": "gunicorn"}
    result = run_module("farrier_release", arguments, check=True)
    assert (result["changed"], result["present"], result["active"]) == (True, False, None)
    assert result["diff"]["after"] == f"release {ID}\n"
    assert names(tmp_path) == []


def test_a_command_runs_in_the_cell_with_its_own_path_and_no_expansion_by_systemd() -> None:
    call = farrier_command.transient("python manage.py migrate $X", "/srv/r", "/srv/v", "/etc/e", ["User=notes"])
    assert shlex.join(call) == (
        "systemd-run --wait --pipe --collect --quiet --property=User=notes --property=WorkingDirectory=/srv/r "
        "--property=Environment=PATH=/srv/v/bin:/usr/local/bin:/usr/bin:/bin --property=EnvironmentFile=/etc/e "
        "-- /bin/sh -c 'python manage.py migrate $$X'"
    )


def test_a_transient_service_gets_words_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(farrier_release, "run", seen.append)
    farrier_release.as_user("notes", ["PrivateTmp=yes"], ["python", "-c", "print('$HOME')"])
    assert seen[0][-1] == "print('$$HOME')"
    assert "--property=User=notes" in seen[0]


def test_a_failed_command_shows_its_last_lines() -> None:
    lines = "; ".join(f"echo line {number}" for number in range(60))
    with pytest.raises(Failure) as caught:
        farrier_release.run(["sh", "-c", f"{lines}; exit 3"])
    assert str(caught.value).splitlines()[0] == "line 20"
