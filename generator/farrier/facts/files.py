"""Reads and writes directories of host facts, whoever wrote them; reports everything wrong at once."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from farrier.errors import FarrierError, HostError, InputError
from farrier.facts.documents import kept_part, parse
from farrier.facts.model import HostFacts, require_supported
from farrier.facts.setup import CACHE_PAYLOAD
from farrier.files import is_file, opened, write_whole
from farrier.wording import shown

LARGEST_FILE = 5 * 1000 * 1000
"""Bytes. Facts of a host with hundreds of disks stay below 1 MB; more is a mistake or an attack."""

HOST_NAME = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}", re.ASCII)
"""Host names that are safe as file names; a DNS name has at most 253 characters."""

CACHE_NAME = re.compile(r".*?s\d+_(.+)", re.DOTALL)
"""Since ansible-core 2.19 the schema precedes the host, after a prefix that users can choose."""

NOT_FACTS = (".md", ".txt", ".rst", "~")
"""Suffixes of other files that people put beside facts."""


def valid_host_name(name: str) -> bool:
    """Whether a host's name is safe as a file name."""
    return HOST_NAME.fullmatch(name) is not None and ".." not in name


def read_facts(
    directory: Path,
    stated: Mapping[str, object] | None = None,
    stated_for: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, HostFacts]:
    """Facts of every host in a directory, sorted by host; files may be of any kind that `parse` knows.

    `stated` are the operator's facts for all hosts, `stated_for` those for one host, which take precedence. InputError or
    HostError with one message for each problem in any of the files.
    """
    facts: dict[str, HostFacts] = {}
    errors: list[FarrierError] = []
    for path in fact_files(directory):
        try:
            document = load(path)
            host = host_of(path, document)
            merged = {**(stated or {}), **(stated_for or {}).get(host, {})}
            found = parse(document, host, str(path), merged)
            require_supported(found)
            if host in facts:
                raise InputError(f"host {host}: both {facts[host].origin} and {path} have facts for it; remove one")
            facts[host] = found
        except FarrierError as error:
            errors.append(error)
    if errors:
        kind = InputError if any(isinstance(error, InputError) for error in errors) else HostError
        raise kind(*(message for error in errors for message in error.messages))
    return dict(sorted(facts.items()))


def import_facts(source: Path, output: Path) -> tuple[str, ...]:
    """Import existing facts into `output`/<host>.json, reduced to what a plan reads; returns the hosts' names.

    InputError or HostError as from `read_facts`, and then nothing is written.
    """
    origins = {Path(facts.origin): host for host, facts in read_facts(source).items()}
    for path, host in origins.items():
        kept = kept_part(load(path), f"host {host} ({path}): ")
        write_atomically(output / f"{host}.json", json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return tuple(sorted(origins.values()))


def fact_files(directory: Path) -> list[Path]:
    """The files of a directory that should hold facts, sorted; InputError when there are none."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise InputError(f"{directory}: {reason}; it must be a directory of host facts") from error
    files = [
        directory / entry.name
        for entry in entries
        if entry.is_file() and not entry.name.startswith(".") and not entry.name.endswith(NOT_FACTS)
    ]
    if not files:
        folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        hint = f"; did you mean {directory / folders[0]}?" if folders else "; gather them with `farrier facts`"
        raise InputError(f"{directory}: contains no host facts{hint}")
    return files


def load(path: Path) -> object:
    """The JSON in a file. InputError when it is too large, unreadable, or something else."""
    name = str(path) if str(path).isprintable() else shown(str(path), 200)
    try:
        with opened(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{name}: {(error.strerror or 'unreadable').lower()}") from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"{name}: larger than 5 MB; the facts of one host take a few kB")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise InputError(f"{name}: nested too deeply; it must be JSON with the facts of one host") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{name}: not JSON ({error.msg}, {place}); it must hold the facts of one host") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not text in UTF-8; it must be JSON with the facts of one host") from error
    except ValueError as error:  # Python refuses to parse a number of more than 4,300 digits.
        raise InputError(f"{name}: contains a number of thousands of digits, which no host fact has") from error


def host_of(path: Path, document: object) -> str:
    """The host that a file is about, from the file's name."""
    name = path.name
    if isinstance(document, dict) and CACHE_PAYLOAD in document:
        cached = CACHE_NAME.fullmatch(name)
        name = cached[1] if cached else name
    elif name.endswith(".json"):
        name = name[: -len(".json")]
    if not valid_host_name(name):
        raise InputError(
            f"{shown(str(path), 200)}: {shown(name)} is not a host name; use letters, digits, `.`, `_`, `:` and `-`, "
            "and do not start with `.` or `-`"
        )
    return name


def earlier(path: Path) -> object:
    """The facts gathered before; None if there is nothing usable."""
    try:
        document = load(path)
        parse(document, path.stem, "before")
    except FarrierError:
        return None
    return document


def remove_others(output: Path, hosts: Sequence[str]) -> tuple[str, ...]:
    """Removes the fact documents of all other hosts; returns their names."""
    removed = []
    for path in sorted(output.glob("*.json")):
        if path.stem not in hosts and path.is_file():
            try:
                document = load(path)
            except InputError:
                continue  # Not one of our documents, so not ours to remove.
            if isinstance(document, dict) and "schema" in document and document.get("host") == path.stem:
                path.unlink()
                removed.append(path.stem)
    return tuple(removed)


def require_writable(output: Path, what: str = "facts") -> None:
    """InputError, before any host is contacted, if documents could not be written."""
    nearest = next(place for place in (output.absolute(), *output.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{output}: {what} cannot be written there; it must be a writable directory")


def write_atomically(path: Path, text: str, what: str = "facts") -> None:
    """Writes a file whole or not at all; leaves it alone if it has this content already."""
    content = text.encode(errors="replace")
    try:
        if is_file(path) and path.stat().st_size == len(content) and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or 'unwritable').lower()}; {what} are written there") from error
