"""The systems that Farrier deploys to."""

from __future__ import annotations

import re

RELEASES = {
    "Debian": {"12": "bookworm", "13": "trixie"},
    "Ubuntu": {"22.04": "jammy", "24.04": "noble"},
}
"""Code names of releases by distribution, the oldest supported one first: those before it lack a supported Python and systemd."""

SUPPORTED = [f"{name} {next(iter(releases))} or newer" for name, releases in RELEASES.items()]


def is_supported(name: str, version: str) -> bool:
    """Whether a release is none of those known to be too old; Debian's testing and unstable have no number, and are newer."""
    release = _numbers(version)
    return name in RELEASES and not (release and release < _numbers(next(iter(RELEASES[name]))))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
