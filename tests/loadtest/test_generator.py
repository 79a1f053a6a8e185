"""The load generator against a real server on the loopback interface: when it sends, what it counts, how it ends."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from farrier.ansible.render import PACKAGE
from farrier.errors import HostError
from farrier.loadtest.job import Job, WeightedRequest
from farrier.loadtest.process import LoadGenerator
from farrier.loadtest.remote_workers import FILES, free_port
from farrier.loadtest.rows import StepResult, Usage

pytestmark = pytest.mark.clock

SLOW_SECONDS = 0.8
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers by path, on a thread of its own; remembers when each request came and on how many connections."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.loop = asyncio.new_event_loop()
        self.came: list[tuple[float, str, dict[str, str]]] = []
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        started = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def run(self, started: threading.Event) -> None:
        server = self.loop.run_until_complete(
            asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=2000, ssl=self.tls)
        )
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.end())
        self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = lines[0].split()[1]
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                self.came.append((time.monotonic(), path, headers))
                if path == "/slow":
                    await asyncio.sleep(SLOW_SECONDS)
                if path in ("/hang", "/half"):
                    writer.write(HEAD[:-1] if path == "/half" else b"")
                    await asyncio.sleep(60)
                if path == "/close":
                    break
                status = {"/503": b"503 Full", "/302": b"302 LoadtestResult\r\nLocation: /503"}.get(path, b"200 OK")
                writer.write(HEAD.replace(b"200 OK", status).replace(b"\r\nContent", b"\r\nSet-Cookie: a=b\r\nContent"))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        writer.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


def job(server: Server, path: str = "/", *, timeout_seconds: float = 2.0, workers: int = 0) -> Job:
    return Job(
        f"http://127.0.0.1:{server.port}",
        "www.example.org",
        (WeightedRequest("GET", path),),
        timeout_seconds=timeout_seconds,
        workers=workers,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.05)
    return condition()


def test_slow_answers_delay_no_later_request(server: Server) -> None:
    with LoadGenerator(job(server, "/slow")) as generator:
        step = generator.step(50, seconds=2, warm_seconds=0.5)
    times = [moment for moment, _, _ in server.came]
    # A closed loop of any ten clients would send 12 a second.
    assert times[-1] - times[0] == pytest.approx(2.5, abs=0.3)
    assert 90 <= len(times) <= 165
    assert step.latency.p50 == pytest.approx(SLOW_SECONDS, abs=0.1)
    assert step.kinds == {"200": step.offered}
    assert step.in_flight == pytest.approx(50 * SLOW_SECONDS, abs=20)
    assert step.drain_seconds == pytest.approx(SLOW_SECONDS, abs=0.2)
    # Answers of the first 0.8 s are missing in the window's count: those that came, not those that were due.
    assert step.good_rps == pytest.approx(50 * (2.5 - SLOW_SECONDS) / 2, rel=0.3)


def test_arrivals_are_poisson_and_the_same_again_with_the_same_seed(server: Server) -> None:
    offered = []
    for _ in range(2):
        with LoadGenerator(job(server)) as generator:
            offered.append(generator.step(300, seconds=1.5).offered)
    assert offered[0] == offered[1]
    gaps = [b[0] - a[0] for a, b in zip(server.came[: offered[0]], server.came[1 : offered[0]], strict=False)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(1 / 300, rel=0.15)
    # The standard deviation of exponential gaps is their mean; of a regular beat it is nothing.
    assert 0.8 < variance**0.5 / mean < 1.3


def test_each_failure_is_counted_by_its_kind_and_asked_for_once(server: Server) -> None:
    kinds = {"/503": "503", "/302": "302", "/close": "reset", "/hang": "timeout", "/half": "timeout"}
    paths = tuple(WeightedRequest("GET", path) for path in kinds)
    failing = Job(f"http://127.0.0.1:{server.port}", "www.example.org", paths, timeout_seconds=0.5)
    with LoadGenerator(failing) as generator:
        step = generator.step(150, seconds=1)
    for path, kind in kinds.items():
        outcome = step.paths[f"GET {path}"]
        assert outcome.kinds == {kind: outcome.offered}
        assert outcome.offered == sum(seen == path for _, seen, _ in server.came)
        assert outcome.good == (outcome.offered if kind == "302" else 0)
        assert outcome.answered == (outcome.offered if kind in ("302", "503") else 0)


def test_a_request_sent_at_the_last_moment_has_as_long_as_any_other(server: Server) -> None:
    with LoadGenerator(job(server, "/hang", timeout_seconds=0.5)) as generator:
        step = generator.step(1000, seconds=0.5)  # the last of them half a millisecond before the end
    assert step.kinds == {"timeout": step.offered}


def test_connections_are_kept_and_cookies_are_not(server: Server) -> None:
    with LoadGenerator(job(server, "/503")) as generator:
        step = generator.step(100, seconds=1)
    assert server.connections < step.offered / 4
    assert not any("cookie" in headers for _, _, headers in server.came)
    assert {headers["host"] for _, _, headers in server.came} == {"www.example.org"}


def test_a_refusing_port_is_told_from_no_answer_and_does_not_end_the_run() -> None:
    closed = Job("http://127.0.0.1:9", "www.example.org", max_rps=100)
    with LoadGenerator(closed) as generator:
        assert set(generator.step(50, seconds=1).kinds) == {"refused"}
        with pytest.raises(HostError, match="rps: 101 is not above 0 and up to 100, the bound of this run"):
            generator.step(101, seconds=1)
        assert set(generator.step(50, seconds=1).kinds) == {"refused"}


def test_a_step_waits_for_its_answers_and_spares_the_next_one(server: Server) -> None:
    mixed = Job(
        f"http://127.0.0.1:{server.port}",
        "www.example.org",
        (WeightedRequest("GET", "/hang"), WeightedRequest("GET", "/quick")),
        timeout_seconds=30,
        drain_seconds=0.5,
    )
    with LoadGenerator(mixed) as generator:
        first = generator.step(60, seconds=1)
        second = generator.step(60, seconds=1)
    for step in (first, second):
        hang, quick = step.paths["GET /hang"], step.paths["GET /quick"]
        assert hang.kinds == {"unfinished": hang.offered}
        assert quick.kinds == {"200": quick.offered}
        assert hang.offered <= step.in_flight <= hang.offered + 2  # a quick one may have just left
        assert step.drain_seconds == pytest.approx(0.5, abs=0.2)


def test_the_bound_of_requests_under_way_is_kept_and_shown(server: Server) -> None:
    bounded = Job(
        f"http://127.0.0.1:{server.port}", "x", (WeightedRequest("GET", "/slow"),), max_in_flight=10, timeout_seconds=2
    )
    with LoadGenerator(bounded) as generator:
        step = generator.step(100, seconds=1)
    assert step.in_flight == 10
    assert step.kinds["unsent"] + step.kinds["200"] == step.offered
    limited = StepResult(step, Usage(), 0.1).limited
    assert limited is not None
    assert "could not be sent" in limited


def test_a_generator_that_stands_still_counts_it_as_latency_and_as_its_own_limit(server: Server) -> None:
    with LoadGenerator(job(server)) as generator:

        def stall() -> None:
            time.sleep(0.8)
            generator.process.send_signal(signal.SIGSTOP)
            time.sleep(0.5)
            generator.process.send_signal(signal.SIGCONT)

        stalling = threading.Thread(target=stall)
        stalling.start()
        step = generator.step(100, seconds=2)
        stalling.join()
    assert step.lateness_p95_seconds > 0.2
    assert step.latency.p95 is not None
    assert step.latency.p95 > 0.2
    limited = StepResult(step, Usage(), 0.1).limited
    assert limited is not None
    assert "late (p95)" in limited


def test_workers_share_the_rate_and_report_together(server: Server) -> None:
    with LoadGenerator(job(server, workers=2)) as generator:
        first = generator.step(200, seconds=1)
        second = generator.step(20, seconds=0.5)
    assert first.workers == 2
    assert first.offered == pytest.approx(200, abs=50)
    assert first.kinds == {"200": first.offered}
    assert len(server.came) == first.offered + second.offered


def test_a_worker_elsewhere_needs_no_more_than_its_few_files(server: Server, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / "farrier" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / name, tmp_path / "farrier" / name)
    port = free_port()
    command = [sys.executable, "-m", "farrier.loadtest.load_generator", "--remote-worker", "127.0.0.1", str(port)]
    elsewhere = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=elsewhere, stdin=subprocess.DEVNULL) as worker:
        whole = replace(job(server), workers=1, remote_workers=1, bind_port=port)
        with LoadGenerator(whole) as generator:
            step = generator.step(100, seconds=1)
        assert step.workers == 2
        assert step.kinds == {"200": step.offered}
        assert worker.wait(10) == 0


def alive(marker: str) -> list[int]:
    """Load generator processes that were started with this in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if (
                marker.encode() in path.read_bytes()
                and b"loadtest.load_generator" in (path.parent / "cmdline").read_bytes()
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_it_dies_with_its_parent_in_the_middle_of_a_step_with_all_workers(server: Server) -> None:
    marker = f"FARRIER_TEST={os.getpid()}-{server.port}"
    program = (
        "from farrier.loadtest.job import Job\nfrom farrier.loadtest.process import LoadGenerator\n"
        f"with LoadGenerator(Job('http://127.0.0.1:{server.port}', 'x', workers=2)) as generator:\n"
        "    generator.step(50, seconds=60)\n"
    )
    name, _, value = marker.partition("=")
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, name: value}) as parent:
        assert wait_until(lambda: len(server.came) > 10, 30)
        assert len(alive(marker)) == 3
        parent.kill()
    assert wait_until(lambda: not alive(marker))


