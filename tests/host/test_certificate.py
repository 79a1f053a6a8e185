"""A certificate that ends soon is told, and a missing one changes nothing: the old configuration goes on serving."""

import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deployed import Deployed, deployed
from impatient import OVERRIDES, WORKLOAD
from operated import altered
from testbed import DOMAIN, ENVIRONMENT, PLAY, attempt

pytestmark = pytest.mark.host

NAME = "certificate"
PLACE = "/etc/ssl/site"


def certify(host: Deployed, days: int) -> None:
    """Puts a certificate onto the host that is valid for so long."""
    options = f"-newkey rsa:2048 -nodes -subj /CN={DOMAIN} -days {days} -keyout {PLACE}/key.pem -out {PLACE}/chain.pem"
    host.shell(f"mkdir -p {PLACE} && openssl req -x509 {options}")


def prepare(stack: Deployed) -> None:
    certify(stack, 10)
    path = stack.project / "farrier.yml"
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


def check_told(stack: Deployed) -> None:
    done = played(stack, "--tags", "verify")
    assert done.returncode == 0, done.stdout
    said = re.sub(r"\s+", " ", done.stderr)
    assert f"The certificate that NGINX serves for {DOMAIN} expires in 9 days" in said, f"nobody is told: {said}"


@pytest.mark.row(25, "a certificate that ends soon is told", without="a look at its end")
def test_without_a_look_at_its_end_nobody_is_told(secured: Deployed) -> None:
    status = secured.project / f"roles/notes_{ENVIRONMENT}/library/farrier_status.py"
    with (
        altered(status, "if days is not None and days < CERTIFICATE_DAYS:", "if False:"),
        pytest.raises(AssertionError, match="nobody is told"),
    ):
        check_told(secured)


@pytest.mark.row(25, "a certificate that ends soon is told")
def test_one_that_ends_soon_is_told_and_a_renewed_one_is_not(secured: Deployed) -> None:
    check_told(secured)
    certify(secured, 90)
    secured.shell("nginx -s reload; sleep 1")
    done = played(secured, "--tags", "verify")
    assert done.returncode == 0, done.stdout
    assert "The certificate" not in done.stderr


def check_missing(stack: Deployed, file: str) -> None:
    look = "cat /etc/nginx/sites-enabled/*; sha256sum /etc/nginx/nginx.conf"
    before, config = shown(stack), stack.shell(look)
    assert ssl.PEM_cert_to_DER_cert(before)
    stack.shell(f"mv {PLACE}/{file} {PLACE}/kept")
    try:
        refused = played(stack, "-e", "notes_trial_nginx_keepalive_timeout=66")
        assert refused.returncode != 0
        assert shown(stack) == before
        assert stack.shell(look) == config, "a configuration is in place with which NGINX would not start"
        assert f"{PLACE}/{file}" in refused.stdout
    finally:
        stack.shell(f"mv {PLACE}/kept {PLACE}/{file}")


@pytest.mark.row(25, "a file of the certificate is missing: the old configuration goes on")
@pytest.mark.parametrize("file", ["key.pem", "chain.pem"])
def test_without_one_the_old_configuration_goes_on(secured: Deployed, file: str) -> None:
    check_missing(secured, file)


@pytest.mark.row(25, "a file of the certificate is missing", without="nginx -t")
def test_without_nginx_t_a_missing_one_is_found_too_late(secured: Deployed) -> None:
    role = secured.project / f"roles/notes_{ENVIRONMENT}"
    try:
        with (
            altered(role / "tasks/nginx.yml", "validate: [nginx, -t, -q]", "validate: []"),
            altered(role / "module_utils/farrier_sites.py", "if not os.access(PROGRAM, os.X_OK):", "if True:"),
            pytest.raises(AssertionError, match="with which NGINX would not start"),
        ):
            check_missing(secured, "key.pem")
    finally:
        secured.play("--tags", "nginx")
