"""Which requests an NGINX access log stands for; the lines are NGINX's own, and those of its enemies."""

import gzip
from pathlib import Path

import pytest

from farrier.errors import InputError
from farrier.measure.access_log import LogLine, asked_in_log, entry
from farrier.measure.requests import clean, kind
from farrier.measure.sources import RequestSource, asked_for, lines, recorded
from farrier.project.reading import read_project

PROJECT = """\
application: {name: notes, wsgi: "notes.wsgi:application", urls: {/stated/: 2}}
environments:
  production: {inventory: hosts.yml, domain: www.example.org}
"""


def combined(request: str, status: int = 200) -> str:
    return (
        f'203.0.113.9 - - [22/Nov/2026:06:25:01 +0000] "{request}" {status} 1534 "https://www.example.org/" '
        '"Mozilla/5.0 (X11; Linux x86_64)"\n'
    )


def timed(request: str, status: int = 200, upstream: str = "200") -> str:
    return (
        f'time=2026-11-22T06:25:01+00:00 remote_addr=203.0.113.9 host=www.example.org request="{request}" '
        f'status={status} body_bytes_sent=187 request_time=0.010 upstream_status="{upstream}" '
        'upstream_connect_time="0.000" upstream_header_time="0.010" upstream_response_time="0.010" referer="-" '
        'user_agent="-"\n'
    )


def counted(*text: str) -> dict[str, float]:
    """Weights by path."""
    asked = asked_in_log((each.encode() for each in text), "'a.log'")
    return {request.path: weight for request, weight in asked.weights.items()}


def test_both_formats_are_read() -> None:
    assert entry(combined("GET /a?b=c HTTP/1.1", 302)) == LogLine("GET /a?b=c HTTP/1.1", 302, by_nginx=False)
    assert entry(timed("GET /a?b=c HTTP/2.0", 302)) == LogLine("GET /a?b=c HTTP/2.0", 302, by_nginx=False)
    assert entry(timed("GET /static/x.css HTTP/2.0", 304, "-")) == LogLine(
        "GET /static/x.css HTTP/2.0", 304, by_nginx=True
    )
    assert entry('203.0.113.9 - eve\\x22] [22/Nov/2026:06:25:01 +0000] "GET / HTTP/1.1" 200 5 "-" "-"') == LogLine(
        "GET / HTTP/1.1", 200, by_nginx=False
    )


def test_weights_are_counts() -> None:
    text = [combined("GET / HTTP/1.1")] * 3 + [timed("GET /about/ HTTP/2.0")] * 2 + [combined("HEAD / HTTP/1.1")]
    assert counted(*text[:5]) == {"/": 3.0, "/about/": 2.0}
    asked = asked_in_log((each.encode() for each in text), "'a.log'")
    assert asked.names == {"/": 3.0, "/about/": 2.0, "HEAD /": 1.0}
    assert asked.notes == ("paths are from 'a.log': 6 requests",)


def test_things_of_one_kind_count_together_and_the_most_frequent_stand_for_them() -> None:
    text = [combined(f"GET /notes/{number}/ HTTP/1.1") for number in (1, 1, 1, 2, 2, 3, 4, 5, 6, 7)]
    asked = asked_in_log((each.encode() for each in text), "'a.log'")
    assert asked.names == {"/notes/*/": pytest.approx(10.0)}
    # 8 of 10 are among the five most frequent: 1 stands for 10 * 3/8, 2 for 10 * 2/8.
    assert [round(weight, 2) for weight in asked.weights.values()] == [3.75, 2.5, 1.25, 1.25, 1.25]
    assert [request.path for request in asked.weights][:2] == ["/notes/1/", "/notes/2/"]


