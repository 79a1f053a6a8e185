#!/usr/bin/python
"""Pack the application's source on the control machine into an archive that is named by its content."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import re
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: farrier_source
short_description: Pack the application's source into an archive named by its content
description:
  - Runs on the control machine. The same content gives the same release, whoever packs it, wherever and whenever.
  - Left out are what never belongs to a release (C(.git), virtual environments, byte code, C(node_modules), C(.env),
    C(db.sqlite3)) and what a C(.farrierignore) in the source names, one shell pattern a line.
options:
  source: {type: str, required: true, description: Directory, or URL of a git repository.}
  ref: {type: str, description: Branch, tag or commit; for a git repository only.}
  recipe:
    description: What else makes a release another one, such as the command that collects its static files.
    type: dict
    default: {}
  cache: {type: path, default: ~/.cache/farrier, description: Where archives and clones are kept.}
author: Farrier
"""

EXAMPLES = r"""
- name: The source is packed
  farrier_source:
    source: /home/me/notes
  delegate_to: localhost
"""

RETURN = r"""
release: {description: First 12 hex digits of the content's SHA-256., returned: always, type: str}
archive: {description: The packed source., returned: always, type: str}
commit: {description: Commit as git describes it, or null., returned: always, type: str}
files: {description: How many files it holds., returned: always, type: int}
"""

NEVER = [
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "*.pyc",
    "*.pyo",
    ".venv",
    "venv",
    "node_modules",
    ".env",
    "db.sqlite3",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".DS_Store",
    ".farrierignore",
]
"""Names that are never part of a release, at any depth."""

EPOCH = 1_000_000_000
"""Every packed file carries this time, so that only content makes a difference."""


@dataclass(frozen=True)
class Member:
    """One file or symbolic link of the source."""

    path: str
    content: bytes = b""
    executable: bool = False
    target: str = ""


def ignored(path: str, patterns: list[str]) -> bool:
    """Whether a relative path is left out: a pattern with a slash counts from the top, one without at any depth."""
    name = path.rsplit("/", 1)[-1]
    for pattern in patterns:
        bare = pattern.rstrip("/")
        if "/" in bare:
            if fnmatch.fnmatchcase(path, bare.lstrip("/")):
                return True
        elif fnmatch.fnmatchcase(name, bare):
            return True
    return False


def patterns_of(text: str) -> list[str]:
    """The patterns of a .farrierignore: one a line, `#` starts a comment line."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def checked_link(path: str, target: str) -> str:
    """The target of a symbolic link, refused when it leads out of the source."""
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or inside == ".." or inside.startswith("../"):
        raise ValueError(f"{path}: the link leads out of the source, to {target}")
    return target


def read_directory(top: str) -> Iterator[Member]:
    """All members below a directory, in one fixed order."""
    patterns = list(NEVER)
    ignore = os.path.join(top, ".farrierignore")
    if os.path.isfile(ignore):
        with open(ignore, encoding="utf-8") as file:
            patterns += patterns_of(file.read())
    for directory, names, files in os.walk(top):
        relative = os.path.relpath(directory, top)
        prefix = "" if relative == "." else relative + "/"
        links = [name for name in names if os.path.islink(os.path.join(directory, name))]
        names[:] = sorted(n for n in names if n not in links and not ignored(prefix + n, patterns))
        for name in sorted(files + links):
            path = prefix + name
            if not ignored(path, patterns):
                yield read_member(os.path.join(directory, name), path)


def read_member(full: str, path: str) -> Member:
    """One file or link as it is on disk."""
    status = os.lstat(full)
    if stat.S_ISLNK(status.st_mode):
        return Member(path, target=checked_link(path, os.readlink(full)))
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: neither a file nor a directory nor a link; name it in .farrierignore")
    with open(full, "rb") as file:
        return Member(path, file.read(), executable=bool(status.st_mode & 0o100))


def release_id(members: list[Member], recipe: dict[str, object]) -> str:
    """First 12 hex digits of the SHA-256 over all that makes this release."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:  # with its length, so that no two lists of parts look alike
            digest.update(b"%d:" % len(part) + part)

    for member in members:
        kind = b"l" if member.target else b"x" if member.executable else b"f"
        add(kind, os.fsencode(member.path), os.fsencode(member.target), member.content)
    for key in sorted(recipe):
        add(key.encode(), repr(recipe[key]).encode())
    return digest.hexdigest()[:12]


