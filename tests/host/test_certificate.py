"""A certificate that ends soon is told, and a missing one changes nothing: the old configuration goes on serving."""

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deployed import DOMAIN, ENVIRONMENT, HOST_TOOL, PLAY, ROOT, Deployed, attempt, deployed, run
from impatient import OVERRIDES, WORKLOAD

pytestmark = pytest.mark.host

NAME = "certificate"
PLACE = "/etc/ssl/site"


def certify(days: int) -> None:
    """Puts a certificate onto the host that is valid for so long."""
    options = f"-newkey rsa:2048 -nodes -subj /CN={DOMAIN} -days {days} -keyout {PLACE}/key.pem -out {PLACE}/chain.pem"
    command = f"sudo mkdir -p {PLACE} && sudo openssl req -x509 {options}"
    run([sys.executable, str(HOST_TOOL), "ssh", NAME, command], ROOT)


def prepare(project: Path) -> None:
    certify(10)
    path = project / "farrier.yml"
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    tls = {"certificate": f"{PLACE}/chain.pem", "key": f"{PLACE}/key.pem"}
    description["environments"][ENVIRONMENT]["tls"] = tls
    path.write_text(yaml.safe_dump(description), encoding="utf-8")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    project: Path = tmp_path_factory.mktemp(NAME)
    with deployed(NAME, project, WORKLOAD, OVERRIDES["gthread"], prepare=prepare) as running:
        yield running


def played(stack: Deployed, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return attempt([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments], stack.project)


def shown(stack: Deployed) -> str:
    """The certificate that NGINX shows."""
    ask = f"openssl s_client -connect 127.0.0.1:443 -servername {DOMAIN} 2>&1 | openssl x509"
    return stack.shell(f"head -c 0 /etc/hostname | {ask}")


@pytest.mark.row(25, "a certificate that ends soon is told")
def test_one_that_ends_soon_is_told_and_a_renewed_one_is_not(secured: Deployed) -> None:
    done = played(secured)
    assert done.returncode == 0, done.stdout
    said = re.sub(r"\s+", " ", done.stderr)
    assert f"The certificate that NGINX shows for {DOMAIN} ends in 9 days" in said
    certify(90)
    secured.shell("nginx -s reload; sleep 1")
    assert "The certificate" not in played(secured).stderr


@pytest.mark.row(25, "a file of the certificate is missing: the old configuration goes on")
@pytest.mark.parametrize("file", ["key.pem", "chain.pem"])
def test_without_one_the_old_configuration_goes_on(secured: Deployed, file: str) -> None:
    before, config = shown(secured), secured.shell("cat /etc/nginx/sites-enabled/*; sha256sum /etc/nginx/nginx.conf")
    assert ssl.PEM_cert_to_DER_cert(before)
    secured.shell(f"mv {PLACE}/{file} {PLACE}/kept")
    try:
        refused = played(secured, "-e", "notes_trial_nginx_keepalive_timeout=66")
        assert refused.returncode != 0
        assert f"{PLACE}/{file}" in refused.stdout
        assert shown(secured) == before
        assert secured.shell("cat /etc/nginx/sites-enabled/*; sha256sum /etc/nginx/nginx.conf") == config
    finally:
        secured.shell(f"mv {PLACE}/kept {PLACE}/{file}")
