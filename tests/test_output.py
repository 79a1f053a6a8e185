"""Writing a tree: whole or not at all, nowhere else, and never over what a person has changed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.output import Output

FILES = {
    "roles/notes/tasks/main.yml": b"a\n",
    "playbooks/production.yml": b"b\n",
    "molecule/shared/host.py": b"#!x\n",
}


def write(root: Path, files: dict[str, bytes], environment: str = "production", *, force: bool = False) -> list[str]:
    output = Output(root, environment)
    with output.locked(write=True):
        return output.write(files, output.compare(files), force=force)


def tree(root: Path) -> dict[str, bytes]:
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and ".farrier" not in p.parts
    }


def refusal(root: Path, files: dict[str, bytes]) -> str:
    with pytest.raises(InputError) as caught:
        write(root, files)
    return "\n".join(caught.value.messages)


def test_a_tree_is_written_and_then_nothing_changes(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    assert tree(tmp_path) == FILES
    assert not Output(tmp_path, "production").compare(FILES)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    write(tmp_path, FILES)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


def test_scripts_are_executable_and_other_files_are_not(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    assert (tmp_path / "molecule/shared/host.py").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "playbooks/production.yml").stat().st_mode & 0o777 == 0o644


def test_what_is_no_longer_generated_goes_with_its_empty_directories(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    write(tmp_path, {"playbooks/production.yml": b"b\n"})
    assert tree(tmp_path) == {"playbooks/production.yml": b"b\n"}
    assert not (tmp_path / "roles").exists()


def test_files_of_people_beside_generated_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "roles/notes/tasks/own.yml").write_text("mine")
    write(tmp_path, {"playbooks/production.yml": b"b\n"})
    assert tree(tmp_path)["roles/notes/tasks/own.yml"] == b"mine"


def test_a_persons_change_is_named_and_kept(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "playbooks/production.yml").write_text("edited")
    changed = {**FILES, "playbooks/production.yml": b"new\n"}
    assert refusal(tmp_path, changed) == (
        f"{tmp_path}/playbooks/production.yml: was changed since Farrier wrote it; move the change to farrier.yml or "
        f"host_vars, or "
        "run with --force, which keeps a copy"
    )
    assert (tmp_path / "playbooks/production.yml").read_text() == "edited"
    assert write(tmp_path, changed, force=True) == ["playbooks/production.yml.kept"]
    assert (tmp_path / "playbooks/production.yml.kept").read_text() == "edited"
    assert (tmp_path / "playbooks/production.yml").read_text() == "new\n"


def test_two_kept_copies_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path, FILES, force=True)
        (tmp_path / "playbooks/production.yml").write_text(text)
    assert write(tmp_path, FILES, force=True) == ["playbooks/production.yml.kept.2"]
    assert (tmp_path / "playbooks/production.yml.kept").read_text() == "one"
    assert (tmp_path / "playbooks/production.yml.kept.2").read_text() == "two"


def test_a_file_that_was_there_before_farrier_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks/production.yml").write_text("mine")
    assert "was changed since Farrier wrote it" in refusal(tmp_path, FILES)
    assert tree(tmp_path) == {"playbooks/production.yml": b"mine"}


def test_a_file_shared_by_two_environments_belongs_to_both(tmp_path: Path) -> None:
    write(tmp_path, {"molecule/shared/host.py": b"1"}, "staging")
    write(tmp_path, {"molecule/shared/host.py": b"2"}, "production")
    write(tmp_path, {}, "production")
    assert tree(tmp_path) == {"molecule/shared/host.py": b"2"}, "staging still lists it"


@pytest.mark.parametrize("link", ["roles", "roles/notes", "roles/notes/tasks/main.yml", ".farrier"])
def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "project"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)
    assert f"{root / link}: is a symbolic link" in refusal(root, FILES)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "roles/../../outside", "", "a\0b"])
def test_nothing_is_written_outside(tmp_path: Path, path: str) -> None:
    assert "is outside the project and is not written" in refusal(tmp_path / "project", {path: b"x"})
    assert not (tmp_path / "outside").exists()


def test_a_directory_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "playbooks/production.yml").mkdir(parents=True)
    assert refusal(tmp_path, FILES) == f"{tmp_path}/playbooks/production.yml: cannot be read as a file: Is a directory"
    assert tree(tmp_path) == {}


def test_a_file_where_a_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "roles").write_text("x")
    assert "cannot be read as a file: Not a directory" in refusal(tmp_path, FILES)
    assert tree(tmp_path) == {"roles": b"x"}


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    assert "cannot be written" in refusal(Path("/proc/farrier"), FILES)


def test_a_damaged_manifest_is_said(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / ".farrier/production.json").write_text("{")
    assert "is damaged; restore it from git" in refusal(tmp_path, FILES)
    (tmp_path / ".farrier/production.json").write_text('{"../../etc/passwd": "x"}')
    assert "is damaged" in refusal(tmp_path, FILES)


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    with Output(tmp_path, "staging").locked(write=True):
        assert "another `farrier generate` is writing here" in refusal(tmp_path, FILES)
    assert tree(tmp_path) == {}


def test_a_journal_that_was_complete_is_carried_out(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    journal = tmp_path / ".farrier/journal"
    journal.mkdir()
    (journal / "0").write_bytes(b"new")
    (journal / "renames.json").write_text('{"playbooks/production.yml": "0", "roles/notes/tasks/main.yml": null}')
    with Output(tmp_path, "staging").locked(write=True):
        pass
    assert tree(tmp_path) == {"playbooks/production.yml": b"new", "molecule/shared/host.py": b"#!x\n"}
    assert not journal.exists()


def test_a_journal_that_was_not_complete_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / ".farrier/journal").mkdir()
    (tmp_path / ".farrier/journal/0").write_bytes(b"half")
    write(tmp_path, FILES)
    assert tree(tmp_path) == FILES


WRITER = """
import sys
from pathlib import Path
from farrier.output import Output
root, mark = Path(sys.argv[1]), sys.argv[2].encode()
files = {f"roles/notes/{i}/main.yml": mark * 2000 for i in range(60)}
output = Output(root, "production")
with output.locked(write=True):
    changes = output.compare(files)
    print("go", flush=True)
    output.write(files, changes, force=False)
