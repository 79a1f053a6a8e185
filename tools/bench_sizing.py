"""How close Farrier's sizes come to the best there are: eight applications, each measured, planned, deployed and loaded.

    tools/bench_sizing.py [--work NAME]... [--stage plan|screen|final|report]... [--rounds 3] [--directory .cache/sizing]

Beside Farrier's choice stand a grid of workers, threads and worker_connections, and the common rules of thumb. A test host
has one CPU for itself, the load generator the other one. What was found is kept: stopped, it goes on where it was; finished,
it prints its table, puts it into docs/benchmarks.md and draws docs/sizing.svg. `--stage report` does only that.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from farrier.loadtest.process import LoadGenerator
from sizing.records import Record, Records
from sizing.report import DEFAULT_CONNECTIONS, THUMB, rules, write_report
from sizing.rig import GENERATOR_CPU, Configuration, Rig, load, probe, rig
from sizing.search import Probe, highest
from sizing.workloads import WORKS

ROOT = Path(__file__).resolve().parents[1]
MEASURE_SECONDS = 120
"""Of the heavy-tailed application, half as many do not tell the mean well enough."""

WORKERS = (1, 2, 3, 4, 8, 16, 26)
THREADS = (1, 2, 4, 8, 16, 32)
LEAST_SLOTS = 0.63
"""By Little's law N slots carry at most N / H; what cannot come to this share of what the CPU can do needs no load to tell."""

MOST_SLOTS = 4.0
"""... and slots beyond this multiple of what Little needs for the CPU's capacity (at least 8) only add to the queue."""

CONTENDER = 0.95
"""A configuration that does not hold the objective at this share of the best rate is not looked at more closely."""

FITS = 0.75
"""Workers whose private memory takes more than this share of the host are left out: the kernel would kill them."""

HOPELESS = 0.5
"""A rule that by Little's law cannot carry this share of Farrier's rate is not loaded; 2n + 1 always is."""

CLOSE = 0.95
"""Screened within this share of the best, it goes into the finals with Farrier's choice."""

MOST_FINALISTS = 2
FINE = 2
"""Halvings of the gap between a rate that holds and one that does not: finalists are told apart to 3 %."""

REST = 0.7
"""Latency is compared at this share of the best one's rate."""

SATURATED = 1.3
"""Capacity is what is answered when this multiple of the highest rate is offered."""


def chosen(plan: dict[str, Any]) -> Configuration:
    """What Farrier's plan says."""
    value = {name: setting["value"] for name, setting in plan["settings"].items()}
    return configuration(value["gunicorn.workers"], value["gunicorn.threads"], value["gunicorn.worker_connections"])


def configuration(workers: int, threads: int, worker_connections: int) -> Configuration:
    """One way to run; a sync worker takes no notice of worker_connections, so that one value stands for all."""
    return Configuration(workers, threads, worker_connections if threads > 1 else DEFAULT_CONNECTIONS)


def grid(cpu_seconds: float, wait_seconds: float) -> Iterator[Configuration]:
    """Pairs that can be the best, with worker_connections equal to threads; the most promising number of slots first."""
    service = cpu_seconds + wait_seconds
    needed = service / cpu_seconds
    pairs = [(p, t) for p in WORKERS for t in THREADS if p * t <= max(8, MOST_SLOTS * needed)]
    pairs = [(p, t) for p, t in pairs if p * t / service >= LEAST_SLOTS / cpu_seconds]
    for workers, threads in sorted(pairs, key=lambda pair: abs(pair[0] * pair[1] - 1.5 * needed)):
        yield configuration(workers, threads, threads)


