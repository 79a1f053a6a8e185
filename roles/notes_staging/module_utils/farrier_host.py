"""What the role's modules do on a host: run commands, ask systemd, look at processes, hold the play's lock, and fail."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import subprocess
import time
from typing import IO, Any, Iterator

LARGEST_TEXT = 64 << 20
"""Bytes of a file of the kernel's or of Debian's that is read as a whole; the list of all packages has a few million."""

TEXT_AT_ONCE = 1 << 16
"""Bytes of it that are asked for at a time: files below /proc/sys refuse to be read by 4 MiB and more."""

NAMED = 3
"""Words of a command that failed which are told: systemd-run gets dozens."""

SHOWN = "ActiveState,MainPID,NRestarts,UnitFileState,NeedDaemonReload,Result,ControlGroup,MemoryMax"

LOCK: dict[str, dict[str, Any]] = {"lock": {"type": "path"}, "token": {"type": "str", "no_log": False}}
"""The arguments of a module that holds the play's lock while it runs."""


class Failure(Exception):
    """What went wrong, in words for the operator."""


def run(*command: str) -> str:
    """Run a command and return its output; Failure with its own words."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command[:NAMED])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def output(*command: str) -> str:
    """Run a command that may fail, and return what it printed; empty when there is no such program."""
    with contextlib.suppress(OSError):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False
        ).stdout
    return ""


def read(path: str | os.PathLike[str]) -> str:
    """The text of a file that is root's or the kernel's; empty when it is missing or not ours to read."""
    with contextlib.suppress(OSError, ValueError), open(path, "rb", buffering=0) as file:
        parts = iter(lambda: file.read(TEXT_AT_ONCE), b"")
        return b"".join(itertools.islice(parts, LARGEST_TEXT // TEXT_AT_ONCE)).decode("utf-8", "replace")
    return ""


def logged(since: int, lines: int, *which: str) -> list[str]:
    """The last lines of the journal since a time, in seconds, in their order.

    Asked for in reverse, because journalctl up to version 254 takes --lines of --since from its beginning.
    """
    bounds = (f"--since=@{since}", "--reverse", f"--lines={lines}", "--no-pager", "--quiet", "--output=cat")
    return output("journalctl", *which, *bounds).split("\n")[::-1]


def show(unit: str) -> dict[str, str]:
    """What systemd knows about a unit."""
    said = run("systemctl", "show", "-p", SHOWN, unit)
    return {**dict.fromkeys(SHOWN.split(","), ""), **dict(re.findall("(?m)^([^=]+)=(.*)$", said))}


def main_pid(unit: str) -> int:
    """The main process of a unit; 0 when it has none."""
    found = show(unit)["MainPID"]
    return int(found) if re.fullmatch("[0-9]+", found) else 0


def parent(pid: int, proc: str = "/proc") -> int:
    """The parent of a living process; 0 when there is no such process."""
    with contextlib.suppress(ValueError):
        state, found = read(f"{proc}/{pid}/stat").rpartition(")")[2].split()[:2]
        return 0 if state in ("Z", "X") else int(found)  # one that has ended stays until its parent asks how
    return 0


def children(master: int, proc: str = "/proc") -> list[int]:
    """The living children of a process."""
    everyone = (int(name) for name in os.listdir(proc) if name.isdecimal() and name.isascii()) if master else ()
    return sorted(pid for pid in everyone if parent(pid, proc) == master)


def memory_kb(pids: list[int]) -> int:
    """Memory of some processes, pages that they share counted once."""
    found = (re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE) for pid in pids)
    return sum(int(each[1]) for each in found if each)


def locked(file: IO[str], seconds: float = 0.0) -> bool:
    """Hold an open file until it is closed (flock); False when somebody else still holds it after so long."""
    limit = time.monotonic() + seconds
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= limit:
            return False
        time.sleep(0.1)


@contextlib.contextmanager
def holding(lock: str | None, token: str | None) -> Iterator[None]:
    """Keep and renew the play's lock meanwhile; fails when another play has it, or a step of one still runs."""
    if not lock:
        yield
        return
    with open(lock, "r+", encoding="utf-8") as file:
        if not locked(file):
            raise Failure("a step of another play still runs on this host; try again when it has ended")
        if not token or token not in file.read():
            raise Failure("another play has taken the lock of this one, so this step was not begun")
        os.utime(file.fileno())
        yield