"""


def test_an_interrupted_run_leaves_the_old_tree_or_the_new(tmp_path: Path) -> None:
    """Killed at 40 moments spread over the write; the next run finishes or drops what was staged."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, "0"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    started = time.monotonic()
    process.wait()
    duration = time.monotonic() - started
    states = set()
    for attempt in range(40):
        mark = str(attempt % 10)
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, mark], stdout=subprocess.PIPE)
        assert process.stdout
        process.stdout.readline()
        time.sleep(duration * attempt / 25)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Output(tmp_path, "production").locked(write=True):
            pass  # what every next command does first
        contents = set(tree(tmp_path).values())
        assert len(contents) == 1, f"attempt {attempt} left a mixture"
        states.add(contents.pop()[:1])
    assert len(states) > 1, "some runs were killed before, some after the change"


def test_ctrl_c_waits_for_the_renames(tmp_path: Path) -> None:
    for attempt in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(attempt)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(attempt * 0.003)
        process.send_signal(signal.SIGINT)
        process.communicate()
        contents = set(tree(tmp_path).values())
        assert len(contents) <= 1, "a mixture is on the disk"
        assert not any(p.name == "renames.json" for p in (tmp_path / ".farrier").rglob("*"))


def test_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)  # root may write anywhere; nobody may not
    try:
        with pytest.raises(InputError, match="cannot be written: Permission denied"):
            write(tmp_path, FILES)
    finally:
        os.seteuid(own)
    assert tree(tmp_path) == {}
