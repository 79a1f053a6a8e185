"""What one request costs, and what is asked of the host: each key of the workload once, with all that is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter, ValidatorFunctionWrapHandler
from pydantic.dataclasses import dataclass as validated_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from farrier import policy
from farrier.project.values import Model, ServiceName


class Reference(Model):
    """How fast a host was while it was measured: CPU seconds of a piece of work that is always the same."""

    on: str = Field(max_length=400, description="host and Python, such as web1 with Python 3.11.2")
    seconds: float = Field(gt=0, le=60, description="CPU seconds of that work, such as 0.0012")


Agrees = tuple[float, float] | None


class Key(NamedTuple):
    """What is known of a key beside its type, default and bounds.

    `unit` is what sentences give it in; what they give in `ms` stands in seconds in a file.
    `agrees` is how far a new measurement may differ for the figure measured before to stay, as a share and in the key's own
    unit, of which the larger counts; a key without it is not measured. Whole numbers of a plan flip on any difference where
    they are just between two values, so no rounding does without it. In `make bench-measure` CPU varied by 7 % at one speed
    (17 % as seen); boots and longest segments, of which few are seen, vary most.
    """

    meaning: str
    unit: str
    agrees: Agrees


def _key(
    default: object, meaning: str, unit: str = "", such_as: object = None, *, agrees: Agrees = None, **bounds: Any
) -> Any:
    """The row of a key; `such_as` is an example where the default is none, and `bounds` are pydantic's."""
    whole = "whole " if type(default) is int else ""
    written = {"ms": ", in seconds", "s": f", in {whole}seconds", "MB": f", in {whole}MB"}.get(unit, "")
    example = str(default if such_as is None else such_as).removesuffix(".0")
    description = f"{meaning}{written}, such as {example}"
    known = {"key": Key(meaning, unit, agrees), "description": description, "strict": True}
    return field(default=default, metadata=known | bounds)


_SCV = "1 (variance over mean squared; 0 where all are the same)"


def _measurable(name: str) -> str:
    if name not in MEASURABLE:
        raise ValueError(f"is not measured by `farrier measure`, which finds out {', '.join(MEASURABLE)}")
    return name


def _list_of_measurable(schema: dict[str, Any]) -> None:
    schema["items"]["enum"] = list(MEASURABLE)
    del schema["uniqueItems"]


