"""Hosts of one environment that differ in size: each gets its own numbers from one role, host_vars still wins, and
workers share what they preload.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deployed import DOMAIN, ENVIRONMENT, HOST_TOOL, ROOT, farrier, run, write_project

pytestmark = pytest.mark.host

LIMITS = {"sizes-large": ("2", "1024"), "sizes-small": ("1", "512")}
WORKLOAD = {
    "cpu_seconds": 0.02,
    "wait_seconds": 0.03,
    "memory_private_mb": 30,
    "memory_shared_mb": 30,
    "preload_safe": True,
}
OBJECTS = """
import gc

objects = [{"number": number} for number in range(100_000)]
answer = application


def application(environ, start_response):
    gc.collect()  # what a long day does by itself
    return answer(environ, start_response)
"""
COPY_MB = 5
"""A copy of them takes about twice as much."""

PRIVATE = """
set -eu
cd /srv/notes/slots/$(basename "$(readlink /srv/notes/active)")
{change}
python3 -c {asking}
for worker in $(pgrep -P "$(systemctl show --value -p MainPID "notes@${{PWD##*/}}")"); do
  awk '/^Private/ {{sum += $2}} END {{print sum / 1024}}' "/proc/$worker/smaps_rollup"
done
"""
ASKING = f"""
from urllib.request import Request, urlopen

for _ in range(30):
    urlopen(Request("http://127.0.0.1/release/", headers={{"Host": "{DOMAIN}"}})).read()
"""
UNFROZEN = """
cp -L gunicorn.conf.py changed.conf.py
sed -i '/gc.freeze()/d' changed.conf.py
mv changed.conf.py gunicorn.conf.py
systemctl restart "notes@${PWD##*/}"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("sizes") / "project"
    root.mkdir()
    try:
        hosts = {
            name: json.loads(run([sys.executable, str(HOST_TOOL), "up", name, "--cpus", cpus, "--memory-mb", mb], ROOT))
            for name, (cpus, mb) in LIMITS.items()
        }
        write_project(root, hosts["sizes-large"], WORKLOAD, {})
        inventory = yaml.safe_load((root / "inventory.yml").read_text())
        inventory["all"]["hosts"] = {name: host["inventory"] for name, host in hosts.items()}
        (root / "inventory.yml").write_text(yaml.safe_dump(inventory))
        # The database is migrated once for all hosts, but each of these keeps a SQLite file of its own.
        description = yaml.safe_load((root / "farrier.yml").read_text())
        description["application"]["health_path"] = "/release/"
        (root / "farrier.yml").write_text(yaml.safe_dump(description))
        with (root / "app/notes/wsgi.py").open("a") as wsgi:
            wsgi.write(OBJECTS)
        farrier(root, "facts", ENVIRONMENT)
        farrier(root, "generate", ENVIRONMENT)
        yield root
    finally:
        for name in LIMITS:
            run([sys.executable, str(HOST_TOOL), "down", name], ROOT)


def play(project: Path) -> str:
    return run(["ansible-playbook", "-i", "inventory.yml", f"playbooks/{ENVIRONMENT}.yml"], project)


def workers(host: str) -> int:
    """Gunicorn's worker processes that are alive: the children of the masters."""
    command = "sudo sh -c 'for slot in a b; do pid=$(systemctl show --value -p MainPID notes@$slot); [ $pid = 0 ] || pgrep -P $pid; done'"
    return len(run([sys.executable, str(HOST_TOOL), "ssh", host, command], ROOT).split())


def test_each_host_runs_its_own_numbers_and_host_vars_wins(project: Path) -> None:
    play(project)
    plan = json.loads(farrier(project, "plan", ENVIRONMENT, "--json"))["hosts"]
    planned = {host: plan[host]["settings"]["gunicorn.workers"]["value"] for host in LIMITS}
    assert planned["sizes-large"] > planned["sizes-small"]
    assert {host: workers(host) for host in LIMITS} == planned

    (project / "host_vars").mkdir()
    (project / "host_vars/sizes-small.yml").write_text(
        f"notes_{ENVIRONMENT}_gunicorn_workers: {planned['sizes-small'] + 1}\n"
    )
    play(project)
    assert {host: workers(host) for host in LIMITS} == {**planned, "sizes-small": planned["sizes-small"] + 1}


def private_mb(host: str, change: str = "") -> list[float]:
    """What each worker of the live slot holds for itself alone after some requests, each of which collects garbage."""
    script = shlex.quote(PRIVATE.format(change=change, asking=shlex.quote(ASKING)))
    said = run([sys.executable, str(HOST_TOOL), "ssh", host, f"sudo bash -c {script}"], ROOT)
    return [float(line) for line in said.splitlines()]


@pytest.mark.usefixtures("project")
def test_a_collection_of_garbage_gives_no_worker_a_copy_of_what_all_share() -> None:
    frozen = private_mb("sizes-large")
    assert len(frozen) > 1
    copied = private_mb("sizes-large", UNFROZEN)
    # Not every worker need have answered; one at least has.
    assert max(copied) > max(frozen) + COPY_MB, (frozen, copied)


def test_a_host_that_the_plan_did_not_know_is_told_to_be_planned(project: Path) -> None:
    inventory = yaml.safe_load((project / "inventory.yml").read_text())
    inventory["all"]["hosts"]["sizes-new"] = inventory["all"]["hosts"]["sizes-small"]
    (project / "inventory.yml").write_text(yaml.safe_dump(inventory))
    with pytest.raises(AssertionError, match="sizes-new was not planned: gather its facts"):
        run(
            ["ansible-playbook", "-i", "inventory.yml", f"playbooks/{ENVIRONMENT}.yml", "--limit", "sizes-new"], project
        )
