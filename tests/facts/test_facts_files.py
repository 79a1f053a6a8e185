"""Directories of facts: who may have written them, and all that may be wrong with them, said at once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from farrier.errors import HostError, InputError
from farrier.facts.files import read_facts, valid_host_name, write_atomically
from test_facts import document, setup


def write(directory: Path, name: str, content: Any) -> Path:
    """One file; bytes as they are, everything else as JSON."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def messages(directory: Path, kind: type[Exception] = InputError) -> tuple[str, ...]:
    """What reading ends with, the directory's name cut off."""
    with pytest.raises(kind) as caught:
        read_facts(directory)
    return tuple(line.replace(f"{directory}/", "") for line in getattr(caught.value, "messages", ()))


def test_three_kinds_of_files_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, "web1.json", document())
    write(tmp_path, "web2.example.org", setup())
    write(tmp_path, "s1_web3", {"__payload__": json.dumps(setup()["ansible_facts"])})
    write(tmp_path, "chosen_s1_s1_web4", {"__payload__": json.dumps(setup()["ansible_facts"])})
    write(tmp_path, "s1_web5", setup()["ansible_facts"])
    write(tmp_path, ".gitkeep", b"")
    write(tmp_path, "README.md", b"# Facts")
    (tmp_path / "old").mkdir()
    facts = read_facts(tmp_path)
    assert list(facts) == ["s1_web4", "s1_web5", "web1", "web2.example.org", "web3"]
    assert facts["web1"].origin == f"{tmp_path}/web1.json"


def test_statements_for_all_hosts_and_for_one(tmp_path: Path) -> None:
    for name in ("web1", "web2"):
        write(tmp_path, f"{name}.json", document(host=name, cpus=None))
    facts = read_facts(tmp_path, {"cpus": 2, "memory_mb": 1024}, {"web2": {"cpus": 0.5}})
    assert [(host.cpus, host.memory_mb) for host in facts.values()] == [(2, 1024), (0.5, 1024)]


def test_all_errors_of_all_files_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.json", b"{")
    write(tmp_path, "b.json", document(host="b", cpus={"usable": -1}))
    write(tmp_path, "c.json", document(host="c", memory_mb=None))
    write(tmp_path, "d.json", document(host="d"))
    assert messages(tmp_path) == (
        "a.json: not JSON (Expecting property name enclosed in double quotes, line 1, column 2); "
        "it must hold the facts of one host",
        "host b (b.json): cpus.usable is -1; it must be a number above 0 to 4096",
        "host c (c.json): the usable memory is unknown: memory_mb.usable is missing or null; gather the facts "
        "again, or set `memory_mb`",
    )


def test_incomplete_facts_alone_are_a_host_error(tmp_path: Path) -> None:
    write(tmp_path, "c.json", document(host="c", memory_mb=None))
    assert len(messages(tmp_path, HostError)) == 1


def test_an_unsupported_system_is_an_input_error(tmp_path: Path) -> None:
    write(tmp_path, "web1.json", document(system={"distribution": "Fedora", "version": "41"}))
    assert messages(tmp_path) == (
        "host web1 (web1.json): the system is 'Fedora 41'; it must be Debian 12 or newer, or Ubuntu 22.04 or newer",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON (Expecting value, line 1, column 1); it must hold the facts of one host"),
        (b"{\xff\xfe\xfa", "not text in UTF-8; it must be JSON with the facts of one host"),
        (b"[" * 100_000, "nested too deeply; it must be JSON with the facts of one host"),
        (b"1" * 5000, "contains a number of thousands of digits, which no host fact has"),
        (b" " * 10_000_000, "larger than 5 MB; the facts of one host take a few kB"),
    ],
)
def test_files_that_are_no_facts(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, "web1.json", content)
    assert messages(tmp_path) == (f"web1.json: {message}",)


def test_a_byte_order_mark_is_harmless(tmp_path: Path) -> None:
    write(tmp_path, "web1.json", b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert list(read_facts(tmp_path)) == ["web1"]


def test_the_same_host_twice(tmp_path: Path) -> None:
    write(tmp_path, "web1", setup())
    write(tmp_path, "web1.json", document())
    assert messages(tmp_path) == ("host web1: both web1 and web1.json have facts for it; remove one",)


def test_no_directory_an_empty_one_and_one_too_high(tmp_path: Path) -> None:
    high = tmp_path / "facts"
    with pytest.raises(InputError) as caught:
        read_facts(high)
    assert caught.value.messages == (f"{high}: no such file or directory; it must be a directory of host facts",)
    high.mkdir()
    assert messages(high) == (f"{high}: contains no host facts; gather them with `farrier facts`",)
    (high / "production").mkdir()
    assert messages(high) == (f"{high}: contains no host facts; did you mean production?",)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web0.json")
    write(tmp_path, "web1.json", document())
    assert list(read_facts(tmp_path)) == ["web1"]


@pytest.mark.parametrize(
    "name", ["-rf.json", "a b.json", "we\nb.json", "{{7*7}}.json", "a..b.json", "ü.json", "a" * 250]
)
def test_names_that_no_host_should_have(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, document() if not name.startswith("aaa") else setup())
    if name.startswith("aaa"):
        assert list(read_facts(tmp_path)) == [name]
    else:
        with pytest.raises(InputError) as caught:
            read_facts(tmp_path)
        assert "is not a host name; use letters, digits, " in caught.value.messages[0]
        assert "\n" not in caught.value.messages[0]


@pytest.mark.parametrize("name", ["web1", "web-1.example.org", "10.0.0.1", "fe80::1", "::1", "_x", "Web"])
def test_names_of_hosts(name: str) -> None:
    assert valid_host_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-x", ".x", "a/b", "a b", "a\n", "../a", "a..b", "ü", "a\0", "a" * 254]
)
def test_no_names_of_hosts(name: str) -> None:
    assert not valid_host_name(name)


def test_a_thousand_hosts_take_no_time(tmp_path: Path) -> None:
    for number in range(1000):
        write(tmp_path, f"web{number}.json", document(host=f"web{number}"))
    before = time.process_time()
    assert len(read_facts(tmp_path)) == 1000
    assert time.process_time() - before < 1.5


def test_an_unchanged_document_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, "text")
    before = path.stat()
    write_atomically(path, "text")
    assert path.stat().st_ino == before.st_ino
    write_atomically(path, "other")
    assert path.read_text() == "other"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_reading_facts_loads_nothing_heavy() -> None:
    heavy = "('ansible', 'rich', 'pydantic', 'yaml')"
    code = f"import sys, farrier.facts.files; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
