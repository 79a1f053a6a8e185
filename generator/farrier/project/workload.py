"""What one request costs, and what is asked of the host."""

from dataclasses import dataclass

from farrier import policy


@dataclass(frozen=True)
class Workload:
    """The application's work; a field that nobody stated keeps its default.

    `stated` says which are not defaults, `measured` which of those somebody measured.

    The defaults describe an ordinary page of a Django application: a few queries and a template.
    """

    cpu_seconds: float = 0.02
    wait_seconds: float = 0.03
    busy_cpu_seconds: float | None = None
    memory_private_mb: float = 45.0
    memory_shared_mb: float = 35.0
    memory_thread_mb: float = policy.THREAD_MB
    cpu_scv: float = policy.SERVICE_SCV
    service_scv: float = policy.SERVICE_SCV
    longest_cpu_segment_seconds: float | None = None
    proxy_cpu_seconds: float = policy.PROXY_CPU_SECONDS
    other_cpu_seconds: float = 0.0
    other_services: tuple[str, ...] = ()
    boot_seconds: float = 3.0
    preload_safe: bool = False
    database_connections: int | None = None
    peak_rps: float | None = None
    latency_p95_seconds: float | None = None
    request_limit_seconds: int = 30
    queue_budget_seconds: int = 10
    client_timeout_seconds: int = 60
    upload_limit_mb: int = 10
    stated: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()

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

    @property
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
