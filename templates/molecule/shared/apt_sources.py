"""Where this machine's apt takes Debian's packages from; read from its own configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DEBIAN_SUITES = frozenset(
    ("bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable")
)


@dataclass(frozen=True)
class Source:
    """One place that apt takes packages from."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Mirrors:
    """Where Debian's packages and their security updates come from; the latter may not be configured."""

    archive: str
    security: str | None


ONE_LINE = re.compile(r"\s*deb\s+(?:\[[^]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")


def one_line_sources(text: str) -> list[Source]:
    """Parse apt's one-line format: `deb [options] URI suite component...`."""
    found = (ONE_LINE.match(line.partition("#")[0]) for line in text.splitlines())
    return [Source(line["uri"], line["suite"], tuple(line["components"].split())) for line in found if line]


def deb822_sources(text: str) -> list[Source]:
    """Parse apt's deb822 format: stanzas of `Types:`, `URIs:`, `Suites:` and `Components:`."""
    found = []
    for fields in _stanzas(text):
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        components = tuple(fields.get("components", []))
        uris, suites = fields.get("uris", []), fields.get("suites", [])
        found += [Source(uri, suite, components) for uri in uris for suite in suites]
    return found


def _stanzas(text: str) -> list[dict[str, list[str]]]:
    """Return the stanzas' fields as words; a line that begins with white space continues a field."""
    stanzas: list[dict[str, list[str]]] = [{}]
    field = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0].isspace():
            stanzas[-1].setdefault(field, []).extend(line.split())
        else:
            name, _, value = line.partition(":")
            field = name.lower()
            stanzas[-1].setdefault(field, []).extend(value.split())
    return stanzas


def configured_sources(etc_apt: Path = Path("/etc/apt")) -> list[Source]:
    """Return all package sources that the machine's own apt is configured with."""
    found = []
    for path in [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            found += one_line_sources(path.read_text(encoding="utf-8"))
        elif path.suffix == ".sources" and path.is_file():
            found += deb822_sources(path.read_text(encoding="utf-8"))
    return found


def debian_mirrors(sources: list[Source]) -> Mirrors | None:
    """Pick Debian's own archive among the sources; None where the machine has none, as on Ubuntu.

    Other vendors use Debian's suite names too; the archive is the one that also has a suite's updates.
    """
    usable = [source for source in sources if "main" in source.components and "cdrom:" not in source.uri]

    def serving(suffix: str) -> list[str]:
        suites = {suite + suffix for suite in DEBIAN_SUITES}
        return [source.uri.rstrip("/") for source in usable if source.suite in suites]

    archives = sorted(serving(""), key=lambda uri: uri not in serving("-updates"))
    security = serving("-security")
    return Mirrors(archives[0], security[0] if security else None) if archives else None
