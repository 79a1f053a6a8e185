"""Reads and writes a project's files without trusting them: the project, manifests and journal included, may be somebody else's."""

import errno
import json
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from farrier.errors import InputError

STATE = ".farrier"

BELOW = ("roles", "playbooks", "molecule", ".config", STATE)
"""Directories that contain every generated file. A manifest or journal may come with somebody else's project, so nothing
that it names outside of them is touched."""

LARGEST_FILE = 16 * 1024 * 1024
"""Bytes of a file that is compared or read back; the largest one that Farrier writes has a few hundred kB."""

MANIFEST_HASH = re.compile("sha256:[0-9a-f]{64}")
STAGED = re.compile("[0-9]{1,6}")


def read_file(path: Path) -> bytes | None:
    """A file's content; None where there is none, InputError if it is something else, such as a link or a FIFO."""
    try:
        with opened(path, os.O_NOFOLLOW) as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a file: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path}: cannot be read as a file: larger than {LARGEST_FILE} bytes")
    return content


def is_inside(path: object) -> bool:
    """Whether a name is a path inside a directory."""
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
    """Whether this is the name of a staged file, or None for no file."""
    return number is None or (isinstance(number, str) and STAGED.fullmatch(number) is not None)


def is_hash(value: object) -> bool:
    """Whether this is what a manifest records of a file."""
    return isinstance(value, str) and MANIFEST_HASH.fullmatch(value) is not None


def opened(path: Path, more_flags: int = 0) -> BinaryIO:
    """Open a project's file for reading; OSError if it is not a regular file, such as a FIFO, which would block forever."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | more_flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return file


def unlinked(root: Path, path: str) -> Path:
    """The location of a path in a project; InputError if any part of it is a symbolic link, which could lead anywhere."""
    current = root
    for part in PurePosixPath(path).parts:
        current /= part
        if current.is_symlink():
            raise InputError(f"{current}: is a symbolic link, which Farrier does not write through; remove it")
    return current


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, through a temporary name beside it that nobody can predict; OSError."""
    aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def is_file(path: Path) -> bool:
    """Whether a path is a regular file and not a link to one."""
    return path.is_file() and not path.is_symlink()


def document(content: bytes) -> dict[str, Any]:
    """A JSON object; if there is none, one with an impossible key, so that it is refused."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {"": None}


def json_document(value: object) -> bytes:
    """JSON as it is kept in git: indented, one final newline."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
