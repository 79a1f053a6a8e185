"""The chain of timeouts: each layer waits longer than the one behind it, so the cause of a failure is the one that speaks."""

from dataclasses import dataclass

from farrier import policy


@dataclass(frozen=True)
class Chain:
    """Seconds. `request_limit` is the slowest legitimate request, `queue_budget` the longest wait for a free thread."""

    request_limit: int
    queue_budget: int
    client_timeout: int

    @property
    def proxy_read(self) -> int:
        """NGINX's read time runs while a request waits in the accept queue: queue budget + request limit + margin."""
        return self.queue_budget + self.request_limit + policy.MARGIN_SECONDS

    @property
    def graceful(self) -> int:
        """A stopping worker lets its slowest legitimate request finish."""
        return self.request_limit + policy.MARGIN_SECONDS


def chain(request_limit: int, queue_budget: int, client_timeout: int) -> Chain | None:
    """The chain with the longest queue budget, up to the one asked for, that clients still wait for.

    None where the request limit alone outlasts the clients.
    """
    left = client_timeout - request_limit - policy.MARGIN_SECONDS
    if left < 0:
        return None
    return Chain(request_limit, min(queue_budget, left), client_timeout)


def timeout(request_limit: int | None, boot_seconds: float) -> int:
    """Gunicorn's `timeout`: where it ends requests their limit, else a sign of life only; both must outlast a boot."""
    boot = round(policy.BOOT_FACTOR * boot_seconds)
    return max(policy.GTHREAD_LIVENESS_SECONDS if request_limit is None else request_limit, boot)
