"""What an application's requirements files say, and which virtual environment that asks for."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from typing import Iterator

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_host import Failure

LARGEST_REQUIREMENTS = 16 << 20
"""Bytes of a requirements file; one with the hashes of a thousand packages has about two million."""

NAME = r"[A-Za-z0-9][\w.-]*\s*(?:\[[^\]]*\])?\s*"
NAMED = re.compile(rf"({NAME})(?:[(~=!<>;].*|\s--.*)?")
"""A package by its name, as an index gives it."""

ARCHIVE = re.compile(r"\.(whl|zip|tgz|tbz|txz|tlz|tar(\.\w+)?)\s*$", re.IGNORECASE)
"""What pip takes for a file although it looks like a name."""

PINNED = re.compile(
    rf"(?:{NAME}@\s*)?(?:git\+\S+@[0-9a-f]{{40}}(?:#\S*)?|https?://\S+#(?:\S*&)?sha(?:256|384|512)=\S+)\s*(?:;.*)?"
)
"""A URL that can never give anything else: a commit, or a file with its hash."""

CHOOSING = re.compile(
    r"(-i|--index-url|--extra-index-url|--no-index|--trusted-host|--pre|--prefer-binary|--no-binary|--only-binary"
    r"|--require-hashes|--use-feature)\b.*"
)
"""Options that bring nothing themselves."""

INCLUDING = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=|\b|(?=\S))\s*(\S.*)")
EDITABLE = re.compile(r"-e|--ed[it]*[able]*\b")
ELSEWHERE = re.compile(r"\b(?:git|hg|svn|bzr)\+|\b(?:https?|ssh)://")


def lines(content: bytes) -> Iterator[tuple[int, str]]:
    """The lines of a requirements file as pip reads them: joined where one ends with a backslash, without comments."""
    begun, joined = 0, ""
    for number, line in enumerate([*content.decode("utf-8-sig", "replace").splitlines(), ""], 1):
        begun = begun or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1]
            continue
        bare = re.sub(r"(^|\s)#.*", "", joined + line).strip()
        if bare:
            yield begun, bare
        begun, joined = 0, ""


def included(line: str) -> str:
    """The file or URL that a line includes with -r or -c; else empty."""
    found = INCLUDING.fullmatch(line)
    try:
        return "".join(shlex.split(found.group(1))[:1]) if found else ""
    except ValueError:
        return ""


def requirement_files(top: str, name: str) -> dict[str, bytes]:
    """The requirements file and every file it includes with -r or -c, with their content."""
    found: dict[str, bytes] = {}
    waiting = [name]
    while waiting:
        path = os.path.normpath(waiting.pop())
        if path in found:
            continue
        found[path] = content(top, path)
        for number, line in lines(found[path]):
            if EDITABLE.match(line):
                raise Failure(f"{path}, line {number}: {line}: an editable install cannot be shared by releases")
            more = included(line)
            if more and "://" not in more:
                waiting.append(os.path.join(os.path.dirname(path), more))
    return found


def content(top: str, path: str) -> bytes:
    """A file of the release; a link in it may lead there, as long as it stays inside."""
    real = os.path.realpath(top)
    relative = os.path.relpath(os.path.realpath(os.path.join(real, path)), real)
    if path.startswith(("/", "..")) or relative.startswith(".."):
        raise Failure(f"{path}: requirements must lie inside the source")
    try:
        return bytes(beneath.read(real, relative, LARGEST_REQUIREMENTS))
    except beneath.Refused as refused:
        raise Failure(str(refused)) from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}; it is named as the application's requirements") from None


def unsettled(files: dict[str, bytes]) -> list[str]:
    """Lines that may bring something else without being changed: a part of the release, a branch, what lies behind a URL."""
    return [line for content in files.values() for _, line in lines(content) if not settled(line)]


def settled(line: str) -> bool:
    """Whether a line says by itself what it brings, as far as a package's name does."""
    named = NAMED.fullmatch(line)
    if named:
        return not ARCHIVE.search(named.group(1))
    if PINNED.fullmatch(line) or CHOOSING.fullmatch(line):
        return True
    more = included(line)
    return bool(more) and "://" not in more


def from_the_release(files: dict[str, bytes]) -> bool:
    """Whether something is installed out of the release itself, which pip may have to build where it lies."""
    return any(not ELSEWHERE.search(line) for line in unsettled(files))


def venv_key(files: dict[str, bytes], python: str, gunicorn: str, release: str) -> str:
    """Name of the virtual environment: 12 hex digits over all that decides what is in it."""
    parts = [python.encode(), gunicorn.encode()]
    for path in sorted(files):
        parts += [path.encode(), files[path]]
    if unsettled(files):
        parts.append(release.encode())  # the same lines may bring something else for the next release
    return hashlib.sha256(b"".join(b"%d:" % len(part) + part for part in parts)).hexdigest()[:12]
