"""One application on a throw-away host of one pinned CPU, from `farrier measure` to the deployed role, and load on it."""

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import yaml

import testbed
from farrier.loadtest.job import Job, WeightedRequest
from farrier.loadtest.process import LoadGenerator
from farrier.loadtest.step import Step
from sizing.search import Probe
from sizing.workloads import Work
from testbed import PLAY, Host, farrier, run

APPLICATION = Path(__file__).parent / "application"
ENVIRONMENT = "bench"
DOMAIN = "bench.example.org"
HOST_CPU, GENERATOR_CPU = 0, 1

READY_SECONDS = 60
PROBE_REQUESTS = 320
"""So many answers make a p95 that can be told from its neighbour's; a probe lasts until they are there, within the work's limits."""

WARM_SECONDS = 1.0
DRAIN_SECONDS = 20.0
MOST_SECONDS = 4 * 3600.0
GENERATOR_LIMIT = 0.9
"""Above this share of its own CPU the generator measures itself."""


PAGE_MB = 4096 / 2**20
RESIDENT = """
import struct, sys

frames = set()
for pid in sys.argv[1:]:
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pages:
        for line in maps:
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            if begin < 1 << 63:
                pages.seek(begin // 4096 * 8)
                entries = struct.iter_unpack("<Q", pages.read((end - begin) // 4096 * 8))
                frames.update(entry & (1 << 55) - 1 for (entry,) in entries if entry >> 63)
print(len(frames))
"""
"""Prints how many page frames some processes hold together; root may ask."""


@dataclass(frozen=True)
class Configuration:
    """How Gunicorn runs; a sync worker has one thread."""

    workers: int
    threads: int
    worker_connections: int

    @property
    def lines(self) -> str:
        """What stands at the end of Gunicorn's configuration, where it has the last word."""
        kind = "sync" if self.threads == 1 else "gthread"
        return (
            f'\nworker_class = "{kind}"\nworkers = {self.workers}\nthreads = {self.threads}\n'
            f"worker_connections = {self.worker_connections}\n"
        )


def read_workload(project: Path) -> dict[str, Any]:
    """The workload file of a project directory."""
    text = (project / "workloads" / f"{ENVIRONMENT}.yml").read_text(encoding="utf-8")
    workload: dict[str, Any] = yaml.safe_load(text)
    return workload


class Rig:
    """The host and what runs on it."""

    def __init__(self, work: Work, project: Path, host: Host) -> None:
        """Keep what it is reached by."""
        self.work, self.project, self.host = work, project, host
        self.running: Configuration | None = None

    def measure(self, seconds: int) -> None:
        """Write the workload file that the project names."""
        farrier(self.project, "measure", ENVIRONMENT, "--seconds", str(seconds))

    def plan(self) -> dict[str, Any]:
        """The plan of the host."""
        document = json.loads(farrier(self.project, "plan", ENVIRONMENT, "--json"))
        plan: dict[str, Any] = document["hosts"][self.host.name]
        return plan

    def workload(self) -> dict[str, Any]:
        """What was measured."""
        return read_workload(self.project)

    def deploy(self) -> None:
        """Generate the role and run it."""
        farrier(self.project, "generate", ENVIRONMENT, "--force")
        run([*PLAY, f"playbooks/{ENVIRONMENT}.yml"], self.project)
        self.running = None

    def configure(self, configuration: Configuration) -> None:
        """Let the deployed slot run with other workers, threads and worker_connections, and wait until all are ready."""
        if configuration == self.running:
            return
        script = f"""
            set -eu
            slot=$(basename "$(readlink /srv/bench/active)")
            cd "/srv/bench/slots/$slot"
            if [ ! -e planned.conf.py ]; then cp -L gunicorn.conf.py planned.conf.py; fi
            {{ cat planned.conf.py; printf %s {shlex.quote(configuration.lines)}; }} > changed.conf.py
            mv changed.conf.py gunicorn.conf.py
            systemctl set-property --runtime "bench@$slot" MemoryMax=infinity
            systemctl restart "bench@$slot"
            for _ in $(seq {READY_SECONDS * 10}); do
                ready=$(find "/run/bench-$slot" -path '*/workers/*' -type f | wc -l)
                if [ "$ready" = {configuration.workers} ]; then exit 0; fi
                sleep 0.1
            done
            systemctl status "bench@$slot"
            exit 1
        """
        self.host.shell(script)
        self.running = configuration

    def memory_mb(self) -> float:
        """What Gunicorn's processes hold, pages that they share counted once, whoever else on the host may share them too."""
        script = f"""
            slot=$(basename "$(readlink /srv/bench/active)")
            master=$(systemctl show --value -p MainPID "bench@$slot")
            python3 -c {shlex.quote(RESIDENT)} "$master" $(pgrep -P "$master")
        """
        return int(self.host.shell(script)) * PAGE_MB

    @contextmanager
    def load(self) -> Iterator[LoadGenerator]:
        """The generator on its own CPU."""
        job = Job(
            url=f"http://127.0.0.1:{self.host.http_port}",
            host=DOMAIN,
            requests=tuple(WeightedRequest("GET", path, weight) for path, weight in self.work.urls.items()),
            drain_seconds=DRAIN_SECONDS,
            max_seconds=MOST_SECONDS,
        )
        with LoadGenerator(job, cpu=GENERATOR_CPU) as generator:
            yield generator


def probe(generator: LoadGenerator, rate: float, work: Work, chance: str) -> Probe:
    """One rate, and whether 95 % were answered within the objective and none failed."""
    step = load(generator, rate, work, chance)
    p95 = step.latency.p95 or inf
    return Probe(rate, p95, step.good == step.offered and p95 <= work.objective_seconds)


def load(generator: LoadGenerator, rate: float, work: Work, chance: str) -> Step:
    """One rate for as long as its p95 needs."""
    least, most = work.probe_seconds
    seconds = min(most, max(least, PROBE_REQUESTS / rate))
    step = generator.step(rate, seconds=seconds, warm_seconds=WARM_SECONDS, chance=chance)
    if step.cpu_share > GENERATOR_LIMIT:
        sys.exit(f"the generator was the limit at {rate:.0f} requests a second: {step.cpu_share:.2f} of its CPU")
    return step


@contextmanager
def rig(work: Work, directory: Path) -> Iterator[Rig]:
    """A host of its own for the time of the run, and a project directory for it that stays."""
    project = directory / work.name
    project.mkdir(parents=True, exist_ok=True)
    name = f"sizing-{work.name}"
    with testbed.host(name, cpus=1, cpuset=str(HOST_CPU), memory_mb=work.memory_mb) as host:
        _write_project(project, work, host)
        farrier(project, "facts", ENVIRONMENT)
        yield Rig(work, project, host)


def _write_project(project: Path, work: Work, host: Host) -> None:
    workload = Path("workloads") / f"{ENVIRONMENT}.yml"
    (project / workload).parent.mkdir(exist_ok=True)
    if not (project / workload).exists():
        testbed.write_yaml(project / workload, {"latency_p95_seconds": work.objective_seconds})
    application = {
        "name": "bench",
        "source": "application",
        "wsgi": "app:application",
        "health_path": "/health/",
        "environment": dict(work.environment),
        "urls": dict(work.urls),
    }
    environments = {ENVIRONMENT: {"domain": DOMAIN, "workload": str(workload)}}
    testbed.write_project(project, [host], source=APPLICATION, application=application, environments=environments)
