"""What to send, to whom, and within which bounds; the same text for the process that sends and for its workers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SENT_LATE_SECONDS = 0.5
"""A request that was due before a step's end may be sent this much after it."""


@dataclass(frozen=True)
class WeightedRequest:
    """One kind of request; of all arrivals its share is `weight` among the weights."""

    method: str = "GET"
    path: str = "/"
    weight: float = 1.0

    @property
    def name(self) -> str:
        """How reports call it: `GET /notes/`."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Job:
    """A run of the generator: connects to `url`, names `host` in the Host header and in TLS.

    A step ends with waiting for the responses that are still due, `drain_seconds` at most; the default is longer than a
    request may take, so that those sent last come to their own end. `max_seconds` bounds the whole run,
    `max_in_flight` the requests of one process without a response.
    """

    url: str
    host: str
    requests: tuple[WeightedRequest, ...] = (WeightedRequest(),)
    verify_tls: bool = True
    timeout_seconds: float = 30.0
    drain_seconds: float | None = None
    seed: int = 1
    max_in_flight: int = 4000
    max_rps: float = 5000.0
    max_seconds: float = 3600.0
    workers: int = 0
    """Processes of this machine that send; 0 means that the generator sends by itself."""
    remote_workers: int = 0
    """Workers of other machines to wait for."""
    bind_host: str = "127.0.0.1"
    """Where workers find the generator, at a free port unless `bind_port` names one."""
    bind_port: int = 0
    workers_seconds: float = 30.0
    """How long to wait for all workers."""

    @property
    def drain_limit_seconds(self) -> float:
        """How long a step waits for responses once it sends nothing more."""
        return self.timeout_seconds + SENT_LATE_SECONDS if self.drain_seconds is None else self.drain_seconds

    def document(self) -> dict[str, Any]:
        """The job in JSON's types."""
        return asdict(self)


def job_from(document: Mapping[str, Any]) -> Job:
    """The job that `Job.document` has written; TypeError for a field that is none."""
    requests = tuple(WeightedRequest(**each) for each in document.get("requests", ({},)))
    return Job(**{**document, "requests": requests})
