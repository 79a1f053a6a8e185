"""git on the control node: it runs nothing that a repository brings along, and failures are sentences."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import posixpath
import re
import subprocess
from typing import Iterator, Optional

from ansible.module_utils.farrier_members import Git
from ansible.module_utils.farrier_text import shown

HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*"
USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
URL = re.compile(
    rf"https://{HOST}(:\d+)?/[\w.~/@:+%-]+|ssh://({USER}@)?{HOST}(:\d+)?/[\w.~/@:+%-]+"
    rf"|file:///[\w.~/@:+%-]+|{USER}@{HOST}:[\w.~/@:+%][\w.~/@:+%-]*",
    re.ASCII,
)
"""Where a repository may be. What is not listed is not authenticated (git, http) or runs commands (ext)."""

HARMLESS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "protocol.allow": "never",
}
"""Settings that outrank those of a repository: each would have git run a program that it names, or fetch by itself."""

ELSEWHERE = frozenset(
    "GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG_PARAMETERS GIT_OBJECT_DIRECTORY GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE "
    "GIT_PREFIX GIT_COMMON_DIR GIT_NAMESPACE GIT_SHALLOW_FILE GIT_EXTERNAL_DIFF".split()
)
"""What git sets for hooks and aliases: a play that one of these runs is about another repository."""

MOST_NESTED = 10
"""Submodules inside each other."""


def git(*arguments: str, directory: Optional[str] = None, transports: tuple[str, ...] = ()) -> str:
    """Run git and return what it printed; a ValueError carries git's own words."""
    settings = {**HARMLESS, **{f"protocol.{each}.allow": "always" for each in transports}}
    command = ["git", *(["-C", directory] if directory else [])]
    command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    kept = {key: value for key, value in os.environ.items() if key not in ELSEWHERE}
    environment = {**kept, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, env=environment, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise ValueError(f"git: {error.strerror}") from None
    if done.returncode:
        words = (
            done.stderr.decode(errors="replace").strip().replace("\n", " ") or f"ended with status {done.returncode}"
        )
        raise ValueError(f"git {arguments[0]}: {shown(words, 500)}")
    return os.fsdecode(done.stdout)


def _succeeds(*arguments: str, directory: str) -> bool:
    try:
        git(*arguments, directory=directory)
    except ValueError:
        return False
    return True


def is_url(source: str) -> bool:
    """Whether the source is a git URL rather than a directory."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|[\w.-]+@[\w.-]+:", source))


def transports_of(url: str) -> tuple[str, ...]:
    """What git may use to get there; a ValueError says what is wrong with the URL, and tells no password."""
    masked = shown(re.sub(r"://[^/@]*@", "://***@", url))
    if re.match(r"(https?|file)://[^/]*@|[a-z+]+://[^/@]*:[^/@]*@", url):
        raise ValueError(
            f"{masked}: a user, password or token does not belong in the URL; leave it out and let git's credential "
            "helper answer, or use an SSH key with git@HOST:PATH"
        )
    if url.startswith(("git://", "http://")):
        raise ValueError(
            f"{masked}: anybody on the way could send other code, as nothing proves whose it is; use https or ssh"
        )
    if not URL.fullmatch(url):
        raise ValueError(
            f"{masked}: no git URL that can be used here; https://, ssh://, file:/// and USER@HOST:PATH can"
        )
    # The user's own insteadOf may turn one of the two into the other.
    return ("file",) if url.startswith("file:") else ("https", "ssh")


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    with open(path, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_out(url: str, ref: str, cache: str, into: str, nested: int = 0) -> str:
    """Put the files of a ref into a directory, with its submodules, and return the commit.

    A repository is cloned once into the cache; later only what is new is fetched. Two packings wait for each other.
    """
    transports = transports_of(url)
    if not re.fullmatch(r"[A-Za-z0-9_][\w./+@-]*", ref) or ".." in ref:
        raise ValueError(f"{shown(ref)}: no name of a tag, branch or commit")
    clone = os.path.join(cache, "git", hashlib.sha256(url.encode()).hexdigest()[:16])
    with _alone(f"{clone}.lock"):
        if not os.path.isdir(os.path.join(clone, "objects")):
            git("init", "--quiet", "--bare", "--template=", clone)
        commit = _commit(clone, ref) if re.fullmatch("[0-9a-f]{40}", ref) else None
        if not commit:
            every = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            fetch = ("fetch", "--quiet", "--force", "--no-tags")
            git(*fetch, "--prune", "--update-head-ok", url, *every, directory=clone, transports=transports)
            commit = _commit(clone, ref)
            if not commit and re.fullmatch("[0-9a-f]{40}", ref):  # one that no branch leads to
                with contextlib.suppress(ValueError):
                    git(*fetch, url, ref, directory=clone, transports=transports)
                commit = _commit(clone, ref)
        if not commit:
            raise ValueError(f"{shown(ref)}: no tag, branch or commit of {url}; {_refs(clone)}")
        git("--work-tree", into, "checkout", "--force", commit, "--", ".", directory=clone)
        modules = dict(_submodules(clone, commit))
    for path, (address, recorded) in modules.items():
        try:
            inner = os.path.join(os.path.realpath(into), path)
            if os.path.realpath(inner) != inner:
                raise ValueError("is a link")
            _check_out_submodule(url, address, recorded, cache, inner, nested)
        except ValueError as error:
            raise ValueError(f"submodule {shown(path)}: {error}") from None
    return commit


def _check_out_submodule(parent: str, address: str, commit: str, cache: str, into: str, nested: int) -> None:
    url = joined(parent, address)
    if url.startswith("file:") and not parent.startswith("file:"):
        raise ValueError(f"{shown(url)}: a repository from elsewhere has no say in what is read from this machine")
    if nested == MOST_NESTED:
        raise ValueError(f"more than {MOST_NESTED} submodules inside each other")
    check_out(url, commit, cache, into, nested + 1)


def joined(parent: str, address: str) -> str:
    """The address of a submodule, which may be relative to that of the repository it stands in."""
    found = re.match(r"([a-z+]+://[^/]*|[^:/]+:)(.*)", parent)
    if not address.startswith(("./", "../")) or not found:
        return address
    return found.group(1) + posixpath.normpath(posixpath.join(found.group(2), address))


def _commit(clone: str, ref: str) -> Optional[str]:
    """The commit that a tag, a branch or the beginning of a commit's own name stands for."""
    named = [f"refs/tags/{ref}", f"refs/heads/{ref}", *([ref] if re.fullmatch("[0-9a-f]{7,40}|refs/.*", ref) else [])]
    for each in named:
        with contextlib.suppress(ValueError):
            return git(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{each}^{{commit}}", directory=clone
            ).strip()
    return None


def _refs(clone: str) -> str:
    listing = ("for-each-ref", "--sort=-creatordate", "--count=10", "--format=%(refname:lstrip=2)")
    found = git(*listing, "refs/tags", "refs/heads", directory=clone).split()
    return f"the newest are {shown(', '.join(found))}" if found else "it is empty"


def _submodules(clone: str, commit: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Path, address and recorded commit of each."""
    entries = (each.split("\t", 1) for each in git("ls-tree", "-r", "-z", commit, directory=clone).split("\0") if each)
    links = {path: kind.split()[2] for kind, path in entries if kind.startswith("160000 ")}
    if not links:
        return
    described: dict[str, dict[str, str]] = {}
    with contextlib.suppress(ValueError):
        for line in git("config", "--blob", f"{commit}:.gitmodules", "--list", "-z", directory=clone).split("\0"):
            key, _, value = line.partition("\n")
            name, _, what = key.rpartition(".")
            described.setdefault(name, {})[what] = value
    addresses = {each.get("path"): each.get("url") for each in described.values()}
    for path, recorded in links.items():
        address = addresses.get(path)
        if not address:
            raise ValueError(f"submodule {shown(path)}: .gitmodules does not say where it comes from")
        yield path, (address, recorded)


def known(directory: str) -> Optional[Git]:
    """Which files of a directory git does not ignore; None where it has no say, for lack of a repository around it."""
    if not _in_work_tree(directory):
        return None
    found = Git(*_known(directory, 0))
    if (
        not found.directories
        and not found.files
        and _succeeds("check-ignore", "--quiet", directory, directory=directory)
    ):
        return None  # a source that is ignored as a whole, such as what a build has made, is wanted all the same
    return found


def _in_work_tree(directory: str) -> bool:
    try:
        return git("rev-parse", "--is-inside-work-tree", directory=directory).strip() == "true"
    except ValueError as error:
        around = os.path.realpath(directory)
        while around != "/" and not os.path.lexists(os.path.join(around, ".git")):
            around = os.path.dirname(around)
        if around == "/" or "not a git repository" in str(error):
            return False
        raise ValueError(f"{shown(directory)}: what git ignores there is not released, but {error}") from None


def _known(directory: str, nested: int) -> tuple[frozenset[str], frozenset[str]]:
    files, missing = set(), set()
    for listed in git("ls-files", "--cached", "--others", "--exclude-standard", "-z", directory=directory).split("\0"):
        path, full = listed.rstrip("/"), os.path.join(directory, listed.rstrip("/"))
        if not path or not os.path.isdir(full) or os.path.islink(full):
            files.add(path)
        elif os.path.lexists(os.path.join(full, ".git")) and nested < MOST_NESTED:
            inner, gone = _known(full, nested + 1)
            files |= {f"{path}/{each}" for each in inner}
            missing |= {f"{path}/{each}" for each in gone}
        else:
            missing.add(path)
    return frozenset(files - {""}), frozenset(missing)


def describe(directory: str) -> Optional[str]:
    """How git names the state of a directory of a work tree, with `-dirty` when a file of it is not as committed."""
    try:
        name = git("describe", "--always", "--tags", "--abbrev=12", directory=directory).strip()
    except ValueError:
        return None  # no commit yet
    told = git("config", "--list", "--name-only", "--show-scope", "-z", directory=directory).split("\0")
    own = [told[i + 1] for i in range(0, len(told) - 1, 2) if told[i] in ("local", "worktree")]
    if any(re.fullmatch(r"filter\..*\.(clean|process)", key, re.DOTALL) for key in own):
        return name  # to compare would run programs that the repository names
    compare = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "HEAD", "--", ".")
    return name if _succeeds(*compare, directory=directory) else f"{name}-dirty"
