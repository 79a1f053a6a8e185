"""HTTP over a unix socket, as NGINX speaks with Gunicorn."""

from __future__ import annotations

import http.client
import socket
import struct


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: int) -> None:
        """Remember the socket's path."""
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        """Connect to the path instead of a host; while its queue is full, wait for room."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", self.timeout, 0))
        self.sock.connect(self.path)
        self.sock.settimeout(self.timeout)
