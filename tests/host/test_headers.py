"""What a client says about itself reaches the application only where it is true, and both layers agree how long it may be."""

import json
import secrets
from collections.abc import Mapping

import pytest

from deployed import Answer, Deployed
from operated import write_release
from testbed import DOMAIN

pytestmark = pytest.mark.host

# What it hears, an answer with a header of the size asked for, and a file of its own.
ECHO = """
import json
import pathlib
import urllib.parse

_notes = application


def application(environ, start_response):
    if environ["PATH_INFO"] != "/heard/":
        return _notes(environ, start_response)
    asked = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    if "write" in asked:
        pathlib.Path("/var/lib/notes", asked["write"]).write_text("written")
    start_response("200 OK", [("Content-Type", "application/json"), ("X-Large", "x" * int(asked.get("large", "1")))])
    print("heard", asked.get("mark"), file=environ["wsgi.errors"], flush=True)
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]
"""
CLAIMS = """
    X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Real-IP
    X-Forwarded-Prefix X-Forwarded-Server X-Forwarded-By X-Forwarded-Scheme X-Forwarded-Protocol X-Forwarded-Ssl
    X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups X-Forwarded-Uri X-Forwarded-Path Forwarded Proxy
    X-Script-Name Script-Name X-Scheme X-Url-Scheme X-Original-URL X-Original-Host X-Rewrite-URL X-Host
    X-Client-IP Client-IP True-Client-IP X-Cluster-Client-IP CF-Connecting-IP Fastly-Client-IP X-Remote-Addr
    Remote-User X-Remote-User X-Auth-Request-User X-WebAuth-User SSL-Client-Verify X-SSL-Client-S-DN Client-Cert
    SCRIPT_NAME PATH_INFO REMOTE_USER X_FORWARDED_FOR X_Forwarded_Prefix
""".split()
LINE_REST = len("GET /heard/? HTTP/1.1\r\n")
BUFFER_BYTES = 8192


@pytest.fixture(scope="module", autouse=True)
def echoing(operated: Deployed) -> None:
    write_release(operated, ECHO)
    operated.play()


def heard(stack: Deployed, headers: Mapping[str, str]) -> Mapping[str, str]:
    answer = stack.ask("GET", "/heard/", headers=headers)
    assert answer.status == 200, answer
    found: Mapping[str, str] = json.loads(answer.body)
    return found


def lengthened(stack: Deployed, line_bytes: int) -> tuple[Answer, str]:
    """A request whose line is so long with its end, and what the query names it."""
    mark = f"mark={secrets.token_hex(8)}&"
    return stack.get(f"/heard/?{mark}{'x' * (line_bytes - LINE_REST - len(mark))}"), mark


def upstream_status(stack: Deployed, mark: str) -> str:
    """What NGINX noted of the application's answer: `-` where it was not asked."""
    lines = stack.shell(f"grep -hF -- {mark!r} /var/log/nginx/notes.access.log /var/log/nginx/access.log || true")
    statuses = {line.partition('upstream_status="')[2].partition('"')[0] for line in lines.splitlines()}
    return "".join(statuses) or "-"


def test_a_client_cannot_lie_about_itself_and_where_the_application_is(operated: Deployed) -> None:
    found = heard(operated, dict.fromkeys(CLAIMS, "/forged"))
    assert {name: value for name, value in found.items() if "forged" in value} == {}
    assert (found["SCRIPT_NAME"], found["PATH_INFO"], found["wsgi.url_scheme"]) == ("", "/heard/", "http")
    assert found["HTTP_X_FORWARDED_PORT"] == "80"
    assert found["HTTP_X_FORWARDED_HOST"] == found["HTTP_HOST"] == DOMAIN
    assert found["HTTP_X_FORWARDED_PROTO"] == "http"
    assert found["HTTP_X_FORWARDED_FOR"] == found["HTTP_X_REAL_IP"]


