"""What `application_measurement` answers from a host, checked as it comes in: nothing of it is taken on trust."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from farrier.errors import HostError
from farrier.wording import line, shown

LARGEST_ANSWER = 4 << 20
"""Characters of one line of the callback's: eight thousand samples of nine numbers have at most eight hundred thousand."""

MOST_SAMPLES = 8000
"""What a host measures at most: 4,000 requests before the middle, and 4,000 after it."""

Count = Annotated[int, Field(ge=0, le=10**9)]
Bytes = Annotated[int, Field(ge=0, le=10**15)]
Kilobytes = Annotated[int, Field(ge=0, le=10**9)]
Microseconds = Annotated[int, Field(ge=0, le=600 * 10**6)]
"""Of one request: no request may take longer, in no workload."""

Together = Annotated[int, Field(ge=0, le=10**12)]
"""Microseconds of many."""

Seconds = Annotated[float, Field(ge=0, le=600)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(lambda text: line(text, 120))]
"""What an application calls something: whatever it is, one printable line."""

Names = Annotated[list[Name], Field(max_length=100)]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]{1,200}\.(service|scope)$")]
LARGEST_STATUS = 999


class Part(BaseModel):
    """Of the types that are stated, with finite numbers; what it holds besides is not looked at."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Probe(Part):
    """What one path answered at first; `error` is why it gave none."""

    path: Name
    status: int = Field(ge=0, le=LARGEST_STATUS)
    error: Name


class Process(Part):
    """Memory of a process."""

    private: Kilobytes
    shared: Kilobytes


class Memory(Part):
    """Memory of master and workers."""

    master: Process
    workers: list[Process] = Field(min_length=1, max_length=16)


class Held(Part):
    """What the master holds."""

    python: Annotated[str, AfterValidator(lambda text: line(text, 40))]
    threads: Names
    native: Names
    sockets: Names


class Used(Part):
    """CPU of a service while nothing was asked, and while requests were."""

    idle: Together
    busy: Together


class Spans(Part):
    """How long either went on."""

    idle: Annotated[float, Field(ge=0, le=10**6)]
    busy: Annotated[float, Field(ge=0, le=10**6)]


class Others(Part):
    """What other services computed meanwhile."""

    seconds: Spans
    used_us: Annotated[dict[Unit, Used], Field(max_length=20)]


class Plain(Part):
    """One request after the other; a sample is position, status, bytes, and six times in microseconds."""

    names: Annotated[list[str], Field(min_length=1, max_length=1000)]
    probes: Annotated[list[Probe], Field(max_length=1000)]
    samples: Annotated[list[Annotated[list[Bytes], Field(min_length=9, max_length=9)]], Field(max_length=MOST_SAMPLES)]
    boots: Annotated[list[Seconds], Field(min_length=1, max_length=16)]
    growth_kb: Annotated[list[Kilobytes], Field(min_length=3, max_length=3)]
    longest_segment: Seconds
    stolen_share: Share
    memory: Memory
    held: Held
    others: Others


class Preload(Part):
    """With preload: what is held, or why it failed."""

    held: Held | None = None
    memory: Memory | None = None
    failed: Annotated[str, AfterValidator(lambda text: line(text, 600))] | None = None


class Threads(Part):
    """One worker with one busy thread, and with many."""

    steps: Annotated[
        list[Annotated[list[Kilobytes], Field(min_length=2, max_length=2)]], Field(min_length=2, max_length=2)
    ]
    alone: Annotated[list[Together], Field(min_length=2, max_length=2)]
    busy: Annotated[list[Together], Field(min_length=2, max_length=2)]
    bad: Count


class Answer(Part):
    """What the three phases found."""

    plain: Plain
    preload: Preload
    threads: Threads


def checked(found: object, host: str, asked: set[str]) -> dict[str, Any]:
    """The answer of a host as plain data; HostError where it is none to what was asked for."""
    try:
        answer = Answer.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        given = first["input"]
        said = shown(given) if isinstance(given, str | int | float | None) else f"a {type(given).__name__}"
        raise _refused(host, f"{line(where, 80)}: {line(first['msg'], 120)}, not {said}") from None
    plain, preload = answer.plain, answer.preload
    if others := set(plain.names) - asked:
        raise _refused(host, f"plain.names: {shown(min(others))} was not asked for")
    for number, sample in enumerate(plain.samples):
        position, status, _, *times = sample
        if position >= len(plain.names) or status > LARGEST_STATUS or max(times) > 600 * 10**6:
            raise _refused(host, f"plain.samples.{number}: {shown(sample)} is no request that was sent")
    if preload.failed is None and (preload.held is None or preload.memory is None):
        raise _refused(host, "preload: says neither what was found nor why it failed")
    return answer.model_dump(exclude_none=True)


def _refused(host: str, why: str) -> HostError:
    return HostError(f"host {line(host, 80)}: what it answers to the measurement cannot be used: {why}")
