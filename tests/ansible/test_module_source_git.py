"""farrier_source and git: a repository as the source, one around it, and what neither may do to this machine."""

import fcntl
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from test_module_source import names, pack, small_source, write


def git(directory: Path, *arguments: str) -> str:
    settings = ("user.name=x", "user.email=x@example.org", "init.defaultBranch=main", "protocol.file.allow=always")
    options = [part for each in settings for part in ("-c", each)]
    return subprocess.run(
        ["git", "-C", directory, *options, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(directory: Path) -> Path:
    small_source(directory)
    git(directory, "init")
    git(directory, "add", ".")
    git(directory, "commit", "-m", "first")
    return directory


def test_a_git_repository_gives_the_release_of_its_files(tmp_path: Path) -> None:
    source, cache = repository(tmp_path / "source"), tmp_path / "cache"
    git(source, "tag", "v1")
    first = git(source, "rev-parse", "HEAD")
    url = f"file://{source}"

    by_tag = pack(url, cache, ref="v1")
    assert by_tag["release"] == pack(source, cache)["release"] == "88a9f5c7d523"
    assert by_tag["commit"] == first

    (source / "app.py").unlink()
    git(source, "commit", "-am", "second")
    moved = pack(url, cache, ref="main")
    assert names(moved) == ["manage.py", "static/style.css"]
    assert pack(url, cache, ref=first)["release"] == by_tag["release"], "a known commit needs no fetch"
    assert [each.name for each in cache.iterdir() if each.name.startswith("checkout-")] == []


def test_a_ref_that_is_not_there_or_no_ref_is_named(tmp_path: Path) -> None:
    source, cache = repository(tmp_path / "source"), tmp_path / "c"
    url = f"file://{source}"
    git(source, "branch", "passing")
    pack(url, cache, ref="passing")
    git(source, "branch", "-D", "passing")
    assert pack(url, cache, ref="passing")["msg"] == f"passing: no tag, branch or commit of {url}; the newest are main"
    assert pack(url, cache)["msg"] == f"{url}: a git repository needs a ref, such as a tag"
    assert pack(url, cache, ref="--upload-pack=x")["msg"] == "--upload-pack=x: no name of a tag, branch or commit"
    assert pack(url, cache, ref="HEAD")["msg"].startswith("HEAD: no tag, branch or commit")
    assert pack(f"file://{tmp_path}/nowhere", cache, ref="v1")["msg"].startswith("git fetch: fatal: ")


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@example.org/n.git", "https://s3cret@example.org/n", "ssh://a:s3cret@b/c"]
)
def test_a_password_in_a_url_is_refused_and_not_told(tmp_path: Path, url: str) -> None:
    packed = pack(url, tmp_path / "c", ref="main")
    assert packed["msg"].endswith(
        ": a user, password or token does not belong in the URL; leave it out and let git's credential helper answer, or "
        "use an SSH key with git@HOST:PATH"
    )
    assert "s3cret" not in packed["msg"]


@pytest.mark.parametrize("url", ["git://example.org/n.git", "http://example.org/n.git", "HTTP://example.org/n"])
def test_a_url_that_proves_nothing_is_refused(tmp_path: Path, url: str) -> None:
    said = pack(url, tmp_path / "c", ref="main")["msg"]
    assert said.startswith(f"{url}: ")
    assert said.endswith(("use https or ssh", "https://, ssh://, file:/// and USER@HOST:PATH can"))


def is_waited_for(file: int) -> bool:
    """Whether somebody waits for the lock on a file, as the kernel's list says it."""
    inode = os.fstat(file).st_ino
    return any(f":{inode} " in line and " -> " in line for line in Path("/proc/locks").read_text().splitlines())


def test_two_packings_of_one_repository_wait_for_each_other(tmp_path: Path) -> None:
    source, cache = repository(tmp_path / "source"), tmp_path / "c"
    url = f"file://{source}"
    pack(url, cache, ref="main")
    (lock,) = (cache / "git").glob("*.lock")
    with lock.open() as file, ThreadPoolExecutor(1) as pool:
        fcntl.flock(file, fcntl.LOCK_EX)
        packing = pool.submit(pack, url, cache, ref="main")
        while not is_waited_for(file.fileno()):
            assert not packing.done(), "it did not wait"
        fcntl.flock(file, fcntl.LOCK_UN)
        assert packing.result()["release"] == "88a9f5c7d523"


def with_submodules(tmp_path: Path) -> Path:
    """A repository with a submodule, which has one too."""
    deepest, inner = repository(tmp_path / "deepest"), repository(tmp_path / "inner")
    git(inner, "submodule", "add", "../deepest", "more")
    git(inner, "commit", "-m", "submodule")
    source = repository(tmp_path / "source")
    git(source, "submodule", "add", f"file://{inner}", "vendor/inner")
    git(source, "commit", "-m", "submodule")
    (deepest / "later.py").write_text("not recorded")
    git(deepest, "add", ".")
    git(deepest, "commit", "-m", "later")
    return source


def test_submodules_are_released_at_their_recorded_commits(tmp_path: Path) -> None:
    source, cache = with_submodules(tmp_path), tmp_path / "c"
    by_url = pack(f"file://{source}", cache, ref="main")
    assert [path for path in names(by_url) if path.startswith("vendor/inner")] == [
        "vendor/inner/.gitmodules",
        "vendor/inner/app.py",
        "vendor/inner/manage.py",
        "vendor/inner/more/app.py",
        "vendor/inner/more/manage.py",
        "vendor/inner/more/static/style.css",
        "vendor/inner/static/style.css",
    ]
    git(source, "submodule", "update", "--init", "--recursive")
    assert pack(source, cache)["release"] == by_url["release"]


def test_a_submodule_that_is_not_there_is_named(tmp_path: Path) -> None:
    source, cache = with_submodules(tmp_path), tmp_path / "c"
    assert pack(source, cache)["msg"].startswith(
        "vendor/inner/more: a submodule that is not checked out; run git submodule update --init --recursive, or name it"
    )
    (source / ".farrierignore").write_text("vendor\n")
    assert names(pack(source, cache)) == [".gitmodules", "app.py", "manage.py", "static/style.css"]
    (tmp_path / "inner").rename(tmp_path / "gone")
    said = pack(f"file://{source}", cache, ref="main")["msg"]
    assert said.startswith("submodule vendor/inner: git fetch: fatal: ")


def test_what_git_ignores_is_not_released_and_does_not_count(tmp_path: Path) -> None:
    source, cache = repository(tmp_path / "source"), tmp_path / "c"
    (source / ".gitignore").write_text("*.env\ncache\ndist\n")
    before = pack(source, cache)
    assert names(before) == [".gitignore", "app.py", "manage.py", "static/style.css"]
    write(source, "production.env", "cache/a", "dist/app.js", "static/cache/b")
    assert pack(source, cache)["release"] == before["release"]
    write(source, "new.py")
    assert "new.py" in names(pack(source, cache))
    # Built files that are wanted are taken back in, with all below them.
    write(source, "dist/deep/b.js")
    (source / ".farrierignore").write_text("!dist\n")
    assert [path for path in names(pack(source, cache)) if "dist" in path] == ["dist/app.js", "dist/deep/b.js"]


def test_a_source_below_the_top_of_a_repository(tmp_path: Path) -> None:
    top, cache = tmp_path / "top", tmp_path / "c"
    top.mkdir()
    git(top, "init")
    small_source(top / "web")
    (top / ".gitignore").write_text("*.log\nbuilt\n")
    write(top / "web", "debug.log", "gone.py")
    git(top, "add", ".")
    git(top, "commit", "-m", "first")
    (top / "web/gone.py").unlink()
    assert names(pack(top / "web", cache)) == ["app.py", "manage.py", "static/style.css"]
    # A source that is ignored as a whole is what a build has made.
    small_source(top / "built")
    write(top / "built", "debug.log")
    assert "debug.log" in names(pack(top / "built", cache))


def test_the_commit_says_whether_the_source_is_as_committed(tmp_path: Path) -> None:
    source, cache = repository(tmp_path / "source"), tmp_path / "c"
    git(source, "tag", "v1")
    os.utime(source / "app.py", (1, 1))
    assert pack(source, cache)["commit"] == "v1"
    (source / "app.py").write_text("changed")
    assert pack(source, cache)["commit"] == "v1-dirty"
    assert pack(small_source(tmp_path / "bare"), cache)["commit"] is None


def hostile_settings(source: Path, ran: Path) -> None:
    """Everything that would have git run a command of the repository's choosing."""
    for key in (
        "core.fsmonitor",
        "filter.x.clean",
        "filter.x.smudge",
        "filter.x.process",
        "core.sshCommand",
        "diff.external",
        "diff.x.textconv",
        "core.pager",
        "core.alternateRefsCommand",
        "uploadpack.packObjectsHook",
    ):
        git(source, "config", key, f"touch {ran}; cat")
    (source / ".gitattributes").write_text("* filter=x diff=x\n")
    for name in ("post-index-change", "post-checkout", "reference-transaction", "pre-auto-gc"):
        hook = source / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
        hook.chmod(0o755)
    (source / "app.py").write_text("changed")


def test_a_repository_around_the_source_runs_nothing(tmp_path: Path) -> None:
    source, ran = repository(tmp_path / "source"), tmp_path / "ran"
    hostile_settings(source, ran)
    packed: dict[str, Any] = pack(source, tmp_path / "c")
    assert packed["release"]
    assert not ran.exists()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "ext::sh -c touch% {ran}",
            "no git URL that can be used here; https://, ssh://, file:/// and USER@HOST:PATH can",
        ),
        (
            "--upload-pack=touch {ran}",
            "no git URL that can be used here; https://, ssh://, file:/// and USER@HOST:PATH can",
        ),
        (None, ".gitmodules does not say where it comes from"),
    ],
)
def test_a_repository_as_the_source_runs_nothing(tmp_path: Path, address: str | None, told: str) -> None:
    source, ran = repository(tmp_path / "source"), tmp_path / "ran"
    if address:
        content = f'[submodule "../../x"]\n\tpath = x\n\turl = "{address.format(ran=ran)}"\n'
        (source / ".gitmodules").write_text(content)
    (source / ".gitattributes").write_text("* filter=x diff=x\n")
    git(source, "add", ".")
    git(source, "update-index", "--add", "--cacheinfo", f"160000,{git(source, 'rev-parse', 'HEAD')},x")
    git(source, "commit", "-m", "hostile")
    hostile_settings(source, ran)
    said = pack(f"file://{source}", tmp_path / "c", ref="main")["msg"]
    assert said.startswith("submodule x: ")
    assert said.endswith(told)
    assert not ran.exists()


def test_a_repository_of_somebody_else_is_not_read_as_if_it_were_none(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("files change hands here, which root alone may do")
    source = repository(tmp_path / "source")
    os.chown(source, 4321, 4321)
    os.chown(source / ".git", 4321, 4321)
    said = pack(source, tmp_path / "c")["msg"]
    assert "what git ignores there is not released, but git rev-parse: fatal: detected dubious ownership" in said
