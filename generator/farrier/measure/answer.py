"""What `application_measurement` answers from a host, checked as it comes in: nothing of it is taken on trust."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from farrier.errors import HostError
from farrier.wording import line, shown

LARGEST_ANSWER = 4 << 20
"""Characters of one host's answer as JSON: eight thousand samples of nine numbers have at most eight hundred thousand."""

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


class ProcessMemory(Part):
    """Memory of a process."""

    private: Kilobytes
    shared: Kilobytes


class GunicornMemory(Part):
    """Memory of master and workers."""

    master: ProcessMemory
    workers: list[ProcessMemory] = Field(min_length=1, max_length=16)


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


class OtherServices(Part):
    """What other services computed meanwhile."""

    seconds: Spans
    used_us: Annotated[dict[Unit, Used], Field(max_length=20)]


class RequestSample(Part):
    """One request that was answered while no other was, and what it took."""

    request: int = Field(ge=0)
    """Position in `Plain.names`."""
    status: int = Field(ge=0, le=LARGEST_STATUS)
    bytes: Bytes
    cpu_us: Microseconds
    """CPU of the workers since the request before: a worker has still to close and to log."""
    wall_us: Microseconds
    """From question to answer, without the reference; so are the next three."""
    inside_us: Microseconds
    """CPU of the workers."""
    delay_us: Microseconds
    """Standing ready without a CPU, there or here."""
    client_us: Microseconds
    """CPU of the client."""
    reference_us: Microseconds
    """How long a worker took for fixed work at this moment; part of none of the others."""

    @property
    def good(self) -> bool:
        """Whether the answer was 2xx or 3xx."""
        return 200 <= self.status < 400


def rows(columns: object) -> object:
    """Samples one by one, of which a host sends each figure's values together."""
    if not isinstance(columns, dict) or not all(isinstance(column, list) for column in columns.values()):
        raise ValueError("not a list for each figure")
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("not every request has all figures")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Growth(Part):
    """Memory of the workers before the requests, after half of them, and after all."""

    begin: Kilobytes
    half: Kilobytes
    end: Kilobytes


class Plain(Part):
    """One request after the other."""

    names: Annotated[list[str], Field(min_length=1, max_length=1000)]
    probes: Annotated[list[Probe], Field(max_length=1000)]
    samples: Annotated[list[RequestSample], Field(max_length=MOST_SAMPLES), BeforeValidator(rows)]
    boots: Annotated[list[Seconds], Field(min_length=1, max_length=16)]
    growth_kb: Growth
    longest_segment: Seconds
    stolen_share: Share
    memory: GunicornMemory
    held: Held
    others: OtherServices


class Preload(Part):
    """With preload: what is held, or why it failed."""

    held: Held | None = None
    memory: GunicornMemory | None = None
    failed: Annotated[str, AfterValidator(lambda text: line(text, 600))] | None = None


class ThreadMemory(Part):
    """How many threads a worker has, and what it holds for itself alone."""

    threads: Count
    private_kb: Kilobytes


class TurnCost(Part):
    """What a worker has answered, how often badly, and its CPU for that together."""

    requests: Together
    bad: Count
    cpu_us: Together


class Threads(Part):
    """One worker with one busy thread, and with many."""

    few_threads: ThreadMemory
    many_threads: ThreadMemory
    alone: TurnCost
    busy: TurnCost


class Answer(Part):
    """What the three phases found."""

    plain: Plain
    preload: Preload
    threads: Threads


def first_error(error: ValidationError) -> str:
    """Where the first error is, and what is there instead of what should be."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    given = first["input"]
    said = shown(given) if isinstance(given, str | int | float | None) else f"a {type(given).__name__}"
    return f"{line(where, 80)}: {line(first['msg'], 120)}, not {said}"


def checked(found: object, host: str, asked: set[str]) -> dict[str, Any]:
    """The answer of a host as plain data; HostError where it is none to what was asked for."""
    try:
        answer = Answer.model_validate(found)
    except ValidationError as error:
        raise _refused(host, first_error(error)) from None
    plain, preload = answer.plain, answer.preload
    if others := set(plain.names) - asked:
        raise _refused(host, f"plain.names: {shown(min(others))} was not asked for")
    if any(sample.request >= len(plain.names) for sample in plain.samples):
        raise _refused(host, "plain.samples: one is of no request that was sent")
    if preload.failed is None and (preload.held is None or preload.memory is None):
        raise _refused(host, "preload: says neither what was found nor why it failed")
    found = answer.model_dump(exclude_none=True)
    found["plain"]["samples"] = plain.samples
    return found


def _refused(host: str, why: str) -> HostError:
    return HostError(f"host {line(host, 80)}: what it answers to the measurement cannot be used: {why}")
