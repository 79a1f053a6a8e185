"""Is it well, which release is it, and what does a request of a given cost do to it?"""

import logging
import threading
import time

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from notes.book.models import Note
from notes.operations import running

logger = logging.getLogger(__name__)

# Longer than any time limit worth testing; a mistyped number must not hold a worker for a day.
LONGEST_MS = 120_000
CHUNK_BYTES = 64 * 1024


@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """200 when a request could be served: the database answers and its tables are there."""
    try:
        Note.objects.exists()
    except DatabaseError:
        logger.exception("the database does not answer")
        return HttpResponse("the database does not answer\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def release(request: HttpRequest) -> JsonResponse:
    """Which release and which slot answered."""
    return JsonResponse(running.identity())


@csrf_exempt  # Load generators have no cookies, and nothing is changed here.
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def work(request: HttpRequest) -> JsonResponse:
    """Costs `cpu_ms` of CPU and `wait_ms` of waiting, after it has read whatever was posted."""
    try:
        cpu_ms = milliseconds(request, "cpu_ms")
        wait_ms = milliseconds(request, "wait_ms")
    except ValueError as mistake:
        return JsonResponse({"error": str(mistake)}, status=400)
    started = time.monotonic()
    body_bytes = read_body(request)
    cpu_used_ms = burn(cpu_ms)
    time.sleep(wait_ms / 1000)
    return JsonResponse(
        {
            **running.identity(),
            "thread": threading.get_ident(),
            "body_bytes": body_bytes,
            "cpu_ms": round(cpu_used_ms, 3),
            "total_ms": round((time.monotonic() - started) * 1000, 3),
        }
    )


def milliseconds(request: HttpRequest, name: str) -> float:
    """The query's value of `name`, 0 where it is absent; ValueError says what would be right."""
    given = request.GET.get(name, "0")
    message = f"{name} is {given[:40]!r}: write a number from 0 to {LONGEST_MS}"
    try:
        value = float(given)
    except ValueError:
        raise ValueError(message) from None
    if not 0 <= value <= LONGEST_MS:  # False for nan, too.
        raise ValueError(message)
    return value


def read_body(request: HttpRequest) -> int:
    """Reads the body piece by piece, so that its size costs no memory; answers the number of bytes."""
    total = 0
    while chunk := request.read(CHUNK_BYTES):
        total += len(chunk)
    return total


def burn(cpu_ms: float) -> float:
    """Spends CPU time of this thread, not wall time: what other threads use does not count.

    It stays inside the interpreter and so holds the GIL, as the Python code of a real page does.
    """
    started = time.thread_time()
    until = started + cpu_ms / 1000
    while time.thread_time() < until:
        sum(range(200))
    return (time.thread_time() - started) * 1000