def test_only_the_ten_most_frequent_kinds_are_asked_for_and_the_rest_is_told() -> None:
    text = [combined(f"GET /{name * 2}/ HTTP/1.1") for name in "abcdefghij" for _ in range(9)]
    text += [combined("GET /kk/ HTTP/1.1")] * 6 + [combined("GET /ll/ HTTP/1.1")] * 4
    asked = asked_in_log((each.encode() for each in text), "'a.log'")
    assert sorted(asked.names) == [f"/{name * 2}/" for name in "abcdefghij"]
    assert asked.notes[-1] == "2 other paths, 10 % of the requests, are rarer and left out"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/list/?page=2&utm_source=mail&_=1700000000", "/list/?page=2"),
        ("/reset/?token=s3cret", "/reset/"),
        ("/cb?code=abc&state=xyz&lang=de", "/cb?lang=de"),
        ("/x?csrfmiddlewaretoken=1&q=a", "/x?q=a"),
        ("/x?author=ann&keyboard=de&monkey=1&shard=2&pinned=1", "/x?author=ann&keyboard=de&monkey=1&shard=2&pinned=1"),
        ("/x?jwt=a&hmac=b&invite=c&sig=d&otp=e&reset=f&confirm=g&magic=h&share=i&X-Amz-Signature=j&a=1", "/x?a=1"),
        ("/x?inviteCode=a&resetToken=b&accessKey=c&%6awt=d&API_KEY=e&oauth_verifier=f&a=1", "/x?a=1"),
        ("/x?r=eyJhbGciOiJIUzI1NiJ9.e30.abc&u=3f2504e0-4f89-11d3-9a0c-0305e82c3301&t=9fceb02d0ae598e9", None),
        (
            "/x?next=%2Fcb%3Fx%3D0123456789abcdef0123456789abcdef&q=a-rather-long-sentence-of-2024",
            "/x?q=a-rather-long-sentence-of-2024",
        ),
        ("/x?", "/x"),
    ],
)
def test_what_is_secret_or_means_nothing_is_left_out_of_a_query(target: str, expected: str | None) -> None:
    assert clean(target) == (expected or "/x?u=3f2504e0-4f89-11d3-9a0c-0305e82c3301&t=9fceb02d0ae598e9")


@pytest.mark.parametrize(
    "path",
    [
        "/reset/MQ/c5x2v1-0a8f3be1c2d3e4f5a6b7c8d9e0f1a2b3/",
        "/invite/a1b2c3d4",
        "/accounts/verify-email/7Hk29f/x",
        "/v/eyJhbGciOiJIUzI1NiJ9.e30.Zm9v",
        "/f/dGhpc0lzQVRva2VuMTIzNDU2",
        "/%72eset/a1b2c3d4",
        "/d/0123456789abcdef0123456789abcdef",
    ],
)
def test_paths_with_a_token_are_not_asked_for_and_that_is_told(path: str) -> None:
    log = [combined("GET / HTTP/1.1").encode(), combined(f"GET {path}?a=1 HTTP/1.1").encode()]
    asked = asked_in_log(log, "'access.log'")
    assert [request.path for request in asked.weights] == ["/"]
    assert "left out: 50 % of the requests have what looks like a token in the path" in asked.notes


@pytest.mark.parametrize(
    "path",
    ["/notes/17/", "/n/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x", "/c/507f1f77bcf86cd799439011", "/reset/done/", "/share/page/",
     "/blog/2024/05/what-nobody-knows-about-python-3-13/", "/IMG_20240115_123456.jpg", "/verify/email/"],
)  # fmt: skip
def test_ordinary_paths_are_asked_for(path: str) -> None:
    assert [request.path for request in asked_in_log([combined(f"GET {path} HTTP/1.1").encode()], "'a'").weights] == [
        path
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"{}", "Input should be a valid "),
        (
            b'[{"name": "V", "weight": NaN, "seconds": 1, "requests": [], "notes": []}]',
            "0.weight: Input should be a finite number",
        ),
        (
            b'[{"name": "V", "weight": 1, "seconds": 1, "requests": [{}], "notes": []}]',
            "0.requests.0.method: Field required",
        ),
        (
            b'[{"name": null, "weight": 1, "seconds": 1, "requests": [], "notes": []}]',
            "0.name: Input should be a valid string",
        ),
        (b'[{"name": "\xff", "weight": 1, "seconds": 1, "requests": [], "notes": []}]', "Invalid JSON"),
    ],
)
def test_what_a_locust_file_makes_of_its_record_is_one_sentence(content: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        recorded(content, Path("users.py"))
    (said,) = caught.value.messages
    assert said.startswith("users.py: its users cannot be used: ")
    assert message in said
    assert len(said) < 300


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/notes/17/", "/notes/*/"),
        ("/n/3f2504e0-4f89-11d3-9a0c-0305e82c3301/x", "/n/*/x"),
        ("/c/9fceb02d0ae598e9/", "/c/*/"),
        ("/decade/facade/v2/", "/decade/facade/v2/"),
        ("/s?q=a&page=3", "/s?page&q"),
    ],
)
def test_kinds(target: str, expected: str) -> None:
    assert kind(target) == expected


