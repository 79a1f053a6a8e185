"""farrier_files brings a set of files into place: whole, validated, atomic, and made good after an interruption."""

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from module_runner import run_module

ME = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def bring(files: list[dict[str, Any]], *, check: bool = False, **options: Any) -> dict[str, Any]:
    mine = [{**ME, **entry} if "content" in entry else entry for entry in files]
    return run_module("farrier_files", {"files": mine, **options}, check=check)


def test_files_links_and_absences_come_into_place_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("away with it")
    files = [
        {"path": f"{tmp_path}/etc/app/conf", "content": "workers = 3\n", "mode": "0600"},
        {"path": f"{tmp_path}/enabled/app", "link": "../etc/app/conf"},
        {"path": f"{tmp_path}/old", "state": "absent"},
    ]
    result = bring(files)
    assert result["changed"] is True
    assert result["changed_paths"] == [f"{tmp_path}/etc/app/conf", f"{tmp_path}/enabled/app", f"{tmp_path}/old"]
    assert (tmp_path / "enabled/app").read_text() == "workers = 3\n"
    assert (tmp_path / "etc/app/conf").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "old").exists()

    again = bring(files)
    assert again["changed"] is False
    assert again["changed_paths"] == []
    assert again["diff"] == []
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["app", "app", "conf", "enabled", "etc"]


