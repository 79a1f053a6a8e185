"""Where a measurement's requests come from: the project file, an access log, a Locust file."""

import gzip
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from farrier.errors import InputError
from farrier.measure.access_log import LONGEST_LINE, UNCHANGING, asked_in_log
from farrier.measure.locust_file import asked_by_users
from farrier.measure.requests import RequestMix, of_urls
from farrier.project.model import Project
from farrier.wording import line, shown

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
GZIP = b"\x1f\x8b"
LARGEST_RECORD = 1 << 28
"""Bytes of all requests recorded from a Locust file; four hundred of the largest bodies take 140 MB."""

RECORD_SECONDS = 60
"""Seconds for all users of a Locust file; each also has its own limit."""


class _Recorded(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    method: Annotated[str, Field(pattern=r"^[A-Za-z_-]{1,20}$")]
    target: str
    headers: dict[str, str]
    body: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None
    name: str
    starting: bool


class _User(BaseModel):
    """What the recorder writes for one class of user, whose code is the operator's and may do anything."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    name: str
    weight: float = Field(ge=0, le=1_000_000)
    seconds: float = Field(ge=0, le=1e9)
    requests: list[_Recorded]
    notes: list[str]


USERS = TypeAdapter(list[_User])


@dataclass(frozen=True)
class RequestSource:
    """The file that the requests come from, and its methods to use; the project file if there is none."""

    access_log: Path | None = None
    locustfile: Path | None = None
    methods: str | None = None


def asked_for(project: Project, source: RequestSource) -> RequestMix:
    """The requests to measure: from the log or the Locust file if one is named, else from the project file.

    InputError where the file cannot be used.
    """
    access_log, locustfile, methods = source.access_log, source.locustfile, source.methods
    if access_log and locustfile:
        raise InputError("--access-log and --locustfile: use one of them; requests come from one source")
    wanted = parse_methods(methods)
    static = project.application.static.url if project.application.static else None
    if locustfile:
        return asked_by_users(record(locustfile), shown_name(locustfile), wanted, static)
    if access_log:
        if others := [each for each in wanted if each not in UNCHANGING]:
            raise InputError(f"--methods {','.join(others)}: an access log does not record bodies; use a Locust file")
        return asked_in_log(lines(access_log), shown_name(access_log), wanted, static)
    if methods is not None:
        raise InputError("--methods is for --locustfile and --access-log; `application.urls` are requested with GET")
    return of_urls(dict(project.application.urls) or {project.application.health_path: 1.0})


def parse_methods(text: str | None) -> tuple[str, ...]:
    """`--methods GET,POST`; by default those that change nothing."""
    if text is None:
        return UNCHANGING
    found = tuple(dict.fromkeys(each.strip().upper() for each in text.split(",")))
    if wrong := [each for each in found if each not in METHODS]:
        raise InputError(f"--methods {shown(wrong[0])}: must be some of {', '.join(METHODS)}, with commas between")
    return found


def shown_name(path: Path) -> str:
    """The file's name for sentences."""
    return shown(path.name, 100)


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a log, gzipped or not, one at a time; very long ones are cut."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            with gzip.open(raw) if packed else raw as file:
                whole = True
                while piece := file.readline(LONGEST_LINE):
                    if whole:
                        yield piece
                    whole = piece.endswith(b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a complete gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def record(path: Path) -> list[dict[str, object]]:
    """What the users of a Locust file send; they run in a separate process, since Locust patches the standard library."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a Locust file, such as locustfile.py")
    with tempfile.TemporaryDirectory(prefix="farrier-locust-") as directory:
        result = Path(directory, "result.json")
        command = [sys.executable, "-m", "farrier.measure.locust_recorder", str(path), str(result)]
        try:
            done = subprocess.run(  # noqa: S603 - no shell; our own program
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=RECORD_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: its users do not finish within {RECORD_SECONDS} s") from None
        if not result.exists():
            said = (done.stderr or done.stdout).strip().splitlines() or [f"it exited with status {done.returncode}"]
            raise InputError(f"{path}: its users cannot be run: {shown(said[-1], 300)}")
        if result.stat().st_size > LARGEST_RECORD:
            raise InputError(f"{path}: its users send more than {LARGEST_RECORD >> 20} MB; use smaller bodies")
        return recorded(result.read_bytes(), path)


def recorded(content: bytes, path: Path) -> list[dict[str, object]]:
    """The recorder's output as plain data; InputError if the users' code has corrupted it."""
    try:
        return [user.model_dump() for user in USERS.validate_json(content)]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: its users cannot be used: {line(where, 80)}: {line(first['msg'], 200)}") from None
