"""Gunicorn while it is measured: what production has, and marks that say how long a worker took and what the master holds."""

import faulthandler
import json
import os
import threading
import time

worker_class = "gthread"
keepalive = 0
max_requests = 0
timeout = 60  # A worker that does not come up within this time is aborted, and says where it stands.
graceful_timeout = 2
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
errorlog = "-"

_runtime = os.environ["RUNTIME_DIRECTORY"]


def _leave(name, content):
    aside = os.path.join(_runtime, f".{os.getpid()}")
    with open(aside, "w") as file:
        json.dump(content, file)
    os.replace(aside, os.path.join(_runtime, name))


def when_ready(server):
    """The master is complete, with the application if that is preloaded: which threads would a fork lose?"""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    _leave("master", {"threads": others})


def post_fork(server, worker):
    """A worker begins."""
    worker.farrier_begun = time.monotonic()


def post_worker_init(worker):
    """A worker has the application and could answer."""
    _leave(f"worker-{worker.pid}", {"boot_seconds": time.monotonic() - worker.farrier_begun})


def worker_abort(worker):
    """It came to nothing within the time: where does it stand?"""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(1)


def child_exit(server, worker):
    """A worker is gone, and its mark with it."""
    try:
        os.unlink(os.path.join(_runtime, f"worker-{worker.pid}"))
    except FileNotFoundError:
        pass