def pack(members: list[Member], archive: str) -> None:
    """Write the archive, whole or not at all."""
    directory = os.path.dirname(archive)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".pack-", dir=directory)
    try:
        with (
            os.fdopen(descriptor, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=6) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for member in members:
                info = tarfile.TarInfo(member.path)
                info.mtime = EPOCH
                info.mode = 0o755 if member.executable else 0o644
                if member.target:
                    info.type, info.linkname = tarfile.SYMTYPE, member.target
                info.size = len(member.content)
                tar.addfile(info, io.BytesIO(member.content))
        os.replace(temporary, archive)
    except BaseException:
        os.unlink(temporary)
        raise


def git(*arguments: str, directory: str | None = None) -> str:
    """Run git and return what it printed; an error carries git's own words."""
    command = ["git", *(["-C", directory] if directory else []), *arguments]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise ValueError(f"git: {error.strerror}") from None
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def is_url(source: str) -> bool:
    """Whether the source is a git URL rather than a directory."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:", source))


def check_out(url: str, ref: str, cache: str, into: str) -> str:
    """Put the files of a ref into a directory and return the commit; clones once, then only fetches what is new."""
    if url.startswith("-") or ref.startswith("-"):
        raise ValueError(f"{url} {ref}: neither a URL nor a ref starts with a dash")
    clone = os.path.join(cache, "git", hashlib.sha256(url.encode()).hexdigest()[:16])
    if not os.path.isdir(os.path.join(clone, "objects")):
        git("init", "--quiet", "--bare", clone)
    known = re.fullmatch(r"[0-9a-f]{40}", ref) and not _fails("cat-file", "-e", f"{ref}^{{commit}}", directory=clone)
    if not known:
        git("fetch", "--quiet", "--force", "--tags", url, "+refs/heads/*:refs/heads/*", directory=clone)
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", directory=clone)
    git("--work-tree", into, "checkout", "--force", commit, "--", ".", directory=clone)
    return commit


def _fails(*arguments: str, directory: str) -> bool:
    try:
        git(*arguments, directory=directory)
    except ValueError:
        return True
    return False


def describe(directory: str) -> str | None:
    """How git names the state of a directory, if it is under git."""
    try:
        return git("describe", "--always", "--dirty", "--tags", "--abbrev=12", directory=directory)
    except ValueError:
        return None


def read_source(source: str, ref: str | None, cache: str) -> tuple[list[Member], str | None]:
    """All members of the source, and its commit."""
    if is_url(source):
        if not ref:
            raise ValueError(f"{source}: a git repository needs a ref, such as a tag")
        os.makedirs(cache, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="checkout-", dir=cache) as directory:
            commit: str | None = check_out(source, ref, cache, directory)
            return list(read_directory(directory)), commit
    if not os.path.isdir(source):
        raise ValueError(f"{source}: there is no such directory on the control machine")
    return list(read_directory(source)), describe(source)


def main() -> None:
    """Read the source, name it, and pack it unless that was done before."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "ref": {"type": "str"},
            "recipe": {"type": "dict", "default": {}},
            "cache": {"type": "path", "default": "~/.cache/farrier"},
        },
        supports_check_mode=True,
    )
    source, cache = module.params["source"], module.params["cache"]
    try:
        members, commit = read_source(source, module.params["ref"], cache)
        if not members:
            raise ValueError(f"{source}: there is nothing in it to release")
        release = release_id(members, module.params["recipe"])
        archive = os.path.join(cache, "releases", f"{release}.tar.gz")
        if not os.path.exists(archive):
            pack(members, archive)
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, release=release, archive=archive, commit=commit, files=len(members))


if __name__ == "__main__":
    main()