@validated_dataclass(frozen=True, config=ConfigDict(extra="forbid", defer_build=True))
class WorkloadKeys:
    """What one request costs and what is asked for; every default is that of an ordinary page of a Django application."""

    __pydantic_fields__: ClassVar[dict[str, FieldInfo]]

    cpu_seconds: float = _key(0.02, "CPU time of one request", "ms", gt=0, le=600, agrees=(0.1, 0.0))
    wait_seconds: float = _key(0.03, "what one request waits for others", "ms", ge=0, le=600, agrees=(0.1, 0.001))
    busy_cpu_seconds: float | None = _key(
        None, "CPU time of one request while many are under way", "ms", 0.018, gt=0, le=600, agrees=(0.1, 0.0)
    )
    cpu_scv: float = _key(
        policy.SERVICE_SCV, "how much the CPU time of requests varies", "", _SCV, ge=0, le=10_000, agrees=(0.25, 0.2)
    )
    service_scv: float = _key(
        policy.SERVICE_SCV,
        "how much CPU and wait of requests vary together",
        "",
        _SCV,
        ge=0,
        le=10_000,
        agrees=(0.25, 0.2),
    )
    longest_cpu_segment_seconds: float | None = _key(
        None, "longest time that a request computes without a pause", "ms", 0.02, gt=0, le=600, agrees=(0.5, 0.005)
    )
    proxy_cpu_seconds: float = _key(
        policy.PROXY_CPU_SECONDS, "CPU time of one request outside Gunicorn", "ms", ge=0, le=1
    )
    other_cpu_seconds: float = _key(
        0.0,
        "CPU time that other services of the host spend on one request",
        "ms",
        0.015,
        ge=0,
        le=600,
        agrees=(0.1, 0.001),
    )
    other_services: tuple[ServiceName, ...] = _key(
        (), "the services that spend it", "", "[postgresql.service]", max_length=20, strict=False
    )
    memory_private_mb: float = _key(45.0, "memory of a worker of its own", "MB", gt=0, le=1_000_000, agrees=(0.1, 2.0))
    memory_shared_mb: float = _key(
        35.0, "memory that preloaded workers share", "MB", ge=0, le=1_000_000, agrees=(0.1, 2.0)
    )
    memory_total_mb: float | None = _key(
        None,
        "both together, of which memory_private_mb is what is left",
        "MB",
        80,
        gt=0,
        le=1_000_000,
        agrees=(0.1, 4.0),
    )
    memory_thread_mb: float = _key(
        policy.THREAD_MB, "memory of one thread", "MB", ge=policy.THREAD_MINIMUM_MB, le=10_000, agrees=(0.25, 0.1)
    )
    boot_seconds: float = _key(3.0, "time that a worker takes to start", "s", gt=0, le=600, agrees=(0.25, 0.3))
    preload_safe: bool = _key(
        False,
        "importing before the fork is safe",
        "",
        "true where it starts no thread and opens no socket",
        agrees=(0, 0),
    )
    database_connections: int | None = _key(
        None, "connections that the database grants to all hosts", "", 90, ge=1, le=1_000_000
    )
    peak_rps: float | None = _key(None, "requests a second at the peak", "requests/s", 40, gt=0, le=1_000_000)
    latency_p95_seconds: float | None = _key(
        None, "time within which 95 % of requests are answered", "s", 0.5, gt=0, le=600
    )
    request_limit_seconds: int = _key(30, "the slowest legitimate request", "s", ge=1, le=86_400)
    queue_budget_seconds: int = _key(10, "longest wait for a free thread", "s", ge=1, le=3_600)
    client_timeout_seconds: int = _key(60, "how long clients wait", "s", ge=2, le=172_800)
    upload_limit_mb: int = _key(10, "the largest request body", "MB", ge=1, le=1_000_000)

    measured: frozenset[Annotated[str, AfterValidator(_measurable)]] = field(
        default_factory=frozenset,
        metadata={
            "description": "the keys above that `farrier measure` has measured",
            "json_schema_extra": _list_of_measurable,
        },
    )
    reference: Reference | None = field(
        default=None,
        metadata={
            "description": "written by `farrier measure`: the host's speed, to which later measurements are brought"
        },
    )


KEYS: Mapping[str, Key] = {row.name: row.metadata["key"] for row in fields(WorkloadKeys) if "key" in row.metadata}
MEASURABLE = tuple(name for name, key in KEYS.items() if key.agrees is not None)


