"""What single values in the project file may be: names, paths, commands, figures, facts, settings. An allow-list."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from farrier import policy
from farrier.facts import FACTS, Number, Text, is_a, quoted
from farrier.reserved import why_not_a_variable
from farrier.settings import BY_NAME, SPECS, SettingSpec, Value
from farrier.trust import HEADER, MARKS
from farrier.units import nearest
from farrier.workload import Workload

NAME = r"^[a-z](-?[a-z0-9])*$"
HOST_NAME = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
INNER_PATH = r"^[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*$"
COMMAND = r"^[A-Za-z0-9_./][A-Za-z0-9_@+=:,./ -]*$"
REQUEST_PATH = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$"
SOURCE_DIRECTORY = re.compile(r"(\.{1,2}|[A-Za-z0-9_][A-Za-z0-9._+-]*)(/(\.{1,2}|[A-Za-z0-9_.][A-Za-z0-9._+-]*))*/?")


_LAST = "".join(chr(plane | low) for plane in range(0, 0x110000, 0x10000) for low in (0xFFFE, 0xFFFF))
NO_TEXT = re.compile(f"[\\x00-\\x08\\x0b-\\x1f\\x7f\\ufdd0-\\ufdef{_LAST}]")
"""Characters for which systemd drops a value or its whole file: control characters other than tab and newline, and what
`unichar_is_valid` in its utf8.c refuses."""


def _plain(value: object) -> object:
    """A text that Ansible, which evaluates Jinja wherever it meets it, and systemd take as it stands."""
    if not isinstance(value, str):
        return value
    if any(mark in value for mark in MARKS):
        raise ValueError("Ansible would evaluate {{, {% and {#; set this value in the inventory, tagged !unsafe")
    if HEADER in value:
        raise ValueError(
            f"Ansible would read delimiters after {HEADER}; set this value in the inventory, tagged !unsafe"
        )
    if bad := NO_TEXT.search(value):
        raise ValueError(
            f"holds U+{ord(bad.group()):04X}, for which systemd drops the value or its whole file; remove it"
        )
    return value


def _text_of_scalar(value: object) -> object:
    """An environment value may be written as a whole number; anything that has two spellings must be quoted."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, bool | float):
        raise ValueError("has more than one spelling as text; put it in quotes")  # noqa: TRY004 - pydantic wants ValueError
    return _plain(value)


def inside(value: str) -> str:
    """Refuse a path that leaves the directory it is meant for."""
    if ".." in value.split("/"):
        raise ValueError("leaves the source directory; name a path inside it")
    return value


Name = Annotated[str, Field(pattern=NAME, max_length=30)]
InnerPath = Annotated[str, Field(pattern=INNER_PATH, max_length=200)]
Command = Annotated[str, Field(pattern=COMMAND, max_length=500)]
HostName = Annotated[str, Field(pattern=HOST_NAME, max_length=253)]
UrlPath = Annotated[str, Field(pattern=r"^/(\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]*/?)*$", max_length=200)]
RequestPath = Annotated[str, Field(pattern=REQUEST_PATH, max_length=500)]
Weight = Annotated[float, Field(gt=0, le=1_000_000)]
ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]+$", max_length=200)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
EnvironmentValue = Annotated[str, BeforeValidator(_text_of_scalar), Field(max_length=65_536, pattern="^[^\\x00]*$")]
HostsPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*!][A-Za-z0-9_.:,*&!\[\]-]*$", max_length=253)]
InventoryHost = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._:-]*$", max_length=253)]


