"""A person writes a note and attaches a file, as large as the environment allows and one byte larger."""

import re
from urllib.parse import urlencode

import pytest

from deployed import Answer, Deployed
from impatient import UPLOAD_LIMIT_MB
from testbed import DOMAIN

pytestmark = pytest.mark.host

LIMIT_BYTES = UPLOAD_LIMIT_MB * 1024 * 1024
BOUNDARY = "upload-boundary"


def csrf(stack: Deployed, path: str) -> tuple[dict[str, str], str]:
    """What the form at `path` wants back: a cookie and a token."""
    page = stack.get(path)
    assert page.status == 200, page
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token is not None
    return {"Cookie": page.headers["set-cookie"].partition(";")[0]}, token[1]


def write(stack: Deployed, title: str) -> str:
    """Writes a note through its form; answers its address."""
    headers, token = csrf(stack, "/notes/new/")
    body = urlencode({"title": title, "body": "Two sacks.", "csrfmiddlewaretoken": token}).encode()
    headers |= {"Content-Type": "application/x-www-form-urlencoded"}
    answer = stack.ask("POST", "/notes/new/", body, headers)
    assert answer.status == 302, answer
    return answer.headers["location"]


def attach(stack: Deployed, note: str, request_bytes: int) -> tuple[Answer, int]:
    """Uploads a file through its form in a body of `request_bytes`; answers the file's size, too."""
    headers, token = csrf(stack, f"{note}attach/")
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="attachment"; filename="oats.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    size = request_bytes - len(head) - len(tail)
    headers |= {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return stack.ask("POST", f"{note}attach/", head + b"x" * size + tail, headers), size


def test_a_note_is_written_and_read(stack: Deployed) -> None:
    note = write(stack, "Oats")
    page = stack.get(note)
    assert page.status == 200
    assert "<h1>Oats</h1>" in page.body


def test_a_form_passes_with_the_origin_that_a_browser_sends(stack: Deployed) -> None:
    headers, token = csrf(stack, "/notes/new/")
    # The port is the published one, and Django compares the Origin with the Host header.
    host = f"{DOMAIN}:{stack.http_port}"
    headers |= {"Host": host, "Origin": f"http://{host}", "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"title": "Hay", "body": "One bale.", "csrfmiddlewaretoken": token}).encode()
    assert stack.ask("POST", "/notes/new/", body, headers).status == 302


def test_a_file_at_the_limit_is_kept(stack: Deployed) -> None:
    note = write(stack, "With a file")
    answer, size = attach(stack, note, LIMIT_BYTES)
    assert answer.status == 302, answer
    download = stack.get(f"{note}attachment/")
    assert download.headers["content-length"] == str(size)
    assert download.body == "x" * size


def test_one_byte_more_is_refused_and_the_note_stays_as_it_was(stack: Deployed) -> None:
    note = write(stack, "Without a file")
    answer, _ = attach(stack, note, LIMIT_BYTES + 1)
    assert answer.status == 413
    assert stack.get(f"{note}attachment/").status == 404


def test_what_a_client_claims_about_itself_does_not_reach_the_application(stack: Deployed) -> None:
    # Django would believe X-Forwarded-Proto and, for https, want a Referer with each POST.
    headers, token = csrf(stack, "/notes/new/")
    headers |= {"X-Forwarded-Proto": "https", "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"title": "Shoes", "body": "Four.", "csrfmiddlewaretoken": token}).encode()
    assert stack.ask("POST", "/notes/new/", body, headers).status == 302
