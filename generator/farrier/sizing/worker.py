"""The kinds of Gunicorn worker: how each shares a CPU, and what one more concurrent request costs it."""

from collections.abc import Callable
from dataclasses import dataclass

from farrier import policy
from farrier.sizing import concurrency, greenlets
from farrier.sizing.capacity import Utilisation, greenlet_utilisation, process_utilisation
from farrier.sizing.concurrency import Choice, Demand
from farrier.sizing.memory import Cost

Chooser = Callable[[Demand, Cost, float, int, int | None], Choice | None]


@dataclass(frozen=True)
class WorkerKind:
    """A value of `gunicorn.worker_class` with all that follows from it for sizing."""

    name: str
    unit: str
    """What serves one of the concurrent requests of a worker."""
    setting: str
    """The setting that holds how many a worker has."""
    utilisation: Utilisation
    choose: Chooser
    per_worker: int | None = None
    """Concurrent requests of a worker where its kind alone decides."""
    request_mb: float | None = None
    """Memory of one more concurrent request; None where it is a thread's, a figure of the workload."""
    pool_threads: int | None = None
    """Threads of a worker that are as many whatever its requests; None where each request has one."""
    gives_way: bool = True
    """Whether a request that computes lets others in after a while."""
    may_preload: bool = True
    ends_requests: bool = False
    """Whether gunicorn.timeout ends a request; else it only detects a worker that stalls."""
    unwatched: str = ""
    """Why the watchdog has nothing to watch; empty where it has."""


SYNC = WorkerKind(
    "sync",
    "thread",
    "gunicorn.threads",
    process_utilisation,
    concurrency.choose,
    per_worker=1,
    ends_requests=True,
    unwatched="a sync worker's requests end by gunicorn.timeout",
)

GTHREAD = WorkerKind("gthread", "thread", "gunicorn.threads", process_utilisation, concurrency.choose)

GEVENT = WorkerKind(
    "gevent",
    "greenlet",
    "gunicorn.worker_connections",
    greenlet_utilisation,
    greenlets.choose,
    request_mb=policy.GREENLET_MB,
    pool_threads=policy.GEVENT_POOL_THREADS,
    gives_way=False,
    may_preload=False,
    unwatched="it looks at threads, and gevent's requests share one",
)

KINDS = {kind.name: kind for kind in (SYNC, GTHREAD, GEVENT)}
