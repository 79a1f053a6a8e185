"""Writing a tree: whole or not at all, nowhere else, and never over what a person has changed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.generate.disk import Output

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
        f"{tmp_path}/playbooks/production.yml: was modified since Farrier wrote it; move the change to farrier.yml or "
        f"host_vars, or use --force, which keeps a copy"
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
    assert "was modified since Farrier wrote it" in refusal(tmp_path, FILES)
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
        assert "another `farrier generate` is running here" in refusal(tmp_path, FILES)
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
from farrier.generate.disk import Output
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
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "support"), *filter(None, sys.path)]),
    }
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


def foreign_journal(root: Path, renames: str) -> str:
    """What is said of a project that comes with a journal which Farrier did not write; the journal's own files are there."""
    journal = root / ".farrier/journal"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "0").write_text("foreign")
    (journal / "renames.json").write_text(renames)
    return refusal(root, FILES)


@pytest.mark.parametrize(
    "renames",
    [
        '{"precious": null}',
        '{"src/app.py": "0"}',
        '{"../precious": "0"}',
        '{"roles": null}',
        '{"roles/../precious": null}',
        '{"/etc/passwd": null}',
        '{"roles/x": "../../precious"}',
        '{"roles/x": "/etc/passwd"}',
        '{"roles/x": 0}',
        '{"roles/x": ["0"]}',
        '{"roles/x": "0", "": null}',
        "[]",
        "{",
        "[" * 100_000,
        '{"roles/\\u0000": "0"}',
    ],
)
def test_a_journal_that_farrier_did_not_write_moves_and_removes_nothing(tmp_path: Path, renames: str) -> None:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    for path in (tmp_path / "precious", root / "precious", root / "src/app.py"):
        path.write_text("mine")
    before = tree(tmp_path)
    assert foreign_journal(root, renames) == (
        f"{root}/.farrier/journal/renames.json: is damaged, or was not written by Farrier; delete {root}/.farrier/journal and "
        "generate again"
    )
    assert tree(tmp_path) == before


def test_a_journal_touches_nothing_when_one_of_its_paths_leads_through_a_link(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "project"
    for directory in (elsewhere, root / "playbooks"):
        directory.mkdir(parents=True)
    (elsewhere / "x").write_text("mine")
    (root / "playbooks/a.yml").write_text("mine")
    (root / "roles").symlink_to(elsewhere)
    said = foreign_journal(root, '{"playbooks/a.yml": null, "roles/x": null, "roles/y": "0"}')
    assert said == f"{root}/roles: is a symbolic link, which Farrier does not write through; remove it"
    assert (elsewhere / "x").read_text() == (root / "playbooks/a.yml").read_text() == "mine"
    assert [path.name for path in elsewhere.iterdir()] == ["x"]


@pytest.mark.parametrize("link", [".farrier/journal", ".farrier/journal/renames.json"])
def test_a_journal_is_not_read_through_a_link(tmp_path: Path, link: str) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "project"
    elsewhere.mkdir()
    (elsewhere / "0").write_text("mine")
    (elsewhere / "renames.json").write_text('{"roles/x": "0"}')
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere if link.endswith("journal") else elsewhere / "renames.json")
    assert refusal(root, FILES) == f"{root / link}: is a symbolic link, which Farrier does not write through; remove it"
    assert (elsewhere / "0").read_text() == "mine"


def test_a_staged_file_that_is_a_link_is_not_moved(tmp_path: Path) -> None:
    """It would make the place a link to what it names."""
    root = tmp_path / "project"
    (root / ".farrier/journal").mkdir(parents=True)
    (root / ".farrier/journal/0").symlink_to("/etc/hostname")
    (root / ".farrier/journal/renames.json").write_text('{"roles/x": "0"}')
    write(root, FILES)
    assert tree(root) == FILES


ZEROS = "0" * 64


@pytest.mark.parametrize(
    "manifest",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"src/app.py": "sha256:%s"}' % ("0" * 64),
        '{"roles": "sha256:%s"}' % ("0" * 64),
        '{"roles/x": 1}',
        '{"roles/x": "x"}',
        json.dumps({"roles/x": f"sha256:{ZEROS}", "../y": f"sha256:{ZEROS}"}),
    ],
)
@pytest.mark.parametrize("name", ["production", "other"])
def test_a_manifest_that_farrier_did_not_write_is_refused(tmp_path: Path, manifest: str, name: str) -> None:
    """The environment's own, and another one's."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/app.py").write_text("mine")
    (tmp_path / ".farrier").mkdir()
    (tmp_path / f".farrier/{name}.json").write_text(manifest)
    assert refusal(tmp_path, FILES) == (
        f"{tmp_path}/.farrier/{name}.json: is damaged; restore it from git, or delete it and run `farrier generate --force`"
    )
    assert tree(tmp_path) == {"src/app.py": b"mine"}


def test_what_is_no_file_is_not_waited_for_or_read(tmp_path: Path) -> None:
    (tmp_path / "playbooks").mkdir()
    os.mkfifo(tmp_path / "playbooks/production.yml")
    place = f"{tmp_path}/playbooks/production.yml: cannot be read as a file: "
    assert refusal(tmp_path, FILES) == f"{place}Not a regular file"
    (tmp_path / "playbooks/production.yml").unlink()
    with (tmp_path / "playbooks/production.yml").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(tmp_path, FILES) == f"{place}larger than 16777216 bytes"


def test_a_kept_copy_is_not_written_through_a_link(tmp_path: Path) -> None:
    root = tmp_path / "project"
    write(root, FILES)
    (root / "playbooks/production.yml").write_text("edited")
    (root / "playbooks/production.yml.kept").symlink_to(tmp_path / "elsewhere")
    assert write(root, FILES, force=True) == ["playbooks/production.yml.kept.2"]
    assert not (tmp_path / "elsewhere").exists()