class Model(BaseModel):
    """Unknown keys are mistakes, and `"3"` is not 3."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def check_variables(names: dict[str, str]) -> None:
    """Refuse environment variables that belong to systemd or the plan."""
    for name in sorted(names):
        if why := why_not_a_variable(name):
            raise ValueError(f"{name} {why}; remove it")


Measurable = Literal[
    "cpu_seconds",
    "wait_seconds",
    "busy_cpu_seconds",
    "other_cpu_seconds",
    "cpu_scv",
    "service_scv",
    "longest_cpu_segment_seconds",
    "memory_private_mb",
    "memory_shared_mb",
    "memory_total_mb",
    "memory_thread_mb",
    "boot_seconds",
    "preload_safe",
]
"""The keys of a workload that `farrier measure` finds out; the others are wishes."""


class Reference(Model):
    """How fast a host was while it was measured: CPU seconds of a piece of work that is always the same."""

    on: str = Field(max_length=400, description="host and Python, such as web1 with Python 3.11.2")
    seconds: float = Field(gt=0, le=60, description="CPU seconds of that work, such as 0.0012")


class WorkloadInput(Model):
    """What one request costs and what is asked for; every key is optional."""

    cpu_seconds: float = Field(0.02, gt=0, le=600, description="CPU seconds of one request, such as 0.02")
    wait_seconds: float = Field(0.03, ge=0, le=600, description="seconds one request waits for others, such as 0.03")
    busy_cpu_seconds: float | None = Field(
        None, gt=0, le=600, description="CPU seconds of one request while many are under way, such as 0.018"
    )
    cpu_scv: float = Field(
        policy.SERVICE_SCV,
        ge=0,
        le=10_000,
        description="how much the CPU time of requests varies: variance over mean squared, such as 1; 0 for always the same",
    )
    service_scv: float = Field(
        policy.SERVICE_SCV, ge=0, le=10_000, description="the same for CPU and wait together, such as 1"
    )
    longest_cpu_segment_seconds: float | None = Field(
        None, gt=0, le=600, description="longest time that a request computes without a pause, such as 0.02"
    )
    proxy_cpu_seconds: float = Field(
        policy.PROXY_CPU_SECONDS,
        ge=0,
        le=1,
        description="CPU seconds that NGINX and the kernel spend on a request outside Gunicorn, such as 0.0003",
    )
    other_cpu_seconds: float = Field(
        0,
        ge=0,
        le=600,
        description="CPU seconds that other services on the same host spend on a request, such as 0.015",
    )
    other_services: list[ServiceName] = Field([], max_length=20, description="these, such as [postgresql.service]")
    memory_private_mb: float = Field(
        45, gt=0, le=1_000_000, description="memory of one worker that it shares with nobody, in MB"
    )
    memory_shared_mb: float = Field(35, ge=0, le=1_000_000, description="memory that preloaded workers share, in MB")
    memory_total_mb: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="both together, such as 80; without memory_private_mb that is what is left of it",
    )
    memory_thread_mb: float = Field(
        policy.THREAD_MB,
        ge=policy.THREAD_MINIMUM_MB,
        le=10_000,
        description="memory that each busy thread of a worker takes, in MB, such as 0.5",
    )
    boot_seconds: float = Field(3, gt=0, le=600, description="seconds a worker takes to start, such as 3")
    preload_safe: bool = Field(False, description="true when importing starts no thread and opens no socket")
    database_connections: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="connections that the database grants to the application on all hosts of the environment, such as 90",
    )
    peak_rps: float | None = Field(None, gt=0, le=1_000_000, description="requests a second at the peak, such as 40")
    latency_p95_seconds: float | None = Field(
        None, gt=0, le=600, description="95 % of answers within this, such as 0.5"
    )
    request_limit_seconds: int = Field(
        30, ge=1, le=86_400, description="whole seconds of the slowest legitimate request"
    )
    queue_budget_seconds: int = Field(
        10, ge=1, le=3_600, description="whole seconds a request may wait for a free thread"
    )
    client_timeout_seconds: int = Field(
        60, ge=2, le=172_800, description="whole seconds that clients or a load balancer wait"
    )
    upload_limit_mb: int = Field(10, ge=1, le=1_000_000, description="largest request body in whole MB")
    measured: list[Measurable] = Field(
        default_factory=list, description="the keys above that `farrier measure` has measured"
    )

    reference: Reference | None = Field(
        None, description="written by `farrier measure`: the host's speed, to which later measurements are brought"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if missing := [name for name in self.measured if name not in self.model_fields_set]:
            raise ValueError(
                f"measured names {', '.join(missing)}, which has no value here; remove it or measure again"
            )
        self._memory_adds_up()
        service = self.cpu_seconds + self.wait_seconds
        if service > self.request_limit_seconds:
            raise ValueError(
                f"a request takes {service:g} s of CPU and wait, which is more than request_limit_seconds "
                f"{self.request_limit_seconds}; raise the limit or correct the figures"
            )
        segment = self.longest_cpu_segment_seconds
        if segment is not None and segment > self.request_limit_seconds:
            raise ValueError(
                f"longest_cpu_segment_seconds {segment:g} is more than a whole request may take, which is "
                f"request_limit_seconds {self.request_limit_seconds}; raise the limit or correct the figure"
            )
        return self

    def _memory_adds_up(self) -> None:
        """Shared memory is a part of the total, and private memory the other one."""
        total, shared, private = self.memory_total_mb, self.memory_shared_mb, self.memory_private_mb
        if total is None:
            return
        assumed = "" if "memory_shared_mb" in self.model_fields_set else ", which is assumed,"
        if shared >= total:
            raise ValueError(
                f"memory_shared_mb {shared:g}{assumed} is not less than memory_total_mb {total:g}, of which it is a part; "
                "measure again or correct the figures"
            )
        if "memory_private_mb" in self.model_fields_set and abs(private + shared - total) > 1 + total / 50:
            raise ValueError(
                f"memory_private_mb {private:g} and memory_shared_mb {shared:g}{assumed} make {private + shared:g} MB, not "
                f"memory_total_mb {total:g}; remove one of them or correct the figures"
            )

    def workload(self) -> Workload:
        """The workload, knowing which of its figures were stated; the total is in its two parts."""
        figures = self.model_dump(exclude={"measured", "reference", "memory_total_mb"})
        figures["other_services"] = tuple(self.other_services)
        stated = set(self.model_fields_set - {"measured", "reference"})
        if self.memory_total_mb is not None and "memory_private_mb" not in stated:
            figures["memory_private_mb"] = self.memory_total_mb - self.memory_shared_mb
            stated.add("memory_private_mb")
        both = frozenset({"memory_total_mb"})
        return Workload(**figures, stated=frozenset(stated) - both, measured=frozenset(self.measured) - both)


def _facts(value: Any) -> Any:
    """Check facts that an operator states against `facts.FACTS`."""
    if not isinstance(value, dict):
        return value
    for name, given in value.items():
        if name not in FACTS:
            raise ValueError(f"{name} is no fact; {nearest(str(name), list(FACTS))}")
        if not is_a(FACTS[name].kind, given):
            raise ValueError(f"{name}: {quoted(given)} is not {FACTS[name].kind}")
    return value


def _facts_schema() -> dict[str, Any]:
    def one(kind: Number | Text) -> dict[str, Any]:
        if isinstance(kind, Text):
            return {"type": "string", "maxLength": kind.longest}
        low = {"minimum": kind.least} if kind.above is None else {"exclusiveMinimum": kind.above}
        return {"type": "integer" if kind.whole else "number", "maximum": kind.most, **low}

    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: one(fact.kind) for name, fact in FACTS.items()},
    }


Stated = Annotated[dict[str, int | float | str], BeforeValidator(_facts), WithJsonSchema(_facts_schema())]


def _overrides(value: Any) -> Any:
    """Check an operator's settings against `settings.SPECS`."""
    if not isinstance(value, dict):
        return value
    for name, given in value.items():
        spec = BY_NAME.get(name)
        if spec is None:
            raise ValueError(f"{name} is no setting; {nearest(str(name), list(BY_NAME))}")
        if name == "gunicorn.worker_class" and re.search("asgi|uvicorn", str(given), re.IGNORECASE):
            raise ValueError(
                f"{name}: {given!r} is not offered, as an ASGI worker accepts connections without a bound and makes the "
                f"socket's queue its own, so that the plan's numbers would not hold; it is {spec.expected}"
            )
        if not spec.accepts(given):
            raise ValueError(f"{name}: {given!r} is not {spec.expected}")
    if value.get("gunicorn.worker_class") == "sync" and value.get("gunicorn.threads", 1) != 1:
        raise ValueError(
            "gunicorn.threads above 1 makes Gunicorn use gthread, which contradicts gunicorn.worker_class sync"
        )
    return value


def _overrides_schema() -> dict[str, Any]:
    def one(spec: SettingSpec) -> dict[str, Any]:
        if spec.type is bool:
            return {"type": "boolean", "description": spec.meaning}
        if spec.choices:
            return {"enum": list(spec.choices), "description": spec.meaning}
        unit = f" ({spec.unit})" if spec.unit else ""
        return {
            "type": "integer",
            "minimum": spec.minimum,
            "maximum": spec.maximum,
            "description": spec.meaning + unit,
        }

    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {spec.name: one(spec) for spec in SPECS},
    }


Overrides = Annotated[dict[str, Value], BeforeValidator(_overrides), WithJsonSchema(_overrides_schema())]
