"""The image of a test host: what a fresh Debian server has, and no more; built once for each recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from apt_sources import Mirrors, configured_sources, debian_mirrors
from engine import Engine, HostError, first_that_can, plain_engine, ways_to_start

SUITES = {"debian12": "bookworm", "debian13": "trixie"}

REPOSITORY = "localhost/farrier-host"

# What a server has before anybody deploys to it. Nothing that a role has to install for itself belongs here.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)

USER = "admin"
FIRST_PROCESS = "/usr/local/sbin/host-init"

# Run inside the new system, by either way of building it.
SETUP = Path(__file__).with_name("image-setup.sh")


def ensure(system: str, state: Path) -> str:
    """Return the image's name, after building it where it is missing (about half a minute)."""
    if system not in SUITES:
        raise HostError(f"system {system!r} is not known; known are {', '.join(SUITES)}")
    mirrors = debian_mirrors(configured_sources())
    name = tag(system, mirrors, SETUP.read_text(encoding="utf-8"))
    if plain_engine().attempt("image", "inspect", name).returncode:
        if os.geteuid() == 0 and shutil.which("mmdebstrap") and mirrors:
            _bootstrap(plain_engine(), SUITES[system], mirrors, name)
        else:
            _build(ways_to_start(state), SUITES[system], name)
    return name


def remove_all() -> None:
    """Remove the images of all systems and of all recipes that there have been."""
    engine = plain_engine()
    found = engine.run("images", "--quiet", "--no-trunc", "--filter", f"reference={REPOSITORY}").split()
    if found:
        engine.run("rmi", "--force", *sorted(set(found)))


def tag(system: str, mirrors: Mirrors | None, setup: str) -> str:
    """Name the image after the content of its recipe, so that a changed recipe is a new image."""
    recipe = "\n".join([SUITES[system], *PACKAGES, str(mirrors), setup])
    return f"{REPOSITORY}:{system}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def source_lines(suite: str, mirrors: Mirrors) -> list[str]:
    """Return the suite's lines of sources.list: release, updates, and security where a mirror has it."""
    lines = [f"deb {mirrors.archive} {suite} main", f"deb {mirrors.archive} {suite}-updates main"]
    security = mirrors.security or f"{mirrors.archive}-security"
    if mirrors.security or _answers(f"{security}/dists/{suite}-security/InRelease"):
        lines.append(f"deb {security} {suite}-security main")
    return lines


def _answers(url: str) -> bool:
    """Tell whether a mirror has a file; the address is made from the machine's own configuration."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):
            return True
    except (OSError, ValueError):
        return False


def _bootstrap(engine: Engine, suite: str, mirrors: Mirrors, name: str) -> None:
    """Make the image from the mirror's packages alone; the archive goes straight into the engine."""
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"),
        f"--customize-hook=copy-in {SETUP} /root",
        f'--customize-hook=chroot "$1" sh /root/{SETUP.name} && rm "$1/root/{SETUP.name}"',
        *(suite, "-", *source_lines(suite, mirrors)),
    ]
    with tempfile.TemporaryFile("w+") as complaints:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints) as making:
            change = f'CMD ["{FIRST_PROCESS}"]'
            archive = making.stdout.fileno() if making.stdout else None
            imported = engine.attempt("import", "--change", change, "-", name, stdin=archive)
        complaints.seek(0)
        reasons = complaints.read().split("\n") if making.returncode else imported.stderr.split("\n")
    if making.returncode or imported.returncode:
        engine.attempt("rmi", "--force", name)
        reason = next((line for line in reversed(reasons) if line.strip()), "no reason given")
        raise HostError(f"the image of {suite} could not be made: {reason.strip()}")


def _build(engines: list[Engine], suite: str, name: str) -> None:
    """Make the same image from Debian's official one, for machines with a registry but no mmdebstrap."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(SETUP, scratch)
        (Path(scratch) / "Containerfile").write_text(
            f"FROM debian:{suite}\n"
            f"COPY {SETUP.name} /root/\n"
            f"RUN apt-get update && apt-get install --yes --no-install-recommends {' '.join(PACKAGES)}"
            f" && sh /root/{SETUP.name} && rm -rf /root/{SETUP.name} /var/lib/apt/lists/*\n"
            f'CMD ["{FIRST_PROCESS}"]\n',
            encoding="utf-8",
        )
        first_that_can(engines, "build", "--tag", name, "--file", f"{scratch}/Containerfile", scratch)
