"""A release's tree on the host: unpacked from an archive that is not trusted, and what makes it a finished one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
import zlib

from ansible.module_utils import farrier_beneath as beneath
from ansible.module_utils.farrier_host import Failure

LARGEST_BYTE_CODE = 64 << 20
"""Bytes of one module's byte code."""


def unpack(archive: str, top: str, group: int) -> None:
    """Unpack regular files and links below an empty directory; nothing is written through a link.

    What others could not read in the source can be read by root and `group` alone.
    """
    try:
        _unpack_members(archive, top, group)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise Failure(f"{archive}: {error}") from None


def _unpack_members(archive: str, top: str, group: int) -> None:
    """Unpack them one by one, as long as there is room for what each says that it takes."""
    disk = os.statvfs(top)
    free = room = disk.f_bavail * disk.f_frsize
    made: set[str] = set()
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            path = "/".join(beneath.parts(member.name))
            if not path or not (member.isreg() or member.issym()):
                raise Failure(f"{member.name}: the archive holds something that does not belong in a release")
            room -= member.size
            if room < 0:
                raise Failure(f"the source is larger than the {free >> 20} MB that are free on the disk of {top}")
            above, _, name = path.rpartition("/")
            if above not in made:
                beneath.make_directory(top, above)
                made.add(above)
            try:
                with beneath.directory(top, above) as fd:
                    if member.issym():
                        os.symlink(member.linkname, name, dir_fd=fd)
                    else:
                        write_member(tar, member, fd, name, group)
            except FileExistsError:
                raise Failure(f"{path}: stands in the archive more than once") from None


def write_member(tar: tarfile.TarFile, member: tarfile.TarInfo, fd: int, name: str, group: int) -> None:
    """Write one file of an archive into a directory."""
    source = tar.extractfile(member)
    with beneath.create(fd, name) as file:
        if source:
            shutil.copyfileobj(source, file)
        file.flush()
        if not member.mode & 0o004:
            os.fchown(file.fileno(), -1, group)
        os.fchmod(file.fileno(), public(member.mode) & (0o755 if member.mode & 0o004 else 0o750))
        os.utime(file.fileno(), (member.mtime, member.mtime))


def public(mode: int) -> int:
    """The permissions of what is finished: all may read it, and none but root may write it."""
    return 0o755 if mode & 0o100 else 0o644


def links_stay_inside(top: str, relative: str = "", besides: str = "") -> None:
    """Failure where a link of a tree that is root's by now leads out of `top`, by whatever other links, or to `besides`."""
    real = os.path.realpath(top)
    for directory, folders, files in os.walk(os.path.join(real, relative)):
        for path in (os.path.join(directory, name) for name in [*folders, *files]):
            if not os.path.islink(path):
                continue
            shown, target = os.path.relpath(path, real), os.path.realpath(path)
            if target not in (real, besides) and not target.startswith(real + "/"):
                raise Failure(f"{shown}: the link leads out of the directory, to {os.readlink(path)}")


def date_by_content(top: str, relative: str = "") -> None:
    """Date every static file by its content, because NGINX's ETag is made of a file's date and size.

    A changed file then always has another ETag, and an unchanged one keeps it over releases and on every host.
    """
    with beneath.directory(top, relative) as start:
        for _, _, files, fd in os.fwalk(".", follow_symlinks=False, dir_fd=start):
            for name in files:
                if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    continue
                digest = hashlib.sha256()
                with os.fdopen(beneath.regular(fd, name), "rb") as file:
                    while part := file.read(1 << 20):
                        digest.update(part)
                    date = 1_000_000_000 + int(digest.hexdigest()[:7], 16)
                    os.utime(file.fileno(), (date, date))


def open_to_all(top: str) -> bool:
    """Give every directory of a finished tree the permissions that it should have; whether one had others."""
    if stat.S_IMODE(os.stat(top).st_mode) == 0o755:
        return False  # a umask would have shut all of them, this one too
    with beneath.directory(top) as start:
        for _, _, _, fd in os.fwalk(".", follow_symlinks=False, dir_fd=start):
            os.fchmod(fd, 0o755)
    return True


def take_byte_code(top: str, cache: str, releases: str) -> None:
    """Copy what the compiler left below `releases`/`cache`, a place of the service user's, beside the sources in `top`."""
    for directory, _, files in os.walk(top):
        relative = os.path.relpath(directory, top)
        there = os.path.join(cache, relative)
        for name in beneath.names(releases, there) if any(each.endswith(".py") for each in files) else []:
            found = re.fullmatch(r"(.+)\.[\w-]+\.pyc", name)
            if not found or found.group(1) + ".py" not in files:
                continue
            source = os.lstat(os.path.join(directory, found.group(1) + ".py"))
            code = beneath.read(releases, os.path.join(there, name), LARGEST_BYTE_CODE)
            beneath.make_directory(top, os.path.join(relative, "__pycache__"))
            target = os.path.join(relative, "__pycache__", name)
            beneath.write(top, target, code, public(0) & stat.S_IMODE(source.st_mode), gid=source.st_gid)
