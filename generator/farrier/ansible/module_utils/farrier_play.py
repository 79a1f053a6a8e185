"""What the role's modules share: how one of them fails, and the lock of the play that runs it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Any


class Failure(Exception):
    """What went wrong, in words for the operator."""


@contextlib.contextmanager
def holding(lock: str | None, token: str | None) -> Any:
    """Keep and renew the play's lock meanwhile; fails when another play has it, or a step of one still runs."""
    if not lock:
        yield
        return
    with open(lock, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure("a step of another play still runs on this host; try again when it has ended") from None
        if not token or token not in file.read():
            raise Failure("another play has taken the lock of this one, so this step was not begun")
        os.utime(file.fileno())
        yield