def test_a_mode_alone_is_a_change(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/key", "content": "x", "mode": "0600"}
    bring([entry])
    (tmp_path / "key").chmod(0o644)
    result = bring([entry])
    assert result["changed_paths"] == [f"{tmp_path}/key"]
    assert result["diff"][0]["before_header"].startswith(f"{tmp_path}/key (0644 ")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_link_gives_way_to_a_file_and_its_target_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("keep me")
    (tmp_path / "conf").symlink_to("target")
    bring([{"path": f"{tmp_path}/conf", "content": "new"}])
    assert not (tmp_path / "conf").is_symlink()
    assert (tmp_path / "target").read_text() == "keep me"


def test_check_mode_needs_nothing_and_changes_nothing(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/no/such/place", "content": "text\n", "owner": "nobody-yet", "group": "nobody-yet"}
    result = bring([entry], check=True, validate=["false"], apply=["false"], pending=f"{tmp_path}/pending")
    assert result["changed"] is True
    assert result["diff"][0]["before"] == ""
    assert result["diff"][0]["after"] == "text\n"
    assert list(tmp_path.iterdir()) == []


def test_a_sensitive_file_is_never_shown(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/environment", "content": 'KEY="one"\n', "sensitive": True}
    bring([entry])
    result = bring([{**entry, "content": 'KEY="two"\n'}], check=True)
    assert result["changed"] is True
    assert "one" not in str(result["diff"])
    assert "two" not in str(result["diff"])


def test_a_sensitive_file_is_not_among_the_arguments_that_ansible_shows(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/environment", "content": 'KEY="of-a-secret"\n', "sensitive": True}
    assert "of-a-secret" not in str(bring([entry]))


@pytest.mark.parametrize("mask", [0o077, 0o027])
def test_directories_and_files_are_as_asked_for_whatever_the_umask_is(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        bring([{"path": f"{tmp_path}/etc/app/conf", "content": "x"}, {"path": f"{tmp_path}/on/app", "link": "../x"}])
    finally:
        os.umask(before)
    found = {path: (tmp_path / path).stat().st_mode & 0o777 for path in ("etc", "etc/app", "etc/app/conf", "on")}
    assert found == {"etc": 0o755, "etc/app": 0o755, "etc/app/conf": 0o644, "on": 0o755}


def test_a_file_that_somebody_edited_is_kept_once(tmp_path: Path) -> None:
    conf, kept = tmp_path / "nginx.conf", tmp_path / "nginx.conf.before"
    entry = {"path": str(conf), "content": "# Written by Ansible for notes.\n", "backup": str(kept)}
    conf.write_text("worked on for years")
    conf.chmod(0o640)
    result = bring([entry])
    assert kept.read_text() == "worked on for years"
    assert kept.stat().st_mode & 0o777 == 0o640
    assert f"{conf} was edited on this host and has been replaced; the edited version is kept as {kept}." in str(
        result["warnings"]
    )

    conf.write_text("edited again")
    assert "warnings" not in bring([entry])
    assert kept.read_text() == "worked on for years", "the first copy is the one that nobody can make anew"


def test_what_a_role_wrote_is_not_kept(tmp_path: Path) -> None:
    conf, kept = tmp_path / "nginx.conf", tmp_path / "nginx.conf.before"
    conf.write_text("# Written by Ansible for notes, earlier.\n")
    bring([{"path": str(conf), "content": "# Written by Ansible for notes.\n", "backup": str(kept)}])
    assert not kept.exists()


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "conf")
    result = bring([{"path": f"{tmp_path}/conf", "content": "x"}])
    assert result["msg"] == f"{tmp_path}/conf: is a directory or device"


def test_a_refused_set_leaves_the_old_one_in_place(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("good")
    files = [
        {"path": f"{tmp_path}/kept", "content": "bogus;"},
        {"path": f"{tmp_path}/new", "content": "more"},
        {"path": f"{tmp_path}/link", "link": "new"},
    ]
    validator = ["sh", "-c", f"cat {tmp_path}/kept {tmp_path}/link >&2; exit 1"]
    result = bring(files, validate=validator, pending=f"{tmp_path}/pending")
    assert result["failed"] is True
    assert result["msg"] == "The new files were rejected; the old ones are back in place: bogus;more"
    assert (tmp_path / "kept").read_text() == "good"
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_a_file_that_cannot_be_written_takes_the_others_back(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("old")
    (tmp_path / "blocked").write_text("a file, not a directory")
    files = [
        {"path": f"{tmp_path}/first", "content": "new"},
        {"path": f"{tmp_path}/blocked/second", "content": "new"},
    ]
    result = bring(files)
    assert result["failed"] is True
    assert "blocked" in result["msg"]
    assert (tmp_path / "first").read_text() == "old"


def test_a_missing_validator_is_named(tmp_path: Path) -> None:
    result = bring([{"path": f"{tmp_path}/a", "content": "x"}], validate=["no-such-validator"])
    assert result["msg"].endswith("no-such-validator: No such file or directory")
    assert not (tmp_path / "a").exists()


def test_validator_and_apply_run_only_when_something_changed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options: dict[str, Any] = {
        "validate": ["sh", "-c", f"echo validated >> {log}"],
        "apply": ["sh", "-c", f"echo applied >> {log}"],
        "pending": f"{tmp_path}/pending",
    }
    entry = {"path": f"{tmp_path}/conf", "content": "1"}
    assert bring([entry], **options)["changed"] is True
    assert bring([entry], **options)["changed"] is False
    assert log.read_text() == "validated\napplied\n"
    assert not (tmp_path / "pending").exists()


def test_what_was_not_applied_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    entry = {"path": f"{tmp_path}/conf", "content": "1"}
    pending = f"{tmp_path}/pending"
    failed = bring([entry], apply=["sh", "-c", "echo no reload; exit 1"], pending=pending)
    assert failed["msg"] == "The new files are in place but not in use: no reload"
    assert (tmp_path / "conf").read_text() == "1"

    assert bring([entry], check=True, apply=["true"], pending=pending)["changed"] is True
    assert bring([entry], apply=["true"], pending=pending)["changed"] is True
    assert bring([entry], apply=["true"], pending=pending)["changed"] is False


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "etc/conf", "content": "x"}, "etc/conf: the path must be absolute"),
        ({"path": "/etc/x-y"}, "/etc/x-y: give either content or link"),
        ({"path": "/etc/x-y", "content": "x", "link": "y"}, "/etc/x-y: give either content or link"),
        ({"path": "/etc/x-y", "content": "x", "mode": "rw"}, "/etc/x-y: mode 'rw' is not an octal number such as 0644"),
        ({"path": "/etc", "content": "x"}, "/etc: is a directory or device"),
    ],
)
def test_a_mistaken_entry_is_refused_in_one_line(entry: dict[str, Any], message: str) -> None:
    assert bring([entry])["msg"] == message