@dataclass(frozen=True)
class Workload(WorkloadKeys):
    """The application's work; a key that nobody stated keeps its default.

    `stated` says which are not defaults, `measured` which of those somebody measured.
    """

    stated: frozenset[str] = frozenset()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated as its keys, of which it then knows which were written."""
        return core_schema.no_info_wrap_validator_function(cls._written, handler(WorkloadKeys))

    @classmethod
    def _written(cls, given: Any, validated: ValidatorFunctionWrapHandler) -> Self:
        """The workload of a mapping; a total of memory is then in its two parts."""
        work = cls(**vars(validated(given)), stated=frozenset(given) - {"measured", "reference"})
        work._require_possible()
        total = {"memory_total_mb"}
        private, stated = work.memory_private_mb, work.stated - total
        if work.memory_total_mb is not None and "memory_private_mb" not in stated:
            private, stated = work.memory_total_mb - work.memory_shared_mb, stated | {"memory_private_mb"}
        measured = work.measured - total
        return replace(work, memory_private_mb=private, memory_total_mb=None, stated=stated, measured=measured)

    def _require_possible(self) -> None:
        if missing := sorted(self.measured - self.stated):
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

    def _memory_adds_up(self) -> None:
        """Shared memory is a part of the total, and private memory the other one."""
        total, shared, private = self.memory_total_mb, self.memory_shared_mb, self.memory_private_mb
        if total is None:
            return
        assumed = "" if "memory_shared_mb" in self.stated else ", which is assumed,"
        if shared >= total:
            raise ValueError(
                f"memory_shared_mb {shared:g}{assumed} is not less than memory_total_mb {total:g}, of which it is a part; "
                "measure again or correct the figures"
            )
        if "memory_private_mb" in self.stated and abs(private + shared - total) > 1 + total / 50:
            raise ValueError(
                f"memory_private_mb {private:g} and memory_shared_mb {shared:g}{assumed} make {private + shared:g} MB, not "
                f"memory_total_mb {total:g}; remove one of them or correct the figures"
            )

    @property
    def service_seconds(self) -> float:
        """H: how long one request takes when nothing else runs."""
        return self.serving_cpu_seconds + self.wait_seconds

    @property
    def host_cpu_seconds(self) -> float:
        """What a request takes of the host's CPUs when they are busy: C, and what other services compute for it there.

        While those compute the request waits, so that time is a part of W as well; no thread of a worker can hide it.
        """
        return self.serving_cpu_seconds + self.other_cpu_seconds

    @cached_property
    def serving_cpu_seconds(self) -> float:
        """C: what a request takes of the CPUs inside Gunicorn and in NGINX when they are busy.

        With warm caches and a CPU that never sleeps it is less than for a request that comes alone.
        """
        return self.gunicorn_cpu_seconds + self.proxy_cpu_seconds

    @property
    def other_names(self) -> str:
        """`postgresql.service on the same host`."""
        *some, last = self.other_services or ("other services",)
        return f"{', '.join(some)} and {last}" if some else last

    @property
    def gunicorn_cpu_seconds(self) -> float:
        """The part of C that the application and Gunicorn take."""
        return self.cpu_seconds if self.busy_cpu_seconds is None else self.busy_cpu_seconds

    @property
    def gunicorn_cpu_name(self) -> str:
        """The figure which that part is."""
        return "cpu_seconds" if self.busy_cpu_seconds is None else "busy_cpu_seconds"

    @property
    def wait_ratio(self) -> float:
        """W/C: seconds waited for each second of CPU."""
        return self.wait_seconds / self.serving_cpu_seconds

    @property
    def holds_the_gil(self) -> bool:
        """Whether a request may compute for longer than CPython lets a thread keep the GIL while others want it."""
        return (self.longest_cpu_segment_seconds or 0.0) > policy.GIL_SWITCH_SECONDS

    @property
    def makes_convoys(self) -> bool:
        """Whether such a request also computes for so much longer than the others that these are better kept away from it."""
        least = policy.CONVOY_HOG_FACTOR * self.gunicorn_cpu_seconds
        return self.holds_the_gil and (self.longest_cpu_segment_seconds or 0.0) >= least

    @property
    def is_assumed(self) -> bool:
        """Whether the cost of a request is the default one, that is, a guess."""
        return not {"cpu_seconds", "wait_seconds"} <= self.stated

    @property
    def memory_is_assumed(self) -> bool:
        """Whether the memory of a worker is the default one, a guess that must not bind."""
        return not {"memory_private_mb", "memory_shared_mb"} <= self.stated

    @property
    def is_measured(self) -> bool:
        """Whether the cost of a request was measured, not estimated by somebody."""
        return {"cpu_seconds", "wait_seconds"} <= self.measured

    def if_measured(self, *names: str) -> str:
        """What stands behind figures in a sentence: ` (measured)` where all of `names` were, else nothing."""
        return " (measured)" if {*names} <= self.measured else ""


WORKLOAD = TypeAdapter(Workload)
"""Validates a mapping as the project file or a workload file holds it."""
