"""The workload as people and `farrier measure` write it: which keys there are, and which figures cannot be together."""

from typing import Literal, Self

from pydantic import Field, model_validator

from farrier import policy
from farrier.project.values import Model, ServiceName
from farrier.project.workload import Workload

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
