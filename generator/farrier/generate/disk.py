"""Puts a generated tree on disk: compared, shown, and written whole or not at all.

The manifest `.farrier/<environment>.json` records the hash of every file written, so that a file which a person has
changed since is recognised. New contents are staged first and a journal is written; only then are files renamed into
place, so an interruption leaves the old tree, or one that the next command finishes from the journal.
"""

import difflib
import fcntl
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from farrier.errors import InputError
from farrier.files import (
    STATE,
    document,
    is_file,
    is_hash,
    is_inside,
    is_staged,
    is_written,
    json_document,
    read_file,
    unlinked,
)
from farrier.wording import shown


@dataclass(frozen=True)
class Changes:
    """What writing would do, paths relative to the root; `foreign` files were created or modified by hand."""

    written: Mapping[str, bytes]
    removed: tuple[str, ...]
    foreign: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.written or self.removed)


class Output:
    """The tree of one environment below `root`."""

    def __init__(self, root: Path, environment: str) -> None:
        self.root = root
        self.manifest = f"{STATE}/{environment}.json"

    @cached_property
    def _others(self) -> list[dict[str, str]]:
        """The other environments' records; they may share files with this one."""
        own = self.root / self.manifest
        return [self._recorded(path) for path in sorted((self.root / STATE).glob("*.json")) if path != own]

    def compare(self, files: Mapping[str, bytes]) -> Changes:
        """How the disk differs from `files`.

        Raises:
            InputError: a path leads through a symbolic link, or is something else than a file.
        """
        recorded = self._recorded(self.root / self.manifest)
        shared = {path for other in self._others for path in other}
        written: dict[str, bytes] = {}
        removed: list[str] = []
        foreign: list[str] = []
        for path in [*files, *sorted(set(recorded) - set(files) - shared)]:
            current, content = self._read(path), files.get(path)
            if current == content:
                continue
            if content is None:
                removed.append(path)
            else:
                written[path] = content
            if current is not None and not self._is_own(path, current, recorded):
                foreign.append(path)
        return Changes(written, tuple(removed), tuple(sorted(foreign)))

    def diff(self, changes: Changes) -> Iterator[str]:
        """The changes as a unified diff, line by line without line endings."""
        for path in sorted({*changes.written, *changes.removed}):
            old = self._read(path)
            new = changes.written.get(path)
            yield from difflib.unified_diff(
                (old or b"").decode(errors="replace").splitlines(),
                (new or b"").decode(errors="replace").splitlines(),
                "/dev/null" if old is None else f"a/{path}",
                "/dev/null" if new is None else f"b/{path}",
                lineterm="",
            )

    def write(self, files: Mapping[str, bytes], changes: Changes, *, force: bool) -> list[str]:
        """Make the disk equal to `files`; returns the copies kept of files modified by hand.

        Raises:
            InputError: a person's changes would be lost and `force` is not set, or a directory cannot be written.
        """
        if changes.foreign and not force:
            raise InputError(
                *(
                    f"{self.root / path}: was modified since Farrier wrote it; move the change to farrier.yml or "
                    "host_vars, or use --force, which keeps a copy"
                    for path in changes.foreign
                )
            )
        manifest = json_document({path: _hash(content) for path, content in sorted(files.items())})
        staged = dict(changes.written)
        if self._read(self.manifest) != manifest:
            staged[self.manifest] = manifest
        kept = [self._keep(path) for path in changes.foreign]
        if staged or changes.removed:
            self._commit(staged, changes.removed)
        return kept

    @contextmanager
    def locked(self, *, write: bool) -> Iterator[None]:
        """Lock the tree against other runs, and finish or discard an interrupted one; a reader changes nothing."""
        handle = None
        try:
            lock = self._target(STATE)
            if write:
                lock.mkdir(parents=True, exist_ok=True)
                handle = os.open(lock, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._finish_interrupted()
            yield
        except BlockingIOError:
            raise InputError(
                f"{self.root}: another `farrier generate` is running here; try again when it is done"
            ) from None
        except OSError as error:
            raise InputError(f"{error.filename or self.root}: cannot be written: {error.strerror}") from None
        finally:
            if handle is not None:
                os.close(handle)

    def _finish_interrupted(self) -> None:
        """Finish what an interrupted run had staged completely, and discard the rest."""
        name = f"{STATE}/journal"
        directory = self._target(name)
        if (content := self._read(f"{name}/renames.json")) is not None:
            renames = document(content)
            if not all(is_written(path) and is_staged(number) for path, number in renames.items()):
                raise InputError(
                    f"{directory / 'renames.json'}: is damaged, or was not written by Farrier; delete {directory} and "
                    "generate again"
                )
            self._apply(renames)
        if directory.is_dir():
            shutil.rmtree(directory)

    def _commit(self, staged: Mapping[str, bytes], removed: tuple[str, ...]) -> None:
        directory = self._target(f"{STATE}/journal")
        directory.mkdir(parents=True)
        renames: dict[str, str | None] = dict.fromkeys(removed)
        try:
            for i, (path, content) in enumerate(staged.items()):
                (directory / str(i)).write_bytes(content)
                (directory / str(i)).chmod(0o755 if content.startswith(b"#!") else 0o644)
                renames[path] = str(i)
            for path in staged:
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                if not os.access((self.root / path).parent, os.W_OK):
                    raise PermissionError(13, "Permission denied", str((self.root / path).parent))
        except BaseException:
            shutil.rmtree(directory)
            raise
        with _uninterrupted():
            partial = directory / "renames.part"
            partial.write_bytes(json_document(renames))
            partial.replace(directory / "renames.json")
            self._apply(renames)
            shutil.rmtree(directory)

    def _apply(self, renames: Mapping[str, str | None]) -> None:
        directory = self._target(f"{STATE}/journal")
        targets = {path: self._target(path) for path in renames}  # none is touched if any is refused
        for path, number in renames.items():
            target = targets[path]
            if number is None:
                target.unlink(missing_ok=True)
                _remove_empty(target.parent, self.root)
            elif is_file(directory / number):
                target.parent.mkdir(parents=True, exist_ok=True)
                (directory / number).replace(target)

    def _keep(self, path: str) -> str:
        """Keep a copy of a file modified by hand before it is overwritten: `<name>.kept`, `<name>.kept.2`, ..."""
        source = self._target(path)
        kept = source.with_name(f"{source.name}.kept")
        number = 1
        while os.path.lexists(kept):
            number += 1
            kept = source.with_name(f"{source.name}.kept.{number}")
        shutil.copy2(source, kept, follow_symlinks=False)
        return kept.relative_to(self.root).as_posix()

    def _is_own(self, path: str, current: bytes, recorded: Mapping[str, str]) -> bool:
        """Whether Farrier wrote these contents, for this environment or for one that shares the file."""
        written = _hash(current)
        return any(record.get(path) == written for record in (recorded, *self._others))

    def _recorded(self, manifest: Path) -> dict[str, str]:
        content = self._read(manifest.relative_to(self.root).as_posix())
        if content is None:
            return {}
        recorded = document(content)
        if not all(is_written(path) and is_hash(value) for path, value in recorded.items()):
            raise InputError(
                f"{manifest}: is damaged; restore it from git, or delete it and run `farrier generate --force`"
            )
        return recorded

    def _target(self, path: str) -> Path:
        """The location of `path`; refused if any part below the root is a symbolic link."""
        if not is_inside(path):
            raise InputError(f"{shown(path)} is outside the project and is not written")
        return unlinked(self.root, path)

    def _read(self, path: str) -> bytes | None:
        return read_file(self._target(path))


def _hash(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _remove_empty(directory: Path, root: Path) -> None:
    """Also removes directories that became empty, up to the root."""
    while directory != root:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the renames are done."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
