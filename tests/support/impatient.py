"""An environment with time limits of a few seconds and a queue of a few requests, so that both are seen to work."""

REQUEST_LIMIT_SECONDS = 4
QUEUE_BUDGET_SECONDS = 3
# One request of the declared work: long, so that few fill the queue and a full one is seen at leisure.
REQUEST_MS = 1000
UPLOAD_LIMIT_MB = 3
WORKLOAD = {
    "cpu_seconds": 0.01,
    "wait_seconds": REQUEST_MS / 1000,
    "peak_rps": 1,
    "request_limit_seconds": REQUEST_LIMIT_SECONDS,
    "queue_budget_seconds": QUEUE_BUDGET_SECONDS,
    "client_timeout_seconds": 30,
    "boot_seconds": 1,
    "upload_limit_mb": UPLOAD_LIMIT_MB,
}
OVERRIDES = {
    "sync": {"gunicorn.worker_class": "sync", "gunicorn.workers": 2},
    "gthread": {"gunicorn.worker_class": "gthread", "gunicorn.workers": 2, "gunicorn.threads": 2},
}
