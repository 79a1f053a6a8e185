"""The table of faults at the end of a test run: each fault in its order, what became of it, and what was taken away to see it fail.

A plugin of pytest. Tests on the stage of the fault suite bring their rows with them; others are marked with
`@pytest.mark.row(8, "what happens")`, and with `without="what"` when they take a protection away.
Runs that are parts of one add their rows to the file that FARRIER_FAULT_ROWS names, and print no table of their own:
`python tests/support/fault_table.py FILE` does.
"""

import json
import os
import re
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest

FAULTS = {
    1: "many deploys and rollbacks",
    2: "a release fails to import",
    3: "a release crashes after it was ready",
    4: "a release is unhealthy",
    5: "a release boots slowly",
    6: "a worker is killed",
    7: "the master is killed",
    8: "every thread hangs",
    9: "a worker is out of memory",
    10: "no memory for two slots",
    11: "the workers' temporary directory is full",
    12: "the disk is full at a deploy",
    13: "the disk for logs or for bodies is full",
    14: "a broken NGINX configuration",
    15: "a reboot",
    16: "a deploy is killed between start and enable",
    17: "the play is killed after each task in turn",
    18: "two deploys at once",
    19: "a deploy under twice the capacity",
    20: "the backlog overflows",
    21: "both slots are dead",
    22: "slow clients, oversized headers and bodies",
    23: "a request outlives the grace period",
    24: "a fork bomb in a worker",
    25: "the certificate is missing or ends soon",
    26: "the socket is restarted by hand",
    27: "a changed number of workers",
    28: "the host has shrunk since it was sized",
    38: "a dependency or the source plants files where root works",
    39: "another site or another application is on the host",
}
# What the hosts of these tests, which are containers, cannot do, and what they do in its place.
INSTEAD = {
    10: "memory is taken by a file in a file system in memory, not by another service",
    12: "the full disk is a file system in memory, as containers have no loop devices",
    13: "the full disks are file systems in memory, as containers have no loop devices",
    15: "systemd and all that it runs start anew; the kernel is the machine's and goes on",
    28: "the plan is for a larger host, as the host cannot shrink",
}
INSTEAD_CGROUP_V1 = {
    9: "cgroup v1: MemoryMax= ends the worker; systemd is not told of it, so OOMPolicy= is not tried, and MemoryHigh= does nothing",
}
CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers")
KEY = "fault"
HEAD = f"{'row':<84} {'outcome':<9} {'requests':>8} {'not 2xx':>7} {'p99 ms':>7} {'at rest':>7}"


@dataclass(frozen=True)
class Seen:
    """What a test saw of a fault: whether it was survived, and the load meanwhile. `without` names what was taken away."""

    name: str
    held: bool
    without: str = ""
    requests: int | None = None
    lost: int = 0
    p99_ms: float = 0
    rest_p99_ms: float = 0
    note: str = ""

    @property
    def number(self) -> int:
        """The first of its numbers in the list of faults; one that is not there comes last."""
        found = re.match(r"(\d+)[,:]", self.name)
        return int(found[1]) if found else max(FAULTS) + 1

    @property
    def outcome(self) -> str:
        """One word. Without its protection a fault has to be noticed: a check that held all the same is one that cannot fail."""
        if self.without:
            return "unnoticed" if self.held else "noticed"
        return "held" if self.held else "FAILED"

    def line(self) -> str:
        """Its line of the table."""
        name = f"    without: {self.without}" if self.without else self.name
        load = (
            f"{self.requests:>8} {self.lost:>7} {self.p99_ms:>7.0f} {self.rest_p99_ms:>7.0f}"
            if self.requests is not None
            else ""
        )
        note = f"\n    {self.note}" if self.note else ""
        return f"{name:<84} {self.outcome:<9} {load}".rstrip() + note


def table(seen: Iterable[Seen], *, cgroup_v2: bool) -> Sequence[str]:
    """All faults in their order, each with what was taken away below it; then what has no number."""
    rows = sorted(seen, key=lambda each: (each.number, bool(each.without)))
    instead = INSTEAD if cgroup_v2 else INSTEAD | INSTEAD_CGROUP_V1
    lines = [HEAD]
    for number in (*FAULTS, max(FAULTS) + 1):
        here = [each for each in rows if each.number == number]
        lines += [each.line() for each in here]
        # "2, 3: ..." is told at 2 alone.
        told = here or any(re.match(rf"[\d, ]*\b{number}\b[\d, ]*:", each.name) for each in rows)
        if number in FAULTS and not told:
            lines.append(f"{f'{number}: {FAULTS[number]}':<84} not run")
        if here and number in instead:
            lines.append(f"    seen here: {instead[number]}")
    return lines


# ---- The plugin ----


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(number, what, without=''): a fault of the table that is printed at the end")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" or (call.when == "setup" and report.failed):
        report.user_properties += [(KEY, asdict(each)) for each in rows_of(item, report)]
    return report


def rows_of(item: pytest.Item, report: pytest.TestReport) -> Iterator[Seen]:
    """The rows of one test. A row of a test that failed in the end has not held, and nothing was noticed by it."""
    marked = [
        Seen(f"{mark.args[0]}: {mark.args[1]}", held=not mark.kwargs, without=mark.kwargs.get("without", ""))
        for mark in item.iter_markers("row")
    ]
    stage = getattr(item, "funcargs", {}).get("stage")
    for each in [*marked, *(stage.take_rows() if stage else [])]:
        yield replace(each, held=bool(each.without)) if report.failed else each


class Table:
    """What all tests of this run have seen."""

    seen: list[Seen] = []  # noqa: RUF012 # one run has one table


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    found: list[tuple[str, Any]] = report.user_properties  # in truth these values can be anything that JSON can be
    if report.when != "teardown":
        Table.seen += [Seen(**value) for key, value in found if key == KEY]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not Table.seen:
        return
    if path := os.environ.get("FARRIER_FAULT_ROWS"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(each)) + "\n" for each in Table.seen)
        return
    terminalreporter.section("what must survive")
    for line in table(Table.seen, cgroup_v2=CGROUP_V2.exists()):
        terminalreporter.write_line(line)


def main(paths: Sequence[str]) -> None:
    """Prints one table of several runs."""
    lines = [line for path in paths for line in Path(path).read_text(encoding="utf-8").splitlines()]
    print("\n".join(table([Seen(**json.loads(line)) for line in lines], cgroup_v2=CGROUP_V2.exists())))  # noqa: T201 # its output


if __name__ == "__main__":
    main(sys.argv[1:])
