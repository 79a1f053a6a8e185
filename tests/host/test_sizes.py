"""Hosts of one environment that differ in size: each gets its own numbers from one role, host_vars still wins, and
workers share what they preload.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import testbed
from testbed import DOMAIN, ENVIRONMENT, PLAY, Host, farrier, run

pytestmark = pytest.mark.host

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


@dataclass(frozen=True)
class Sizes:
    """One environment on hosts of several sizes."""

    project: Path
    hosts: Mapping[str, Host]

    def play(self, *arguments: str) -> str:
        return run([*PLAY, f"playbooks/{ENVIRONMENT}.yml", *arguments], self.project)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sizes]:
    root = tmp_path_factory.mktemp("sizes") / "project"
    root.mkdir()
    with (
        testbed.host("sizes-large", cpus=2, memory_mb=1024) as large,
        testbed.host("sizes-small", cpus=1, memory_mb=512) as small,
    ):
        testbed.write_notes(root, [large, small], WORKLOAD, {})
        # The database is migrated once for all hosts, but each of these keeps a SQLite file of its own.
        description = yaml.safe_load((root / "farrier.yml").read_text())
        description["application"]["health_path"] = "/release/"
        testbed.write_yaml(root / "farrier.yml", description)
        with (root / "app/notes/wsgi.py").open("a") as wsgi:
            wsgi.write(OBJECTS)
        farrier(root, "facts", ENVIRONMENT)
        farrier(root, "generate", ENVIRONMENT)
        yield Sizes(root, {host.name: host for host in (large, small)})


def workers(sizes: Sizes) -> dict[str, int]:
    """Gunicorn's worker processes that are alive: the children of the masters."""
    command = (
        "for slot in a b; do pid=$(systemctl show --value -p MainPID notes@$slot); [ $pid = 0 ] || pgrep -P $pid; done"
    )
    return {name: len(host.shell(command).split()) for name, host in sizes.hosts.items()}


def test_each_host_runs_its_own_numbers_and_host_vars_wins(sizes: Sizes) -> None:
    sizes.play()
    plan = json.loads(farrier(sizes.project, "plan", ENVIRONMENT, "--json"))["hosts"]
    planned = {name: plan[name]["settings"]["gunicorn.workers"]["value"] for name in sizes.hosts}
    assert planned["sizes-large"] > planned["sizes-small"]
    assert workers(sizes) == planned

    (sizes.project / "host_vars").mkdir()
    (sizes.project / "host_vars/sizes-small.yml").write_text(
        f"notes_{ENVIRONMENT}_gunicorn_workers: {planned['sizes-small'] + 1}\n"
    )
    sizes.play()
    assert workers(sizes) == {**planned, "sizes-small": planned["sizes-small"] + 1}


def private_mb(host: Host, change: str = "") -> list[float]:
    """What each worker of the live slot holds for itself alone after some requests, each of which collects garbage."""
    script = shlex.quote(PRIVATE.format(change=change, asking=shlex.quote(ASKING)))
    return [float(line) for line in host.run(f"sudo bash -c {script}").splitlines()]


def test_a_collection_of_garbage_gives_no_worker_a_copy_of_what_all_share(sizes: Sizes) -> None:
    frozen = private_mb(sizes.hosts["sizes-large"])
    assert len(frozen) > 1
    copied = private_mb(sizes.hosts["sizes-large"], UNFROZEN)
    # Not every worker need have answered; one at least has.
    assert max(copied) > max(frozen) + COPY_MB, (frozen, copied)


def test_a_host_that_the_plan_did_not_know_is_told_to_be_planned(sizes: Sizes) -> None:
    inventory = yaml.safe_load((sizes.project / "inventory.yml").read_text())
    inventory["all"]["hosts"]["sizes-new"] = inventory["all"]["hosts"]["sizes-small"]
    testbed.write_yaml(sizes.project / "inventory.yml", inventory)
    with pytest.raises(AssertionError, match="sizes-new was not planned: gather its facts"):
        sizes.play("--limit", "sizes-new")
