"""Throw-away hosts: what is decided before a container is started."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from farrier.ansible.module_utils.farrier_systems import RELEASES

SHARED = Path(__file__).parents[2] / "templates" / "molecule" / "shared"

DEB822 = """\
# http://snapshot.example/2025
Types: deb
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
# a comment within a stanza
Components: main
 contrib

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts that stand beside each other import each other by their bare names."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(SHARED)
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == SHARED:
            del sys.modules[name]


@pytest.fixture
def apt_sources(shared: None) -> ModuleType:
    return importlib.import_module("apt_sources")


@pytest.fixture
def image(shared: None) -> ModuleType:
    return importlib.import_module("image")


@pytest.fixture
def host(shared: None) -> ModuleType:
    return importlib.import_module("host")


def test_one_line_sources_are_read_with_options_and_comments(apt_sources: ModuleType) -> None:
    text = """
    # deb http://off.example/debian bookworm main
    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # ours
    deb-src http://mirror.example/debian bookworm main
    deb http://mirror.example/flat ./
    deb broken
    """
    assert apt_sources.one_line_sources(text) == [
        apt_sources.Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        apt_sources.Source("http://mirror.example/flat", "./", ()),
    ]


def test_deb822_sources_are_read_with_lists_continued_lines_and_switched_off_stanzas(
    apt_sources: ModuleType,
) -> None:
    assert apt_sources.deb822_sources(DEB822) == [
        apt_sources.Source("http://mirror.example/debian/", "bookworm", ("main",)),
        apt_sources.Source("http://mirror.example/debian/", "bookworm-updates", ("main",)),
        apt_sources.Source("http://mirror.example/debian-security", "bookworm-security", ("main", "contrib")),
    ]


def test_both_formats_are_read_from_where_apt_reads_them(apt_sources: ModuleType, tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://one.example/debian trixie main\n")
    (parts / "b.list").write_text("deb http://two.example/apt stable main\n")
    (parts / "a.sources").write_text("Types: deb\nURIs: http://three.example\nSuites: sid\nComponents: main\n")
    (parts / "old.list.save").write_text("deb http://four.example/apt stable main\n")
    uris = [source.uri for source in apt_sources.configured_sources(tmp_path)]
    assert uris == ["http://one.example/debian", "http://three.example", "http://two.example/apt"]


def test_debians_archive_is_told_from_vendors_that_use_its_suite_names(apt_sources: ModuleType) -> None:
    lines = """
    deb http://vendor.example/tool bookworm main
    deb http://docker.example/linux/debian bookworm stable
    deb http://mirror.example/debian/ bookworm main
    deb http://mirror.example/debian bookworm-updates main
    deb http://mirror.example/debian-security bookworm-security main
    """
    assert apt_sources.debian_mirrors(apt_sources.one_line_sources(lines)) == apt_sources.Mirrors(
        "http://mirror.example/debian", "http://mirror.example/debian-security"
    )


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "deb http://archive.example/ubuntu noble main universe",
        "deb cdrom:[Debian 12]/ bookworm main",
    ],
)
def test_a_machine_without_debians_archive_has_no_mirror(apt_sources: ModuleType, lines: str) -> None:
    assert apt_sources.debian_mirrors(apt_sources.one_line_sources(lines)) is None


def test_an_image_gets_release_updates_and_security_of_its_own_suite(image: ModuleType) -> None:
    mirrors = image.Mirrors("http://m.example/debian", "http://m.example/sec")
    assert image.source_lines("trixie", mirrors) == [
        "deb http://m.example/debian trixie main",
        "deb http://m.example/debian trixie-updates main",
        "deb http://m.example/sec trixie-security main",
    ]


def test_a_mirror_without_security_updates_is_asked_before_it_is_used(
    image: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(url: str) -> bool:
        asked.append(url)
        return False

    monkeypatch.setattr(image, "_answers", refuse)
    lines = image.source_lines("trixie", image.Mirrors("http://m.example/debian", None))
    assert asked == ["http://m.example/debian-security/dists/trixie-security/InRelease"]
    assert [line for line in lines if "security" in line] == []


def test_the_tag_changes_with_the_recipe_and_with_nothing_else(image: ModuleType) -> None:
    mirrors = image.Mirrors("http://m.example/debian", None)
    first = image.tag("debian12", mirrors, "setup")
    assert first == image.tag("debian12", mirrors, "setup")
    assert first.startswith("localhost/farrier-host:debian12-")
    others = {
        image.tag("debian13", mirrors, "setup"),
        image.tag("debian12", mirrors, "other setup"),
        image.tag("debian12", image.Mirrors("http://n.example/debian", None), "setup"),
    }
    assert len(others | {first}) == 4


def test_the_image_holds_nothing_that_a_role_has_to_install(image: ModuleType) -> None:
    assert not {"nginx", "nginx-light", "python3-venv", "python3-pip"} & set(image.PACKAGES)


def test_there_is_an_image_of_every_debian_that_is_supported(image: ModuleType) -> None:
    assert {f"debian{version}": name for version, name in RELEASES["Debian"].items()} == image.SUITES


def test_an_unknown_system_is_refused_with_the_known_ones(image: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(image.HostError, match=r"^system 'suse' is not known; known are debian12, debian13$"):
        image.ensure("suse", tmp_path)


def test_the_engine_is_called_in_the_first_way_that_works(image: ModuleType, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\n[ "$LIMITS" = modest ] || { echo "operation not permitted" >&2; exit 126; }\n')
    tool.chmod(0o755)
    plain = image.Engine(str(tool), {})
    modest = image.Engine(str(tool), {"LIMITS": "modest"})
    assert image.first_that_can([plain, modest], "run") is modest
    with pytest.raises(image.HostError, match=r"run: operation not permitted$"):
        image.first_that_can([plain], "run")


@pytest.mark.parametrize("name", ["", "Web1", "-a", "a_b", "a.b", "a" * 64])
def test_what_is_not_a_host_name_is_refused_before_anything_is_done(
    host: ModuleType, tmp_path: Path, name: str
) -> None:
    with pytest.raises(host.HostError, match="is not a host name"):
        host.up(host.Wanted(name=name), host.State(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_a_host_on_record_is_told_from_one_with_other_limits(host: ModuleType) -> None:
    ways = {"ssh_port": 1, "http_port": 2, "https_port": 3, "private_key": "/k", "container": "c"}
    known = host.Host(name="web1", cpus=1.0, memory_mb=512, **ways)
    assert known.wanted() == host.Wanted(name="web1", system="debian12", cpus=1.0, memory_mb=512)
    assert known.wanted() != host.Wanted(name="web1", system="debian12", cpus=2.0, memory_mb=512)


def test_free_ports_differ(host: ModuleType) -> None:
    assert len(set(host.free_ports(3))) == 3


def test_git_ignores_the_key_of_the_hosts(host: ModuleType, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    state = host.State(tmp_path / ".cache/hosts")
    with state.locked():
        state.private_key()
    said = subprocess.run(["git", "-C", tmp_path, "status", "--short"], check=True, capture_output=True, text=True)
    assert said.stdout == ""


def test_the_state_is_kept_with_the_project_around_the_working_directory(
    host: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "molecule" / "small"
    inside.mkdir(parents=True)
    (tmp_path / "farrier.yml").write_text("")
    monkeypatch.chdir(inside)
    assert host.state_of_project().directory == tmp_path / ".cache" / "hosts"
