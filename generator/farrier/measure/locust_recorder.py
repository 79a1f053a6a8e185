"""Runs the users of a Locust file against a server that only records their requests, in a separate process.

`python -m farrier.measure.locust_recorder FILE RESULT`; Locust replaces Python's sockets and threads by gevent's when it is imported.
"""

import base64
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from gevent.pywsgi import WSGIHandler, WSGIServer
from locust import events
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import TaskSet
from locust.util.load_locustfile import load_locustfile

MOST_REQUESTS = 400
"""Requests recorded per class of user; more would only repeat them."""

MOST_TASKS = 2000
MOST_SECONDS = 10
"""Real seconds per class of user."""

LONGEST_BODY = 262_144
ANSWER = b"{}"


class Handler(WSGIHandler):  # type: ignore[misc] # gevent ships no types
    """Keeps the path as sent, quoted."""

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environment of the request."""
        environ: dict[str, Any] = super().get_environ()
        return environ | {"RAW_URI": self.path}


class Recorder:
    """The server, the users' clock, and the recorded requests."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.notes: dict[str, None] = {}
        self.starting = False
        self.seconds, self.tasks = 0.0, 0
        self.server = WSGIServer(("127.0.0.1", 0), self.answer, log=None, error_log=None, handler_class=Handler)
        self.server.start()
        self.host = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Record a request and answer it with an empty JSON object."""
        body = environ["wsgi.input"].read(LONGEST_BODY + 1)
        headers = {
            name[5:].replace("_", "-").title(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        if environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        method, target = environ["REQUEST_METHOD"], environ["RAW_URI"]
        self.seen.append({"method": method, "target": target, "headers": headers, "body": body})
        # On a kept-alive connection each acknowledgement would take 40 ms.
        length = ("Content-Length", str(len(ANSWER)))
        start_response("200 OK", [("Content-Type", "application/json"), length, ("Connection", "close")])
        return [ANSWER]

    def named(self, request_type: str, name: str, exception: object = None, url: str = "", **_: object) -> None:
        """Locust's own event, which has the request's name."""
        matching = [each for each in self.seen if each["method"] == request_type]
        self.seen.clear()
        if not matching:
            self.notes[
                f"{request_type} {url or name} gets no response here: {type(exception).__name__}: {exception}"
            ] = None
            return
        found = matching[-1]
        found["body"] = None if len(found["body"]) > LONGEST_BODY else base64.b64encode(found["body"]).decode()
        self.requests.append({**found, "name": name or found["target"], "starting": self.starting})

    def failed(self, exception: BaseException, **_: object) -> None:
        """A task failed, perhaps because it needs a real response."""
        self.notes[
            f"tasks fail with {type(exception).__name__}: {exception}; every response is {{}} while requests are recorded"
        ] = None

    def sleep(self, seconds: float = 0, **_: object) -> None:
        """Advances the users' clock instead of waiting."""
        self.seconds += max(0.0, float(seconds or 0))

    def pause(self, seconds: float) -> None:
        """Between two tasks."""
        self.sleep(seconds)
        self.tasks += 1
        if self.tasks >= MOST_TASKS or len(self.requests) >= MOST_REQUESTS:
            raise StopUser

    def run(self, user_class: Any, environment: Environment) -> dict[str, Any]:
        """Records the requests of one class of user."""
        self.requests, self.notes, self.seconds, self.tasks = [], {}, 0.0, 0
        user_class.host = self.host
        user = user_class(environment)
        on_start, self.starting = user.on_start, True

        def start() -> None:
            # Whatever the user's own code raises: its tasks may work without on_start.
            try:
                on_start()
            except Exception as error:
                self.notes[
                    f"on_start fails with {type(error).__name__}: {error}; every response is {{}} while requests are recorded"
                ] = None
            self.starting = False

        user.on_start = start
        # A task set without wait_time or without tasks fails as a whole.
        try:
            with gevent.Timeout(MOST_SECONDS, False):
                user.run()
        except Exception as error:
            self.failed(error)
        return {
            "name": user_class.__name__,
            "weight": user_class.fixed_count or user_class.weight,
            "seconds": self.seconds,
            "requests": self.requests,
            "notes": list(self.notes),
        }


def keep_inside(port: int) -> None:
    """Block outgoing connections while users are recorded."""
    connect = gevent.socket.socket.connect

    def guarded(self: Any, address: Any) -> Any:
        if isinstance(address, tuple) and (address[0] not in ("127.0.0.1", "::1") or address[1] != port):
            raise ConnectionRefusedError(f"{address[0]}:{address[1]} is not contacted while requests are recorded")
        return connect(self, address)

    def resolved(host: Any, *rest: Any, **options: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise gevent.socket.gaierror(f"{host} is not contacted while requests are recorded")
        return resolve(host, *rest, **options)

    gevent.socket.socket.connect = guarded
    resolver = gevent.get_hub().resolver
    resolve, resolver.getaddrinfo = resolver.getaddrinfo, resolved


def main(path: str, result: str) -> None:
    """Record the requests of the file's users, and write them out."""
    random.seed(0)
    recorder = Recorder()
    keep_inside(recorder.server.server_port)
    users, _ = load_locustfile(str(Path(path).resolve()))
    environment = Environment(events=events, user_classes=list(users.values()), host=recorder.host)
    parser: Any = get_parser(default_config_files=[])
    environment.parsed_options = parser.parse_args(["--locustfile", path])
    hooks: Any = events
    hooks.init.fire(environment=environment, runner=None, web_ui=None)
    hooks.test_start.fire(environment=environment)
    hooks.request.add_listener(recorder.named)
    hooks.user_error.add_listener(recorder.failed)
    for module in (time, gevent):
        setattr(module, "sleep", recorder.sleep)  # noqa: B010 - the original has other types
    setattr(TaskSet, "_sleep", recorder.pause)  # noqa: B010 - as above; the only place where users wait between tasks
    found = [recorder.run(each, environment) for each in users.values()]
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
