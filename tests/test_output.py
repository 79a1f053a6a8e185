"""Writing a tree: whole or not at all, nowhere else, and never over what a person has changed."""

import os
import signal
import subprocess
import sys
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


OLD = {f"roles/notes/{i}/main.yml": b"old" * 2000 for i in range(8)} | {"roles/notes/9/gone.yml": b"old"}
NEW = {f"roles/notes/{i}/main.yml": b"new" * 2000 for i in range(4, 12)}
# Writes NEW over OLD and sends itself a signal just before its n-th change to the disk; a child for each n, in a tree of its own.
INTERRUPTED = """
import os, sys
from itertools import count
from pathlib import Path
from farrier.output import Output
from test_output import NEW, OLD, write

CHANGES = {"os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
directory, sent = Path(sys.argv[1]), int(sys.argv[2])

def is_change(event, arguments):
    return event in CHANGES or event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT

def interrupted(root, last):
    changes = count(1)
    def at_each_change(event, arguments):
        if is_change(event, arguments) and next(changes) == last:
            os.kill(os.getpid(), sent)
    sys.addaudithook(at_each_change)
    try:
        write(root, NEW)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0 if next(changes) > last else 1)

for last in count(1):
    root = directory / str(last)
    write(root, OLD)
    child = os.fork() or interrupted(root, last)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(last, status, flush=True)
    if status == 1:  # there are no more changes
        break
"""


def interrupted(directory: Path, sent: signal.Signals) -> dict[Path, int]:
    """Trees of runs that were interrupted, each a change later than the one before, with the runs' exit codes."""
    command = [sys.executable, "-c", INTERRUPTED, str(directory), str(sent.value)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    found = [line.split() for line in said.splitlines()]
    assert found.pop()[1] == "1"
    return {directory / number: int(status) for number, status in found}


def finds(root: Path) -> str:
    """Which of the two trees is on the disk."""
    found = tree(root)
    return "old" if found == OLD else "new" if found == NEW else "a mixture"


def test_an_interrupted_run_leaves_the_old_tree_or_the_new(tmp_path: Path) -> None:
    """Killed before each of its changes to the disk; the next run finishes or drops what was staged."""
    runs, mixed, found = interrupted(tmp_path, signal.SIGKILL), 0, []
    assert set(runs.values()) == {-signal.SIGKILL}
    for root in runs:
        mixed += finds(root) == "a mixture"
        with Output(root, "production").locked(write=True):
            pass  # what every next command does first
        found.append(finds(root))
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True), "from one change on it is the new one"
    assert mixed > len(NEW), "runs were killed between their renames"


def test_ctrl_c_waits_for_the_renames(tmp_path: Path) -> None:
    runs = interrupted(tmp_path, signal.SIGINT)
    assert {finds(root) for root in runs} == {"old", "new"}
    assert 130 in runs.values()
    assert not [path for path in tmp_path.rglob("*") if path.name == "journal"]


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
