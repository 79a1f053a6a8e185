"""What of a source directory belongs to a release: which files, under which names, and where its links lead.

Everything below the directory is opened without following links (openat(2), O_NOFOLLOW), so that neither a link that
somebody planted nor one that takes a directory's place meanwhile brings in a file from outside.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from typing import Iterator, Optional

from ansible.module_utils.farrier_text import shown

IGNORE_FILE = ".farrierignore"

NEVER = (
    ".git .hg .svn __pycache__ *.pyc *.pyo .venv venv node_modules .env .env.* .ssh id_rsa id_dsa id_ecdsa id_ed25519 "
    f".vault_pass* .vault-pass* db.sqlite3 .mypy_cache .pytest_cache .ruff_cache .tox .DS_Store {IGNORE_FILE}".split()
)
"""Names that are no part of a release, at any depth, unless .farrierignore takes them back with `!`."""

DEEPEST = 100
"""Directories inside each other; real sources have a dozen, and each level keeps a file descriptor open."""

MOST_LINKS = 40
"""Links that the kernel follows for one path before it gives up, as path_resolution(7) says."""


@dataclass(frozen=True)
class Member:
    """One file or symbolic link of the source; `private` when others on the control node may not read it."""

    path: str
    content: bytes = b""
    executable: bool = False
    private: bool = False
    target: str = ""


@dataclass(frozen=True)
class Git:
    """What git says of a work tree: files that it does not ignore, and submodules that are not there."""

    files: frozenset[str]
    missing: frozenset[str] = frozenset()
    directories: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        above = (path.split("/") for path in self.files | self.missing)
        inner = {"/".join(parts[:length]) for parts in above for length in range(1, len(parts))}
        object.__setattr__(self, "directories", frozenset(inner | self.missing))


@dataclass(frozen=True)
class Pattern:
    """A line of .farrierignore: one with a slash counts from the top, one without at any depth; `!` takes back in."""

    text: str
    back: bool = False

    def matches(self, path: str) -> bool:
        """Whether it names this path."""
        return fnmatch.fnmatchcase(path if "/" in self.text else path.rsplit("/", 1)[-1], self.text.lstrip("/"))

    def leads_below(self, path: str) -> bool:
        """Whether it names something below this directory."""
        parts, inner = self.text.lstrip("/").split("/"), path.split("/")
        return "/" in self.text and len(parts) > len(inner) and all(map(fnmatch.fnmatchcase, inner, parts))


def patterns_of(text: str) -> list[Pattern]:
    """The patterns of a .farrierignore: one a line, `#` starts a comment line."""
    lines = (line.strip() for line in text.splitlines())
    return [Pattern(line.lstrip("!").rstrip("/"), line.startswith("!")) for line in lines if line and line[0] != "#"]


@dataclass
class Reader:
    """Reads one source: what is left out of it, and what NGINX gives to everybody anyway."""

    git: Optional[Git] = None
    own: frozenset[str] = frozenset()
    static_directory: str = ""
    patterns: list[Pattern] = field(default_factory=list)
    open_to_others: bool = False

    def read(self, top: str) -> list[Member]:
        """All members below a directory, in one fixed order, with links that stay inside; ValueError says what is wrong."""
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Where nobody else may enter anyway, as with umask 077, modes say nothing about a single file.
            self.open_to_others = os.fstat(fd).st_mode & 0o005 == 0o005
            self.patterns = self._patterns(fd)
            found = list(self._below(fd, "", left_out=False, in_git=self.git is not None))
        finally:
            os.close(fd)
        check_links(found, self.static_directory)
        return found

    def _patterns(self, fd: int) -> list[Pattern]:
        try:
            status = os.stat(IGNORE_FILE, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return []
        try:
            return patterns_of(self._file(fd, IGNORE_FILE, IGNORE_FILE, status).content.decode())
        except UnicodeDecodeError:
            raise ValueError(f"{IGNORE_FILE}: is not UTF-8") from None

    def _left_out(self, path: str, folder: bool, left_out: bool, in_git: bool) -> bool:
        """The last word counts: the directory above, our own list, git, and then .farrierignore line by line."""
        name = path.rsplit("/", 1)[-1]
        out = left_out or path in self.own or any(fnmatch.fnmatchcase(name, each) for each in NEVER)
        if in_git and self.git:
            out = out or path not in (self.git.directories if folder else self.git.files)
        for pattern in self.patterns:
            if pattern.matches(path):
                out = not pattern.back
        return out

    def _below(self, fd: int, prefix: str, left_out: bool, in_git: bool) -> Iterator[Member]:
        if prefix.count("/") > DEEPEST:
            raise ValueError(f"{shown(prefix)}: more than {DEEPEST} directories inside each other")
        folders = []
        for name in sorted(os.listdir(fd)):
            path = prefix + name
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            folder = stat.S_ISDIR(status.st_mode)
            out = self._left_out(path, folder, left_out, in_git)
            if folder and not (out and not any(p.back and p.leads_below(path) for p in self.patterns)):
                folders.append((name, out))
            elif not folder and not out:
                yield self._member(fd, name, path, status)
        for name, out in folders:
            path = prefix + name
            if self.git and not out and path in self.git.missing:
                raise ValueError(
                    f"{shown(path)}: a submodule that is not checked out; run git submodule update --init --recursive, "
                    f"or name it in {IGNORE_FILE}"
                )
            _require_plain(path)
            below = _opened(fd, name, path, os.O_DIRECTORY)
            try:
                inside = in_git and self.git is not None and path in self.git.directories
                yield from self._below(below, f"{path}/", out, inside)
            finally:
                os.close(below)

    def _member(self, fd: int, name: str, path: str, status: os.stat_result) -> Member:
        _require_plain(path)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=fd)
            _require_plain(target)
            return Member(path, target=target)
        return self._file(fd, name, path, status)

    def _file(self, fd: int, name: str, path: str, status: os.stat_result) -> Member:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(
                f"{shown(path)}: neither a file nor a directory nor a link that can be used here; name it in {IGNORE_FILE}"
            )
        # Should it have become a FIFO since, opening it does not wait for a writer.
        with os.fdopen(_opened(fd, name, path, os.O_NONBLOCK), "rb") as opened:
            before = os.fstat(opened.fileno())
            content = opened.read() if stat.S_ISREG(before.st_mode) else b""
            after = os.fstat(opened.fileno())
        if (_state(before), len(content)) != (_state(after), after.st_size) or before.st_ino != status.st_ino:
            raise ValueError(f"{shown(path)}: was changed while it was read; try again, or name it in {IGNORE_FILE}")
        public = path.startswith(f"{self.static_directory}/") if self.static_directory else False
        private = self.open_to_others and not status.st_mode & 0o004 and not public
        return Member(path, content, bool(status.st_mode & 0o100), private)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _opened(fd: int, name: str, path: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=fd)
    except OSError as error:
        why = f"cannot be read: {error.strerror}; let yourself read it, or name it in {IGNORE_FILE}"
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            why = "was changed into a link or a file while the source was read; try again"
        raise ValueError(f"{shown(path)}: {why}") from None


def _require_plain(path: str) -> None:
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in path):
        raise ValueError(
            f"{shown(path)}: a name that is not UTF-8 or holds control characters; rename it or name it in {IGNORE_FILE}"
        )


def check_links(members: list[Member], static_directory: str) -> None:
    """Refuse links that leave the source, and static files that lie behind one; ValueError."""
    links = {member.path: member.target for member in members if member.target}
    for path, target in links.items():
        if not _stays_inside(path, links):
            raise ValueError(f"{shown(path)}: the link leads out of the source, to {shown(target)}")
    parts = static_directory.strip("/").split("/")
    above = {"/".join(parts[:length]) for length in range(1, len(parts) + 1)}
    for member in members:
        if member.path in above:
            kind = "link" if member.target else "file"
            raise ValueError(
                f"{shown(member.path)}: is a {kind}, but the static files of the release lie in {static_directory}, which "
                "has to be a directory of its own"
            )


def _stays_inside(path: str, links: dict[str, str]) -> bool:
    """Walks a path as the kernel does, part by part and link by link."""
    pending, done, followed = path.split("/")[::-1], [], 0  # type: list[str], list[str], int
    while pending:
        part = pending.pop()
        if part == ".." and not done:
            return False
        if part == "..":
            done.pop()
        elif part not in ("", "."):
            done.append(part)
            target = links.get("/".join(done))
            if target is not None:
                followed += 1
                if target.startswith("/"):
                    return False
                if followed > MOST_LINKS:
                    raise ValueError(f"{shown(path)}: links that lead to each other without an end")
                done.pop()
                pending += target.split("/")[::-1]
    return True
