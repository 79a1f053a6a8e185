"""Runs on the host: sends HTTP requests to its own NGINX and prints the answers as JSON.

Its argument is a list of {"method", "path", "host", "headers", "body", "tls"}. A body is text, or
{"multipart_bytes": N}: a file upload that is N bytes long with everything around the file.
Python 3.9 and its standard library, because that is what hosts have.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from typing import Any

BOUNDARY = "farrier-boundary"
MOST_BODY_BYTES = 65_536
PIECE_BYTES = 65_536
PATIENCE_SECONDS = 90


class Local(http.client.HTTPConnection):
    """A connection to this host, whatever the Host header says; with TLS, under that name."""

    def __init__(self, name: str, *, tls: bool) -> None:
        """`name` is what the Host header will say."""
        super().__init__(name, 443 if tls else 80, timeout=PATIENCE_SECONDS)
        self.tls = tls

    def connect(self) -> None:
        """Connects to the loopback address."""
        self.sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS)
        if self.tls:
            context = ssl.create_default_context()
            # A test host's certificate is its own; whether the world trusts it is not what is asked here.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def upload(size: int) -> Iterator[bytes]:
    """A multipart body with one file in it, `size` bytes in all, piece by piece."""
    disposition = 'Content-Disposition: form-data; name="file"; filename="upload.bin"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    yield head
    left = size - len(head) - len(tail)
    while left > 0:
        yield b"x" * min(left, PIECE_BYTES)
        left -= PIECE_BYTES
    yield tail


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """One request and its answer; an answer that never came has the status null, and an error."""
    headers = {**request.get("headers", {}), "Connection": "close"}
    body = request.get("body")
    if isinstance(body, dict):
        size = body["multipart_bytes"]
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        headers["Content-Length"] = str(size)
        body = upload(size)
    started = time.monotonic()
    found: dict[str, Any] = {"status": None, "headers": {}, "body": ""}
    connection = Local(request["host"], tls=request.get("tls", False))
    try:
        # A body may be refused before all of it was sent; the answer is there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(request.get("method", "GET"), request["path"], body, headers)
        answer = connection.getresponse()
        found["status"] = answer.status
        found["headers"] = {name.lower(): value for name, value in answer.getheaders()}
        found["body"] = answer.read(MOST_BODY_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as mistake:
        found["error"] = f"{type(mistake).__name__}: {mistake}"
    finally:
        connection.close()
    return {**found, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    print(json.dumps([ask(request) for request in json.loads(sys.argv[1])]))
