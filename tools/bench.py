"""How long Farrier takes: `farrier plan` and `farrier generate` as whole processes, the model, and a role on a throw-away host.

    tools/bench.py [--runs 7] [--no-host]

Prints medians of interleaved runs. The host part needs podman or docker and makes a host of its own.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import testbed
from farrier.facts.model import HostFacts
from farrier.plan.planner import plan_all
from farrier.project.workload import Workload
from testbed import ENVIRONMENT, PLAY, farrier

FARRIER = [sys.executable, "-m", "farrier"]

PROJECT = """\
application: {name: notes, source: ., wsgi: "notes.wsgi:application", health_path: /health/}
environments:
  production:
    inventory: inventory.yml
    domain: www.example.org
"""


def timed(command: list[str], cwd: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of one process, which must succeed."""
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def project_of(hosts: int, directory: Path) -> Path:
    """A project whose hosts all differ in size."""
    root = directory / str(hosts)
    facts = root / "facts" / "production"
    facts.mkdir(parents=True)
    (root / "farrier.yml").write_text(PROJECT)
    (root / "requirements.txt").write_text("notes\n")
    (root / "inventory.yml").write_text(f"web: {{hosts: {{'web[0:{hosts - 1}]': {{}}}}}}\n")
    for i in range(hosts):
        document = {
            "schema": 1,
            "host": f"web{i}",
            "cpus": {"usable": 1 + i % 16, "online": 16, "affinity": 16, "quota": None, "used_by_others": 0},
            "memory_mb": {"usable": 1024 + 7 * i, "total": 65_536, "limit": None, "used_by_others": 100},
            "kernel": {"somaxconn": 4096, "nofile_hard": 524_288},
            "system": {
                "distribution": "Debian",
                "version": "12",
                "systemd": 252,
                "init": "systemd",
                "python": "3.11.2",
            },
        }
        (facts / f"web{i}.json").write_text(json.dumps(document))
    return root


def processes(runs: int) -> None:
    """`plan` and `generate` for 1, 10, 100 and 1,000 hosts of as many sizes."""
    with tempfile.TemporaryDirectory() as scratch:
        roots = {hosts: project_of(hosts, Path(scratch)) for hosts in (1, 10, 100, 1000)}
        commands = {
            "plan": ["plan", "production"],
            "plan --json": ["plan", "production", "--json"],
            "generate": ["generate", "production"],
        }
        seconds: dict[tuple[str, int], list[float]] = {}
        memory: dict[tuple[str, int], float] = {}
        for _ in range(runs):  # interleaved: a busy moment of the machine meets all of them
            for name, arguments in commands.items():
                for hosts, root in roots.items():
                    took, peak = timed([*FARRIER, *arguments], root)
                    seconds.setdefault((name, hosts), []).append(took)
                    memory[name, hosts] = max(memory.get((name, hosts), 0), peak)
    print(f"whole processes, median of {runs} interleaved runs\n")
    print(f"{'command':14}{'hosts':>7}{'seconds':>10}{'peak MB':>10}")
    for (name, hosts), values in seconds.items():
        print(f"{name:14}{hosts:>7}{statistics.median(values):>10.2f}{memory[name, hosts]:>10.0f}")


HOSTS = 10_000
STATED = {"cpu_seconds": 0.02, "wait_seconds": 0.03, "memory_private_mb": 45.0, "memory_shared_mb": 35.0}


def fleet(kind: str) -> tuple[list[HostFacts], Workload]:
    """So many hosts with their workload: of 16 CPU counts with ample memory, or each with CPUs and memory of its own."""
    work = Workload(**STATED, stated=frozenset(STATED))  # type: ignore[arg-type] # the keys are its fields
    if kind == "as many sizes":
        work, sizes = Workload(), [(1.0 + i % 16, 1024 + 7 * i) for i in range(HOSTS)]
    else:
        sizes = [(round(0.1 + 0.064 * i, 3), 260 + int((56 + i % 13) * 0.064 * i)) for i in range(HOSTS)]
    if kind == "a database limit":
        work = replace(work, database_connections=60 * HOSTS)
    return [
        HostFacts(host=f"web{i}", cpus=cpus, memory_mb=memory_mb, somaxconn=4096, nofile_hard=524_288)
        for i, (cpus, memory_mb) in enumerate(sizes)
    ], work


KINDS = ("as many sizes", "scarce memory, as many CPU counts", "a database limit")


def model_seconds(kind: str) -> float:
    """CPU time of the plans of 10,000 hosts, facts and workload being at hand; one thread computes, and never waits."""
    hosts, work = fleet(kind)
    started = time.process_time()
    plan_all(hosts, work, {})
    return time.process_time() - started


def model(runs: int) -> None:
    """The model alone; each run in a process of its own, which remembers nothing of the one before."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        seconds = pool.map(model_seconds, KINDS * runs, chunksize=1)
    print()
    for i, kind in enumerate(KINDS):
        print(
            f"the plans of 10,000 hosts, {kind}, facts at hand: {statistics.median(seconds[i :: len(KINDS)]):.1f} s of CPU"
        )


def on_a_host(runs: int) -> None:
    """The generated role on a fresh host: the first run, then unchanged ones."""
    name = f"farrier-bench-{os.getpid()}"
    play = [str(Path(sys.executable).parent / PLAY[0]), *PLAY[1:], f"playbooks/{ENVIRONMENT}.yml"]
    with tempfile.TemporaryDirectory() as scratch, testbed.host(name, cpus=1, memory_mb=1024) as host:
        root = Path(scratch)
        testbed.write_notes(root, [host], {}, {})
        farrier(root, "facts", ENVIRONMENT)
        farrier(root, "generate", ENVIRONMENT)
        first, _ = timed(play, root)
        again = [timed(play, root)[0] for _ in range(runs)]
    print("\nansible-playbook over SSH, one host with 1 CPU and 1 GB\n")
    print(f"fresh host, package downloads included: {first:.1f} s")
    print(f"unchanged re-run, median of {runs}:        {statistics.median(again):.1f} s")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--no-host", action="store_true", help="leave out the part that needs a host")
    options = parser.parse_args()
    processes(options.runs)
    model(min(options.runs, 3))
    if not options.no_host:
        on_a_host(min(options.runs, 5))


if __name__ == "__main__":
    main()
