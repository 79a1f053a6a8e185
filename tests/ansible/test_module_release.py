"""farrier_release makes a release aside and brings it into place whole; what is in use is never pruned."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.farrier_archive import date_by_content
from ansible.module_utils.farrier_host import Failure
from ansible.module_utils.farrier_venv import state_of

from building import ID, Maker, names, packed
from farrier.ansible.modules.farrier_release import Builder
from module_runner import run_module

pytestmark = pytest.mark.programs


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
