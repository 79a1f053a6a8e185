"""Runs on the host, as root: prints where values of secrets show up that others can read.

`APP SLOT NAME...`, the names of the secrets. The values never leave the host.
Python 3.9 and its standard library, because that is what hosts have.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path


def output(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, errors="replace").stdout


def command_lines() -> str:
    """What everybody sees of all processes."""
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # The process has ended meanwhile.
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)


def main() -> None:
    """Looks for each value, as the service itself was given it."""
    app, slot, *names = sys.argv[1:]
    service = f"{app}@{slot}.service"
    main_pid = output("systemctl", "show", service, "--property", "MainPID", "--value").strip()
    entries = Path(f"/proc/{main_pid}/environ").read_text(encoding="utf-8", errors="replace").split("\0")
    environment = {name: value for name, _, value in (entry.partition("=") for entry in entries)}
    places = {
        "the process list": command_lines(),
        "systemctl show": output("systemctl", "show", service, f"{app}.socket", f"{app}-activate.service"),
        "the journal": output("journalctl", "--no-pager", "--output", "cat"),
    }
    missing = [f"{name}: the service was started without it" for name in names if not environment.get(name)]
    leaks = [
        f"{name}: {place} shows it"
        for name in names
        for place, text in places.items()
        if environment.get(name) and environment[name] in text
    ]
    print(json.dumps(missing + leaks))


if __name__ == "__main__":
    main()
