"""Gunicorn during a measurement: production's settings, and marks that record how long a worker took to start and what the master holds."""

import argparse
import ast
import calendar
import email
import email.utils
import faulthandler
import gc
import html
import inspect
import json
import logging
import os
import platform
import shlex
import string
import textwrap
import threading
import time
import traceback
import urllib.parse

worker_class = "gthread"
keepalive = 0
max_requests = 0
timeout = 60  # A worker that does not start within this time is aborted and logs its stack.
graceful_timeout = 2
worker_tmp_dir = "/dev/shm"
control_socket_disable = True
errorlog = "-"
umask = 0o177  # Gunicorn sets it while it creates its socket, overriding the unit's: only root sends requests

_runtime = os.environ["RUNTIME_DIRECTORY"]
_WANTED = os.path.join(_runtime, "references-wanted")
_MESSAGE = "From: a@example.org\nTo: b@example.org\nSubject: work\nContent-Type: text/plain; charset=utf-8\n\nbody\n"
_SOURCE = """
def work(a, b=3, *c, **d):
    if a > b:
        return [x for x in c if x] + [d[k] for k in d]
    for i in range(3):
        b += i * 2**a
    return {"a": (1, 2.5), "b": f"{a!r}"}
"""
_FORMATTER = logging.Formatter("%(asctime)s [%(process)d] [%(levelname)s] %(message)s")
_RECORD = logging.LogRecord("name", logging.INFO, "/path", 12, "%s took %d ms", ("work", 12), None)


def _leave(name, content):
    aside = os.path.join(_runtime, f".{os.getpid()}")
    with open(aside, "w") as file:
        json.dump(content, file)
    os.replace(aside, os.path.join(_runtime, name))


def when_ready(server):
    """The master is complete, with the application if preloaded: which threads would a fork lose?"""
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    _leave("master", {"threads": others, "python": platform.python_version()})
    gc.collect()  # as in production
    gc.freeze()


def post_fork(server, worker):
    """A worker starts."""
    worker.farrier_begun = time.monotonic()


def post_worker_init(worker):
    """A worker has imported the application and could answer."""
    name = os.path.join(_runtime, f"references-{worker.pid}")
    worker.farrier_references = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _leave(f"worker-{worker.pid}", {"boot_seconds": time.monotonic() - worker.farrier_begun})


def _reference():
    """The same work each time, two or three milliseconds of it: much library code, once each, as in a request.

    Its modules are, but for a few small ones, Gunicorn's own already, so that hardly anybody's memory grows by it.
    """
    message = email.message_from_string(_MESSAGE)
    message.get_content_type()
    message.as_string()
    parser = argparse.ArgumentParser(prog="work")
    parser.add_argument("--number", type=int)
    parser.add_argument("words", nargs="*")
    parser.parse_args(["--number", "3", "some", "words"])
    parts = urllib.parse.urlsplit("http://example.org:80/a/b?c=d&e=f%20g")
    urllib.parse.parse_qs(parts.query)
    urllib.parse.urljoin("http://example.org/a/", "../b")
    urllib.parse.quote("/a b/c")
    textwrap.fill("some words and more words " * 4, 30)
    email.utils.parsedate_tz("Sat, 01 Jan 2000 12:00:00 +0000")
    email.utils.parseaddr("A B <a@example.org>")
    email.utils.formatdate(1e9)
    _FORMATTER.format(_RECORD)
    str(inspect.signature(_leave).replace(return_annotation=int))
    ast.unparse(ast.parse(_SOURCE))
    shlex.split("some words 'and quoted ones' \"and others\"")
    calendar.TextCalendar().formatmonth(2000, 1)
    json.dumps(json.loads('{"a": [1, 2, {"b": "c"}], "d": 1.5}'), indent=1, sort_keys=True)
    string.Formatter().vformat("{0:>10} {a!r}", (1,), {"a": "b"})
    traceback.format_list(traceback.extract_stack(limit=5))
    inspect.getfullargspec(textwrap.fill)
    string.Template("$a and ${b}").substitute(a=1, b=2)
    html.escape("<a & b>")
    texts = {}
    for number in range(120):
        text = ",".join(map(str, range(number % 20)))
        texts[text[:6] + str(number)] = text.replace(",", ";").upper().encode()
    sorted(texts)


def pre_request(worker, req):
    """How fast is the machine right now? The thread's own CPU time is recorded, and not counted as the request's."""
    if not os.path.exists(_WANTED):
        return
    begun = time.thread_time_ns()
    _reference()
    os.write(worker.farrier_references, (time.thread_time_ns() - begun).to_bytes(8, "little"))


def worker_abort(worker):
    """The worker did not start in time: where does it hang?"""
    faulthandler.dump_traceback(all_threads=True)
    os._exit(1)


def child_exit(server, worker):
    """A worker is gone: remove its marks."""
    for mark in ("worker", "references"):
        try:
            os.unlink(os.path.join(_runtime, f"{mark}-{worker.pid}"))
        except FileNotFoundError:
            pass
