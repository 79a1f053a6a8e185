"""One path of a set of files: as the host has it, as the play asks for it, and how it comes into place."""

from __future__ import annotations

import base64
import contextlib
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from typing import Any

from ansible.module_utils import farrier_beneath as beneath

HIDDEN = "(not shown)\n"
LARGEST = 8 << 20
"""Bytes of a file that is compared; larger ones are none that a role writes."""


@dataclass(frozen=True)
class FileEntry:
    """One path of the set: `kind` is file, link, absent, or other for what only a host can hold (a directory)."""

    path: str
    kind: str
    content: bytes = b""
    target: str = ""
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    sensitive: bool = False
    backup: str | None = None

    def same_as(self, other: FileEntry) -> bool:
        """Whether both describe the same state of the path."""
        if self.kind != other.kind:
            return False
        if self.kind == "link":
            return self.target == other.target
        if self.kind == "file":
            mine = (self.content, self.mode, self.owner, self.group)
            return mine == (other.content, other.mode, other.owner, other.group)
        return True


def wanted(entry: dict[str, Any]) -> FileEntry:
    """The entry as the play asks for it."""
    given = {key: value for key, value in entry.items() if value is not None}
    path, content, link = given.pop("path"), given.pop("content", None), given.pop("link", None)
    if not os.path.isabs(path):
        raise ValueError(f"{path}: the path must be absolute")
    if given.pop("state", "present") == "absent":
        return FileEntry(path, "absent")
    if (content is None) == (link is None):
        raise ValueError(f"{path}: give either content or link")
    if link is not None:
        return FileEntry(path, "link", target=link)
    if "mode" in given:
        try:
            given["mode"] = int(given["mode"], 8)
        except ValueError:
            raise ValueError(f"{path}: mode {given['mode']!r} is not an octal number such as 0644") from None
    return FileEntry(path, "file", content.encode("utf-8"), **given)


def living(path: str, sensitive: bool = False) -> FileEntry:
    """The entry as the host has it."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return FileEntry(path, "absent")
    if stat.S_ISLNK(status.st_mode):
        return FileEntry(path, "link", target=os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        return FileEntry(path, "other")
    directory, name = os.path.split(path)
    return FileEntry(
        path,
        "file",
        content=beneath.read(directory, name, LARGEST),
        mode=stat.S_IMODE(status.st_mode),
        owner=_name(pwd.getpwuid, status.st_uid),
        group=_name(grp.getgrgid, status.st_gid),
        sensitive=sensitive,
    )


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def compared(files: list[dict[str, Any]]) -> list[tuple[FileEntry, FileEntry]]:
    """Each entry as the host has it and as the play asks for it; ValueError where it cannot be brought into place."""
    pairs = [(living(new.path, new.sensitive), new) for new in map(wanted, files)]
    for before, _ in pairs:
        if before.kind == "other":
            raise ValueError(f"{before.path}: is a directory or device")
    return pairs


def put(entry: FileEntry) -> None:
    """Bring one entry into place; a reader sees the old file or the new one, never a part."""
    if entry.kind == "absent":
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(entry.path)
        return
    directory, name = os.path.split(entry.path)
    make_directories(directory)
    if entry.kind == "link":
        beneath.link(directory, name, entry.target)
        return
    uid = gid = -1
    if os.geteuid() == 0:
        uid = int(entry.owner) if entry.owner.isdigit() else pwd.getpwnam(entry.owner).pw_uid
        gid = int(entry.group) if entry.group.isdigit() else grp.getgrnam(entry.group).gr_gid
    beneath.write(directory, name, entry.content, entry.mode, uid, gid, lasting=True)


def make_directories(path: str) -> None:
    """Make a directory and those above it for everybody to enter, whatever the umask is."""
    if os.path.isdir(path):
        return
    make_directories(os.path.dirname(path))
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)


def shown(entry: FileEntry) -> str:
    """An entry as text for a diff."""
    if entry.kind == "absent":
        return ""
    if entry.kind == "link":
        return f"-> {entry.target}\n"
    if entry.sensitive:
        return HIDDEN
    try:
        return entry.content.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(entry.content).decode("ascii") + "\n"


def difference(before: FileEntry, after: FileEntry) -> dict[str, str]:
    """Ansible's diff of one path; a change of mode or owner alone is told in the header."""

    def header(entry: FileEntry) -> str:
        if entry.kind != "file":
            return f"{entry.path} ({entry.kind})"
        return f"{entry.path} ({entry.mode:04o} {entry.owner}:{entry.group})"

    return {
        "before_header": header(before),
        "after_header": header(after),
        "before": HIDDEN if after.sensitive and before.kind == "file" else shown(before),
        "after": "(not shown, changed)\n" if after.sensitive else shown(after),
    }