def test_what_a_client_may_say_is_heard(operated: Deployed) -> None:
    said = {"X-HTTP-Method-Override": "PATCH", "Authorization": "Basic eA==", "X-Requested-With": "it"}
    found = heard(operated, said)
    assert {name: found["HTTP_" + name.upper().replace("-", "_")] for name in said} == said


@pytest.mark.parametrize("kilobytes", [3, 7, 15])
def test_an_answer_may_have_a_large_header(operated: Deployed, kilobytes: int) -> None:
    answer = operated.get(f"/heard/?large={kilobytes * 1024}")
    assert (answer.status, len(answer.headers.get("x-large", ""))) == (200, kilobytes * 1024)


def test_an_answer_with_a_larger_header_is_502_and_the_log_says_why(operated: Deployed) -> None:
    assert operated.get("/heard/?large=17000").status == 502
    log = operated.shell("tail -n 1 /var/log/nginx/notes.error.log")
    assert "upstream sent too big header while reading response header from upstream" in log


@pytest.mark.parametrize("line_bytes", [4200, 7900, BUFFER_BYTES])
def test_a_long_address_reaches_the_application(operated: Deployed, line_bytes: int) -> None:
    answer, _ = lengthened(operated, line_bytes)
    assert answer.status == 200, answer.body


def test_a_longer_one_is_414_and_the_application_stays_idle(operated: Deployed) -> None:
    answer, mark = lengthened(operated, BUFFER_BYTES + 1)
    assert (answer.status, answer.headers["server"]) == (414, "nginx")
    assert upstream_status(operated, mark) == "-"


@pytest.mark.parametrize("field", ["X-Long: ", "X-Long:"])
def test_a_long_header_field_reaches_the_application_and_a_longer_one_is_400(operated: Deployed, field: str) -> None:
    for surplus, expected in ((0, "200"), (1, "400")):
        value = "x" * (BUFFER_BYTES + surplus - len(field) - len("\r\n"))
        request = f"GET /heard/ HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n{field}{value}\r\n\r\n"
        connection = operated.connect()
        connection.sock.sendall(request.encode())
        assert connection.sock.makefile("rb").readline().split()[1].decode() == expected
        connection.close()


def test_a_hundred_header_fields_reach_the_application_and_far_more_do_not(operated: Deployed) -> None:
    found = heard(
        operated, {f"X-Many-{number}": "1" for number in range(98)}
    )  # beside Host, Connection, Accept-Encoding
    assert sum(name.startswith("HTTP_X_MANY_") for name in found) == 98
    mark = secrets.token_hex(8)
    answer = operated.ask("GET", f"/heard/?mark={mark}", headers={f"X-Many-{number}": "1" for number in range(130)})
    assert answer.status == 431
    assert (
        operated.shell(f"journalctl --sync; journalctl -u 'notes@*' --since=-60s | grep -c 'heard {mark}' || true")
        == "0\n"
    )


def test_what_the_application_writes_is_for_its_group_at_most(operated: Deployed) -> None:
    operated.get("/heard/?write=a-file")
    assert operated.shell("stat -c '%a %U %G' /var/lib/notes/a-file") == "640 notes notes\n"
    slot = "$(basename $(readlink /srv/notes/active))"
    assert operated.shell(f"stat -c '%a %U %G' /var/lib/notes /run/notes-{slot}") == "750 notes notes\n" * 2


def test_the_socket_of_a_preflight_is_the_applications_alone(operated: Deployed) -> None:
    try:
        # The release that serves, tried once more and held open.
        operated.shell(
            "mkdir -p /srv/notes/slots/preflight && cp -a /srv/notes/active/. /srv/notes/slots/preflight/ && "
            "systemctl start notes-preflight.service"
        )
        stat = "stat -c '%A %U' /run/notes-preflight /run/notes-preflight/gunicorn.sock"
        assert operated.shell(stat) == "drwxr-x--- notes\nsrw------- notes\n"
    finally:
        operated.shell("systemctl stop notes-preflight.service; rm -r /srv/notes/slots/preflight/*")