def test_its_time_is_bounded(server: Server) -> None:
    short = Job(f"http://127.0.0.1:{server.port}", "x", max_seconds=2)
    with LoadGenerator(short) as generator:
        generator.step(20, seconds=1)
        assert generator.process.wait(10) == 0
        with pytest.raises(HostError, match="ended by itself"):
            generator.step(20, seconds=1)


def test_a_worker_that_is_lost_ends_the_run_with_a_reason(server: Server) -> None:
    marker = f"FARRIER_TEST={os.getpid()}-{server.port}"
    name, _, value = marker.partition("=")
    os.environ[name] = value
    try:
        with LoadGenerator(Job(f"http://127.0.0.1:{server.port}", "x", workers=2, drain_seconds=0.5)) as generator:
            workers = [pid for pid in alive(marker) if pid != generator.process.pid]
            os.kill(workers[0], signal.SIGKILL)
            with pytest.raises(HostError, match="1 of 2 workers exited"):
                generator.step(20, seconds=30)
    finally:
        del os.environ[name]


def test_the_callers_process_stays_free_of_locust() -> None:
    program = (
        "import sys, farrier.cli.app, farrier.loadtest.process, farrier.loadtest.run\n"
        "print('locust' in sys.modules, 'gevent' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "False False\n"


def certificate(directory: Path, name: str) -> Path:
    """A certificate for this name that nobody has signed but itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "pair.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


def test_tls_names_the_host_and_verifies_only_where_it_is_told_to(tmp_path: Path) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "www.example.org"))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = Server(context)
    try:
        trusting = Job(f"https://127.0.0.1:{server.port}", "www.example.org", verify_tls=False)
        with LoadGenerator(trusting) as generator:
            step = generator.step(40, seconds=0.5)
        assert step.kinds == {"200": step.offered}
        assert set(names) == {"www.example.org"}
        with LoadGenerator(replace(trusting, verify_tls=True)) as generator:
            assert set(generator.step(40, seconds=0.5).kinds) == {"tls"}
    finally:
        server.stop()


def test_a_name_that_leads_nowhere_is_said() -> None:
    with (
        pytest.raises(HostError, match="the load generator ended by itself"),
        LoadGenerator(Job("http://nowhere.invalid", "x")),
    ):
        pass
