#!/usr/bin/python
"""Pack the application's source on the control node into an archive that is named by its content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from typing import Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.farrier_git import check_out, describe, is_url, known
from ansible.module_utils.farrier_members import Member, Reader
from ansible.module_utils.farrier_text import shown

DOCUMENTATION = r"""
module: farrier_source
short_description: Pack the application's source into an archive named by its content
description:
  - Runs on the control node. The same content gives the same release, whoever packs it, wherever and whenever.
  - Left out are what git ignores, where the source is in a git work tree; what never belongs to a release, such as C(.git),
    virtual environments, byte code, C(node_modules), C(.env), SSH keys and C(db.sqlite3); and what Farrier itself has written.
  - A C(.farrierignore) in the source leaves out more, one shell pattern a line, or takes back in with C(!) before it.
    The last pattern that matches counts. One with a slash counts from the top, one without at any depth.
  - A file that others on the control node may not read, though they may enter the source, is not for others on the host.
  - Links may lead anywhere inside the source. It is read without following any.
options:
  source: {type: str, required: true, description: "Directory, from C(project) on, or URL of a git repository."}
  ref: {type: str, description: Branch, tag or commit; for a git repository only.}
  project: {type: path, description: Directory of the project file., default: .}
  own: {type: list, elements: str, default: [], description: Paths from C(project) on that are left out.}
  recipe: {type: dict, default: {}, description: "What else makes a release another one, such as the command for static files."}
  cache: {type: path, default: ~/.cache/farrier, description: Where archives and clones are kept.}
author: Farrier
"""

RETURN = r"""
release: {description: First 12 hex digits of the content's SHA-256., returned: always, type: str}
archive: {description: The packed source., returned: always, type: str}
commit: {description: Commit as git describes it, or null., returned: always, type: str}
files: {description: How many files it holds., returned: always, type: int}
"""

EPOCH = 1_000_000_000
"""Every packed file carries this time, so that only content makes a difference."""


def release_id(members: list[Member], recipe: dict[str, object]) -> str:
    """First 12 hex digits of the SHA-256 over all that makes this release."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:  # with its length, so that no two lists of parts look alike
            digest.update(b"%d:" % len(part) + part)

    for member in members:
        kind = b"l" if member.target else b"x" if member.executable else b"f"
        kind += b"p" if member.private else b""
        add(kind, os.fsencode(member.path), os.fsencode(member.target), member.content)
    for key in sorted(recipe):
        add(key.encode(), repr(recipe[key]).encode())
    return digest.hexdigest()[:12]


def pack(members: list[Member], archive: str) -> None:
    """Write the archive, whole or not at all."""
    directory = os.path.dirname(archive)
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
                info.mode = (0o755 if member.executable else 0o644) & (0o750 if member.private else 0o755)
                if member.target:
                    info.type, info.linkname = tarfile.SYMTYPE, member.target
                info.size = len(member.content)
                tar.addfile(info, io.BytesIO(member.content))
        os.replace(temporary, archive)
    except BaseException:
        os.unlink(temporary)
        raise


def private_directory(path: str) -> str:
    """A directory that is the user's alone; ValueError when somebody else could have put something into it."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ValueError(f"{shown(path)}: must be a directory of your own, as releases come from it; remove it")
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def is_packed(archive: str) -> bool:
    """Whether the archive is there, written by this user and no link to another."""
    try:
        status = os.lstat(archive)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def not_released(own: list[str], project: str, source: str) -> frozenset[str]:
    """Paths of the project that are left out, as paths from the source on."""
    project, source = os.path.realpath(project), os.path.realpath(source)
    paths = (os.path.relpath(os.path.join(project, each), source) for each in own)
    return frozenset(path for path in paths if path != "." and path.split("/")[0] != "..")


def read_source(module: AnsibleModule, cache: str) -> tuple[list[Member], Optional[str]]:
    """All members of the source, and its commit."""
    source, ref, project = (module.params[name] for name in ("source", "ref", "project"))
    own, static = module.params["own"], str(module.params["recipe"].get("static_directory") or "")
    if is_url(source):
        if not ref:
            raise ValueError(f"{shown(source)}: a git repository needs a ref, such as a tag")
        private_directory(os.path.join(cache, "git"))
        with tempfile.TemporaryDirectory(prefix="checkout-", dir=cache) as directory:
            commit: Optional[str] = check_out(source, ref, cache, directory)
            holds_project = os.path.exists(os.path.join(directory, "farrier.yml"))
            left_out = not_released(own if holds_project else [], directory, directory)
            return Reader(own=left_out, static_directory=static).read(directory), commit
    source = os.path.join(project, source)
    if not os.path.isdir(source):
        raise ValueError(f"{shown(source)}: no such directory on the control node")
    git = known(source)
    reader = Reader(git, not_released(own, project, source), static)
    return reader.read(source), describe(source) if git else None


def main() -> None:
    """Read the source, name it, and pack it unless that was done before."""
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "ref": {"type": "str"},
            "project": {"type": "path", "default": "."},
            "own": {"type": "list", "elements": "str", "default": []},
            "recipe": {"type": "dict", "default": {}},
            "cache": {"type": "path", "default": "~/.cache/farrier"},
        },
        supports_check_mode=True,
    )
    try:
        cache = private_directory(module.params["cache"])
        members, commit = read_source(module, cache)
        if not members:
            raise ValueError(f"{shown(module.params['source'])}: contains nothing to release")
        release = release_id(members, module.params["recipe"])
        archive = os.path.join(private_directory(os.path.join(cache, "releases")), f"{release}.tar.gz")
        if not is_packed(archive):
            pack(members, archive)
    except (ValueError, OSError) as error:
        module.fail_json(msg=shown(str(error), 1000))
    module.exit_json(changed=False, release=release, archive=archive, commit=commit, files=len(members))


if __name__ == "__main__":
    main()