class Run:
    """One work on its host, stage after stage; each leaves out what an earlier run has found."""

    def __init__(self, bench: Rig, records: Records) -> None:
        """Keep both."""
        self.bench, self.records, self.work = bench, records, bench.work

    def plan(self) -> None:
        """From measure to the plan; the first deploy makes the application's user, the second puts the plan in force."""
        self.bench.deploy()
        if self.records.plan(self.work.name) is None:
            self.bench.measure(MEASURE_SECONDS)
            self.records.keep_plan(self.work.name, self.bench.plan())
            self.bench.deploy()

    @property
    def own(self) -> Configuration:
        """Farrier's choice."""
        return chosen(self.records.plan(self.work.name) or {})

    def screen(self, generator: LoadGenerator) -> None:
        """Farrier's choice, the rules and the grid, once each; whoever cannot be the best is left early."""
        work = self.bench.workload()
        cpu, wait = work["cpu_seconds"], work["wait_seconds"]
        slots = (cpu + wait) / cpu
        self._screen(generator, self.own, 0.85 / cpu)
        for each in rules(self.work, work):
            most = min(1.0, each.workers * each.threads / slots) / cpu
            if each != THUMB and most < HOPELESS * self.best:
                self._keep_bound(each, most)
            else:
                self._screen(generator, each, 0.8 * most)
        most_workers = (FITS * self.work.memory_mb - work["memory_shared_mb"]) / work["memory_private_mb"]
        for pair in grid(cpu, wait):
            if pair.workers > most_workers:
                continue
            self._screen(generator, pair, None)
        for pair in self.finalists():
            if pair.threads > 1:
                self._screen(generator, replace(pair, worker_connections=DEFAULT_CONNECTIONS), None)

    @property
    def best(self) -> float:
        """The highest rate of the screening so far."""
        return max(
            (record.rate for record in self.records.find(self.work.name, "screen") if not record.bound), default=0
        )

    def _keep_bound(self, configuration: Configuration, rate: float) -> None:
        """By Little's law N slots carry no more than N / H."""
        if not self.records.find(self.work.name, "screen", configuration):
            self._keep("screen", 0, configuration, rate, bound=True)

    def _screen(self, generator: LoadGenerator, configuration: Configuration, start: float | None) -> float:
        """The highest rate; without a `start` only for who holds the objective near the best one's."""
        known = self.records.find(self.work.name, "screen", configuration)
        if known:
            return 0.0 if known[0].bound else known[0].rate
        self.bench.configure(configuration)
        if start is None:
            floor = CONTENDER * self.best
            first = self._probe(generator)(floor)
            if not first.held:
                self._keep("screen", 0, configuration, floor, bound=True)
                return 0.0
            rate = highest(self._probe(generator), self.best, refine=0, low=floor)
        else:
            rate = highest(self._probe(generator), start, refine=1)
        self._keep("screen", 0, configuration, rate)
        return rate

    def _probe(self, generator: LoadGenerator, number: int = 0) -> Callable[[float], Probe]:
        """Within one round all configurations meet the same arrivals."""
        return lambda rate: probe(generator, rate, self.work, f"round {number}")

    def finals(self, generator: LoadGenerator, rounds: int) -> None:
        """Farrier's choice and those that came close, interleaved; then latency at a share of the best one's rate."""
        name = self.work.name
        finalists = self.finalists()
        for number in range(rounds):
            for configuration in finalists[number % len(finalists) :] + finalists[: number % len(finalists)]:
                if any(record.round == number for record in self.records.find(name, "final", configuration)):
                    continue
                self.bench.configure(configuration)
                start = self.records.rate(name, configuration) or self.best
                rate = highest(self._probe(generator, number), start, refine=FINE)
                self._keep("final", number, configuration, rate, memory_mb=self.bench.memory_mb())
        self._at_rest(generator, finalists, rounds)
        self._saturated(generator, rounds)

    def finalists(self) -> list[Configuration]:
        """Farrier's choice, then the best of the others that came close to the best of all, at least one."""
        found = [record for record in self.records.find(self.work.name, "screen") if not record.bound]
        others = sorted((each for each in found if each.configuration != self.own), key=lambda record: -record.rate)
        close = [each for each in others if each.rate >= CLOSE * self.best] or others[:1]
        return [self.own, *(record.configuration for record in close[:MOST_FINALISTS])]

    def _at_rest(self, generator: LoadGenerator, finalists: list[Configuration], rounds: int) -> None:
        name = self.work.name
        rate = REST * max(self.records.rate(name, each) or 0.0 for each in finalists)
        for number in range(rounds):
            # 2n + 1 is far beyond its capacity here, where once is enough.
            for configuration in dict.fromkeys([*finalists[:2], *([THUMB] if number == 0 else [])]):
                if any(record.round == number for record in self.records.find(name, "rest", configuration)):
                    continue
                self.bench.configure(configuration)
                p95 = load(generator, rate, self.work, f"round {number}").latency.p95
                self._keep("rest", number, configuration, rate, p95_seconds=p95 or inf)

    def _saturated(self, generator: LoadGenerator, rounds: int) -> None:
        name = self.work.name
        self.bench.configure(self.own)
        for number in range(len(self.records.find(name, "saturated")), rounds):
            rate = SATURATED * (self.records.rate(name, self.own) or 1.0)
            step = load(generator, rate, self.work, f"round {number}")
            self._keep("saturated", number, self.own, step.good_rps, memory_mb=self.bench.memory_mb())

    def _keep(self, stage: str, number: int, configuration: Configuration, rate: float, **more: Any) -> None:
        self.records.add(Record(self.work.name, stage, number, configuration, rate, **more))
        options = f"{configuration.workers}x{configuration.threads} wc {configuration.worker_connections}"
        sign = "<" if more.get("bound") else " "
        print(f"{self.work.name:8}{stage:10}{number + 1:>3}  {options:16}{sign}{rate:8.1f}", more or "", flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", action="append", choices=[work.name for work in WORKS])
    parser.add_argument("--stage", action="append", choices=("plan", "screen", "final", "report"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=ROOT / ".cache" / "sizing")
    options = parser.parse_args()
    stages = options.stage or ["plan", "screen", "final"]
    os.sched_setaffinity(0, {GENERATOR_CPU})
    records = Records(options.directory)
    for work in WORKS:
        if stages == ["report"] or (options.work and work.name not in options.work):
            continue
        with rig(work, options.directory) as bench:
            run = Run(bench, records)
            run.plan()
            if stages == ["plan"]:
                continue
            with bench.load() as generator:
                if "screen" in stages:
                    run.screen(generator)
                if "final" in stages:
                    run.finals(generator, options.rounds)
        write_report(records, ROOT)
    if stages == ["report"]:
        write_report(records, ROOT)


if __name__ == "__main__":
    main()
