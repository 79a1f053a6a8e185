"""Files below a directory that the application, its dependencies or its user may write to.

Root opens them here and nowhere else: no link is followed, no FIFO or device is opened for long, nothing that belongs to
somebody else changes hands, and no more is read than the caller expects. A path is a trusted top, opened as it is, and a
relative path below it, of which every part is opened by itself without following links (openat(2), O_NOFOLLOW).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
from typing import IO, Any, Callable, Iterator

LARGEST_DOCUMENT = 1 << 20
"""Bytes of a file of ours that somebody else could have written; real ones have a few hundred."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Refused(OSError):
    """Something lies below the directory that is not ours to use, in words for the operator."""


def parts(relative: str) -> list[str]:
    """The parts of a relative path; Refused when it is absolute or climbs."""
    found = [part for part in relative.split("/") if part not in ("", ".")]
    if relative.startswith("/") or ".." in found:
        raise Refused(f"{relative}: leads out of the directory")
    return found


@contextlib.contextmanager
def directory(top: str, relative: str = "") -> Iterator[int]:
    """A file descriptor of the directory `relative` below `top`, reached without following a link; OSError."""
    fd = os.open(top, _DIRECTORY)
    try:
        for part in parts(relative):
            try:
                below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except NotADirectoryError:
                raise Refused(f"{os.path.join(top, relative)}: {part} is a link or a file, not a directory") from None
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def make_directory(top: str, relative: str, mode: int = 0o755) -> None:
    """Make a directory below `top` with those above it, whatever the umask is; Refused where a link is in the way."""
    made = ""
    for part in parts(relative):
        with directory(top, made) as above, contextlib.suppress(FileExistsError):
            os.mkdir(part, mode, dir_fd=above)
            os.chmod(part, mode, dir_fd=above)
        made = os.path.join(made, part)
    with directory(top, made):
        pass


def regular(fd: int, name: str) -> int:
    """A descriptor of the regular file `name` in a directory, to read; Refused for a link, FIFO, socket or device."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Refused(f"{name}: not a regular file ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Refused(f"{name}: not a regular file")
    return file


def read(top: str, relative: str, most: int = LARGEST_DOCUMENT) -> bytes:
    """The content of a regular file below `top`; Refused when it is more than `most` bytes, OSError when it is missing."""
    above, _, name = relative.rpartition("/")
    with directory(top, above) as fd, os.fdopen(regular(fd, name), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Refused(f"{os.path.join(top, relative)}: larger than the {most} bytes that it may have")
    return content


def read_json(top: str, relative: str, most: int = LARGEST_DOCUMENT) -> dict[str, Any]:
    """A JSON object from a file below `top`; empty when there is none that can be used."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read(top, relative, most))
        if isinstance(found, dict):
            return found
    return {}


def create(fd: int, name: str) -> IO[bytes]:
    """A new file in a directory, to write; nobody else may read it until it is given other permissions."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(name, flags, 0o600, dir_fd=fd), "wb")


@contextlib.contextmanager
def _replacing(top: str, relative: str) -> Iterator[tuple[int, str]]:
    """A directory and a name in it: what gets that name meanwhile takes the place of `relative` at once, or is gone."""
    above, _, name = relative.rpartition("/")
    aside = f".{name}.{secrets.token_hex(4)}"
    with directory(top, above) as fd:
        try:
            yield fd, aside
            os.replace(aside, name, src_dir_fd=fd, dst_dir_fd=fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside, dir_fd=fd)
            raise


def write(
    top: str, relative: str, content: bytes, mode: int = 0o644, uid: int = -1, gid: int = -1, lasting: bool = False
) -> None:
    """Put a file in place below `top`: a reader sees the old one or the new one, after a power cut too if it is `lasting`."""
    with _replacing(top, relative) as (fd, aside), create(fd, aside) as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        if lasting:
            os.fsync(file.fileno())


def link(top: str, relative: str, target: str) -> None:
    """Point a link below `top` at another target; there is no moment without it."""
    with _replacing(top, relative) as (fd, aside):
        os.symlink(target, aside, dir_fd=fd)


def names(top: str, relative: str = "", most: int = 10_000) -> list[str]:
    """What a directory holds, in order; nothing when it is missing, Refused when it holds more than `most` entries."""
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError), directory(top, relative) as fd, os.scandir(fd) as entries:
        for entry in entries:
            if len(found) == most:
                raise Refused(f"{os.path.join(top, relative)}: more than {most} entries")
            found.append(entry.name)
    return sorted(found)


def size_mb(top: str, relative: str = "", most: int = 10_000_000) -> float:
    """What a tree takes on the disk; Refused when it has more than `most` entries."""
    blocks = seen = 0
    with directory(top, relative) as start:
        for _, folders, files, fd in os.fwalk(".", follow_symlinks=False, dir_fd=start):
            seen += len(files) + len(folders)
            if seen > most:
                raise Refused(f"{os.path.join(top, relative)}: more than {most} entries")
            blocks += sum(os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks for name in [*files, *folders])
    return blocks / 2048


def numbers(top: str, relative: str = "") -> list[int]:
    """Those names that are process ids, as workers leave them: plain digits, of which the kernel allows seven."""
    return sorted(int(name) for name in names(top, relative) if re.fullmatch("[1-9][0-9]{0,6}", name))


@contextlib.contextmanager
def _not_too_deep(tree: str) -> Iterator[None]:
    """Refused in place of the RecursionError with which a walk ends in directories inside each other."""
    try:
        yield
    except RecursionError:
        raise Refused(f"{tree}: its directories lie inside each other by the thousand") from None


def give(
    top: str,
    relative: str,
    uid: int,
    gid: int,
    mode: Callable[[int], int] | None = None,
    owners: frozenset[int] = frozenset(),
) -> None:
    """Give a tree to an owner; `mode` makes of the permissions that a file or directory has those that it gets.

    Links are given too, but never followed. Refused when something is neither file, directory nor link, or belongs to
    somebody other than root, the new owner and `owners`, or when a file of root's is about to be changed that has a second
    name elsewhere.
    """
    allowed = {0, uid, *owners}

    def take(fd: int, what: str) -> None:
        status = os.fstat(fd)
        if status.st_uid not in allowed:
            raise Refused(f"{what}: belongs to user {status.st_uid}, not to the application")
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and status.st_uid == 0 and (uid != 0 or mode):
            raise Refused(f"{what}: another name of a file of root's")
        os.fchown(fd, uid, gid)
        if mode:
            os.fchmod(fd, mode(stat.S_IMODE(status.st_mode)))

    with _not_too_deep(relative or top), directory(top, relative) as start:
        for path, folders, files, fd in os.fwalk(".", follow_symlinks=False, dir_fd=start):
            shown = os.path.normpath(os.path.join(relative, path))
            take(fd, shown)
            for name in [*files, *folders]:
                kind = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if stat.S_ISLNK(kind):
                    os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
                elif not stat.S_ISDIR(kind):  # a directory's turn comes when it is entered
                    try:
                        file = regular(fd, name)
                    except Refused as refused:
                        raise Refused(os.path.join(shown, str(refused))) from None
                    try:
                        take(file, os.path.join(shown, name))
                    finally:
                        os.close(file)
