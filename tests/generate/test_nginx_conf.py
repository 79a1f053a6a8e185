"""The reader of `nginx -T` that the generated Testinfra tests rest on."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SHARED_TESTS = Path(__file__).parents[2] / "templates" / "molecule" / "shared" / "tests"

PRINTED = """\
nginx: configuration file /etc/nginx/nginx.conf test is successful
# configuration file /etc/nginx/nginx.conf:
worker_processes 2; # two of them; not more
events { worker_connections 1024; }
http {
    log_format timing '$remote_addr "$request" {braces}; '
                      'urt=$upstream_response_time';
    client_max_body_size 1m;
    include sites/*.conf;
}

# configuration file /etc/nginx/sites/notes.conf:
server {
    listen 80 default_server;
    server_name _;
    return 444;
}
server {
    listen 80;
    server_name notes.example.org www.example.org;
    client_max_body_size 10m;
    location /static/ { alias /srv/static/; }
    location / {
        proxy_pass http://application;
        proxy_read_timeout 1m30s;
    }
}
"""


@pytest.fixture(scope="module")
def nginx_conf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nginx_conf", SHARED_TESTS / "nginx_conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nginx_conf"] = module  # Its dataclass looks its module up.
    spec.loader.exec_module(module)
    return module


def test_a_location_inherits_what_it_does_not_say(nginx_conf: ModuleType) -> None:
    root = nginx_conf.parse(PRINTED)
    server = nginx_conf.application_server(root, "www.example.org")
    location = nginx_conf.proxying_location(server)
    assert location.in_force("client_max_body_size") == [("10m",)]
    assert location.in_force("proxy_read_timeout") == [("1m30s",)]
    assert location.in_force("worker_processes") == [("2",)]
    assert location.in_force("proxy_send_timeout") == []


def test_quotes_comments_and_braces_in_text_are_no_blocks(nginx_conf: ModuleType) -> None:
    root = nginx_conf.parse(PRINTED)
    (log_format,) = next(root.all_blocks("http")).own("log_format")
    assert log_format == (
        "timing",
        '$remote_addr "$request" {braces}; ',
        "urt=$upstream_response_time",
    )
    assert [server.own("server_name")[0][0] for server in root.all_blocks("server")] == [
        "_",
        "notes.example.org",
    ]


def test_a_domain_that_nobody_serves_is_named(nginx_conf: ModuleType) -> None:
    with pytest.raises(LookupError, match=r"passes requests for other\.example\.org on"):
        nginx_conf.application_server(nginx_conf.parse(PRINTED), "other.example.org")


@pytest.mark.parametrize(("text", "expected"), [("90", 90), ("1m30s", 90), ("500ms", 0.5), ("1d", 86_400)])
def test_times_are_seconds(nginx_conf: ModuleType, text: str, expected: float) -> None:
    assert nginx_conf.seconds(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("1024", 1024), ("10m", 10_485_760), ("2G", 2_147_483_648)])
def test_sizes_are_bytes(nginx_conf: ModuleType, text: str, expected: int) -> None:
    assert nginx_conf.size(text) == expected
