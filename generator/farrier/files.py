"""What is believed of files that lie in a project: it may have been made by somebody else, manifests and journal included."""

import errno
import json
import os
import re
import secrets
import stat
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from farrier.errors import InputError

STATE = ".farrier"

BELOW = ("roles", "playbooks", "molecule", ".config", STATE)
"""Directories that all of a generated tree stands in. A manifest or journal may come with a project that somebody else made,
so what it names is not touched elsewhere."""

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes of a file that is compared or read back; the largest one that Farrier writes takes some hundred kB."""

MANIFEST_HASH = re.compile("sha256:[0-9a-f]{64}")
STAGED = re.compile("[0-9]{1,6}")


def read_file(path: Path) -> bytes | None:
    """A file's content; None where there is none, InputError where it is something else, such as a link or a FIFO."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a file: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "Is a directory" if stat.S_ISDIR(status.st_mode) else "Not a regular file"
            raise InputError(f"{path}: cannot be read as a file: {kind}")
        if status.st_size > LARGEST_FILE:
            raise InputError(f"{path}: cannot be read as a file: larger than {LARGEST_FILE} bytes")
        with os.fdopen(os.dup(handle), "rb") as file:
            return file.read(LARGEST_FILE)
    finally:
        os.close(handle)


def is_inside(path: object) -> bool:
    """Whether a name is a path below a directory."""
    return (
        isinstance(path, str)
        and path != ""
        and not path.startswith("/")
        and ".." not in PurePosixPath(path).parts
        and "\0" not in path
    )


def is_written(path: object) -> bool:
    """Whether Farrier may write or remove a file of this name."""
    if not is_inside(path):
        return False
    parts = PurePosixPath(str(path)).parts
    return len(parts) > 1 and parts[0] in BELOW


def is_staged(number: object) -> bool:
    """Whether this is the name of a staged file, or says that there is none."""
    return number is None or (isinstance(number, str) and STAGED.fullmatch(number) is not None)


def is_hash(value: object) -> bool:
    """Whether this is what a manifest records of a file."""
    return isinstance(value, str) and MANIFEST_HASH.fullmatch(value) is not None


def opened(path: Path) -> BinaryIO:
    """A file that a project may have brought along, to read; OSError where it is none, such as a FIFO, that would never end."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file


def unlinked(root: Path, path: str) -> Path:
    """The place of a path below a project; InputError where a part of it is a link, which may lead anywhere."""
    current = root
    for part in PurePosixPath(path).parts:
        current /= part
        if current.is_symlink():
            raise InputError(f"{current}: is a symbolic link, which Farrier does not write through; remove it")
    return current


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, whole or not at all, by a name beside it that nobody can have planted; OSError."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def is_file(path: Path) -> bool:
    """Whether something is a file itself, and no link to one."""
    return path.is_file() and not path.is_symlink()


def document(content: bytes) -> dict[str, Any]:
    """A JSON object; one with an impossible key where there is none, so that it is refused."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {"": None}
