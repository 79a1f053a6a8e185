"""What threads of one Gunicorn worker do under the GIL: their throughput on one CPU beside Erlang B.

    tools/bench_threads.py [--seconds 4] [--pair CPU_MS:WAIT_MS]... [--threads 1,2,4,8,16,32,48]

A gthread worker on CPU 0 serves `tools/sizing/application` to more clients than it has threads, on CPU 1. The table is what
`policy.GIL_CEILING` and `policy.GIL_THREAD_OVERHEAD` quote: the share of the CPU that is used, and the CPU time of a request
as a multiple of the least. `useful` is the share that would do with that least, `1 - B` what Erlang B says of it, and
`model` what a plan counts with. Two CPUs are needed, with nothing else running.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farrier.sizing.capacity import erlang_b, process_utilisation

ROOT = Path(__file__).resolve().parents[1]
APPLICATION = ROOT / "tools/sizing/application"
ROLE_VARIABLES = ROOT / "templates/role/vars/main.yml.tmpl"
"""Names the Gunicorn that the role installs."""

WORKER_CPU, CLIENTS_CPU = 0, 1
PAIRS = ((2.0, 50.0), (8.0, 8.0), (8.0, 25.0), (20.0, 30.0))
THREADS = (1, 2, 4, 8, 16, 32, 48)
CLIENTS_PER_THREAD = 2
"""Beyond one for each thread, so that a thread that is free always finds the next request waiting."""

WARM_SECONDS = 1.0
START_SECONDS = 20.0


@dataclass(frozen=True)
class Run:
    """One number of threads: requests a second, and the share of a CPU that the worker used."""

    threads: int
    rate: float
    cpu_share: float

    @property
    def cpu_ms(self) -> float:
        """CPU time of one request."""
        return 1000 * self.cpu_share / self.rate


def gunicorn() -> Path:
    """The role's Gunicorn, in a virtual environment that is made once."""
    found = re.search(r"gunicorn==([\w.]+)", ROLE_VARIABLES.read_text(encoding="utf-8"))
    if found is None:
        sys.exit(f"{ROLE_VARIABLES} names no version of Gunicorn")
    directory = ROOT / ".cache" / f"gunicorn-{found[1]}"
    program = directory / "bin/gunicorn"
    if not program.exists():
        venv.create(directory, with_pip=True)
        subprocess.run([directory / "bin/pip", "install", "--quiet", found[0]], check=True)
    return program


@contextmanager
def worker(program: Path, threads: int, directory: Path) -> Iterator[tuple[int, Path]]:
    """One gthread worker with a free CPU: its process id, and its socket."""
    socket = directory / f"{threads}.sock"
    options = ["--worker-class=gthread", "--workers=1", f"--threads={threads}", f"--worker-connections={threads}"]
    options += ["--keep-alive=0", "--no-control-socket", "--log-level=error", f"--bind=unix:{socket}"]
    command = ["taskset", "--cpu-list", str(WORKER_CPU), str(program), *options, "app:application"]
    with subprocess.Popen(command, cwd=APPLICATION, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}) as master:
        try:
            yield started(master, socket), socket
        finally:
            master.terminate()


def started(master: "subprocess.Popen[bytes]", socket: Path) -> int:
    """The worker's process id, once it is there and its socket takes requests."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and master.poll() is None:
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text(encoding="ascii").split()
        if children and socket.exists():
            return int(children[0])
        time.sleep(0.05)
    sys.exit("Gunicorn did not start")


def cpu_seconds(pid: int) -> float:
    """What all threads of a process have used, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


async def ask(socket: Path, address: str, answered: list[float]) -> None:
    """Ask again as soon as there is an answer, and note when it came."""
    request = f"GET {address} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(socket)
        except OSError:  # the socket is there before somebody listens
            await asyncio.sleep(0.01)
            continue
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            sys.exit(f"Gunicorn answered {answer[:60]!r}")
        answered.append(time.monotonic())


async def saturated(pid: int, socket: Path, address: str, threads: int, seconds: float) -> Run:
    """So long with a full queue, after warming."""
    answered: list[float] = []
    clients = [asyncio.create_task(ask(socket, address, answered)) for _ in range(CLIENTS_PER_THREAD * threads + 2)]
    await asyncio.sleep(WARM_SECONDS)
    begun, used = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    ended, used = time.monotonic(), cpu_seconds(pid) - used
    for client in clients:
        client.cancel()
    gone = await asyncio.gather(*clients, return_exceptions=True)
    for failure in gone:
        if not isinstance(failure, asyncio.CancelledError) and isinstance(failure, BaseException):
            raise failure
    requests = sum(begun <= each <= ended for each in answered)
    if not requests:
        sys.exit(f"nothing was answered in {seconds:g} s; more --seconds are needed")
    return Run(threads, requests / (ended - begun), used / (ended - begun))


def table(cpu_ms: float, wait_ms: float, runs: list[Run]) -> Iterator[str]:
    """One pair's lines; W/C counts with the least CPU that a request took, Gunicorn's part included."""
    least = min(run.cpu_ms for run in runs)
    ratio = wait_ms / least
    yield f"\n{cpu_ms:g} ms of CPU and {wait_ms:g} ms of wait; with Gunicorn's part {least:.2f} ms of CPU, W/C = {ratio:.2f}"
    yield f"{'threads':>7} {'requests/s':>11} {'CPU used':>9} {'ms CPU':>7} {'x least':>8} {'useful':>7} {'1 - B':>6} {'model':>6}"
    for run in runs:
        yield (
            f"{run.threads:>7} {run.rate:>11.1f} {run.cpu_share:>9.3f} {run.cpu_ms:>7.2f} {run.cpu_ms / least:>8.3f} "
            f"{run.rate * least / 1000:>7.3f} {1 - erlang_b(run.threads, ratio):>6.3f} "
            f"{process_utilisation(run.threads, ratio):>6.3f}"
        )


def pair(text: str) -> tuple[float, float]:
    """`8:25` as milliseconds of CPU and of wait."""
    cpu, _, wait = text.partition(":")
    return float(cpu), float(wait)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="time of each measurement")
    parser.add_argument("--pair", type=pair, action="append", metavar="CPU_MS:WAIT_MS")
    parser.add_argument("--threads", default=",".join(map(str, THREADS)), help="numbers of threads, with commas")
    options = parser.parse_args()
    if not {WORKER_CPU, CLIENTS_CPU} <= os.sched_getaffinity(0):
        sys.exit(f"CPUs {WORKER_CPU} and {CLIENTS_CPU} are needed, one for the worker and one for its clients")
    os.sched_setaffinity(0, {CLIENTS_CPU})
    program = gunicorn()
    for cpu_ms, wait_ms in options.pair or PAIRS:
        runs = []
        for threads in map(int, options.threads.split(",")):
            with tempfile.TemporaryDirectory() as directory, worker(program, threads, Path(directory)) as (pid, socket):
                address = f"/?cpu_ms={cpu_ms:g}&wait_ms={wait_ms:g}"
                runs.append(asyncio.run(saturated(pid, socket, address, threads, options.seconds)))
        print(*table(cpu_ms, wait_ms, runs), sep="\n", flush=True)


if __name__ == "__main__":
    main()