def test_what_is_not_asked_for_is_told() -> None:
    text = [combined("GET / HTTP/1.1")] * 4
    text += [
        combined("GET /gone HTTP/1.1", 404),
        timed("GET / HTTP/2.0", 301, "-"),
        combined("POST /notes/ HTTP/1.1", 302),
    ]
    text += ["nothing of the sort\n"]
    asked = asked_in_log((each.encode() for each in text), "'a.log'")
    assert asked.notes[1:] == (
        "left out: 12.5 % of the requests were answered with an error",
        "left out: 12.5 % of the requests were answered by NGINX itself",
        "left out: 12.5 % of the requests are in another format",
        "left out: 12.5 % of the requests are POST, whose bodies a log does not record",
    )


HOSTILE = [
    combined(r"\x16\x03\x01\x00\xEE"),
    combined("-", 400),
    combined("GET /{{ lookup('pipe','id') }} HTTP/1.1"),
    combined("GET /%7B%7B HTTP/1.1 HTTP/1.1"),
    combined("GET http://evil.example/ HTTP/1.1"),
    combined("GET //evil\\x22 HTTP/1.1"),
    combined("GET /" + "a" * 9_000 + " HTTP/1.1"),
    combined("get / HTTP/1.1"),
    combined("GET"),
    "[" * 60_000 + "\n",
    'time= request="' + "x" * 60_000 + "\n",
    '] "GET / HTTP/1.1" ²00 \n',
    "\x00\xff\n",
    "\n",
]


def test_hostile_lines_are_survived_and_never_asked_for() -> None:
    assert counted(combined("GET / HTTP/1.1"), *HOSTILE) == {"/": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'a.log': has no lines"),
        ('{"request": "GET / HTTP/1.1"}\n', "is neither in NGINX's `combined` log format nor in the role's own"),
        (
            combined("GET / HTTP/1.1", 500),
            "none of its 1 lines can be used; left out: 100 % of the requests were answ",
        ),
    ],
)
def test_a_log_without_use_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        asked_in_log(text.encode().splitlines(keepends=True), "'a.log'")
    assert message in str(error.value)


def test_a_huge_number_of_paths_is_forgotten_again_but_not_the_frequent_one() -> None:
    flood = (combined(f"GET /x{n}y/ HTTP/1.1").encode() for n in range(120_000))
    often = [combined("GET /often/ HTTP/1.1").encode()] * 1_000
    asked = asked_in_log([*often, *flood], "'a.log'")
    assert next(iter(asked.names.items())) == ("/often/", 1_000.0)


def test_packed_logs_are_read_and_long_lines_cut(tmp_path: Path) -> None:
    text = (combined("GET / HTTP/1.1") + "x" * 200_000 + "\n" + combined("GET /b HTTP/1.1")).encode()
    (tmp_path / "a.log").write_bytes(text)
    (tmp_path / "a.log.1").write_bytes(gzip.compress(text))  # known by its content, not by its name
    for name in ("a.log", "a.log.1"):
        found = list(lines(tmp_path / name))
        assert [len(line) for line in found][1] == 65_536
        assert len(found) == 3
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text)[:-20])
    with pytest.raises(InputError, match=r"cut\.gz: not a complete gzip file"):
        list(lines(tmp_path / "cut.gz"))
    with pytest.raises(InputError, match=r"none\.log: cannot be read: No such file or directory"):
        list(lines(tmp_path / "none.log"))


def test_the_source_of_the_requests_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "farrier.yml").write_text(PROJECT)
    project = read_project(tmp_path / "farrier.yml")
    log = tmp_path / "access.log"
    log.write_text(combined("GET /logged/ HTTP/1.1") + combined("HEAD / HTTP/1.1"))
    assert asked_for(project, RequestSource()).names == {"/stated/": 2.0}
    assert asked_for(project, RequestSource(access_log=log)).names == {"/logged/": 1.0, "HEAD /": 1.0}
    assert asked_for(project, RequestSource(access_log=log, methods="get")).names == {"/logged/": 1.0}
    with pytest.raises(InputError, match="--methods 'FETCH': must be some of GET, HEAD, OPTIONS, POST"):
        asked_for(project, RequestSource(access_log=log, methods="GET,fetch"))
    with pytest.raises(InputError, match="--methods POST: an access log does not record bodies; use a Locust file"):
        asked_for(project, RequestSource(access_log=log, methods="GET,POST"))
    with pytest.raises(InputError, match="--methods is for --locustfile and --access-log"):
        asked_for(project, RequestSource(methods="GET"))
    with pytest.raises(InputError, match="use one of them"):
        asked_for(project, RequestSource(access_log=log, locustfile=log))
