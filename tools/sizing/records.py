"""What the benchmark has found so far, line by line in a file, so that it can be stopped and continued."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from sizing.rig import Configuration, read_workload


@dataclass(frozen=True)
class Record:
    """One figure: `stage` is `screen`, `final`, `rest` or `saturated`; rate in requests a second, p95 in seconds."""

    work: str
    stage: str
    round: int
    configuration: Configuration
    rate: float
    p95_seconds: float = 0.0
    memory_mb: float = 0.0
    bound: bool = False
    """Whether `rate` is only an upper bound: its search ended once it could no longer be the best."""


class Records:
    """All records of a directory, and each work's plan."""

    def __init__(self, directory: Path) -> None:
        """Read what is there."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._file = directory / "records.jsonl"
        self._plans = directory / "plans"
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        self._records = [_record(json.loads(line)) for line in lines]

    def add(self, record: Record) -> None:
        """Keep one, at once."""
        self._records.append(record)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def find(self, work: str, stage: str, configuration: Configuration | None = None) -> list[Record]:
        """The records of a work's stage."""
        return [
            record
            for record in self._records
            if (record.work, record.stage) == (work, stage) and configuration in (None, record.configuration)
        ]

    def configurations(self, work: str, stage: str) -> Iterator[Configuration]:
        """Each configuration of a stage once, in order."""
        yield from dict.fromkeys(record.configuration for record in self.find(work, stage))

    def rate(self, work: str, configuration: Configuration) -> float | None:
        """The median rate of the finals, else that of the screening; None where neither was measured."""
        found = self.find(work, "final", configuration) or self.find(work, "screen", configuration)
        return median(record.rate for record in found) if found else None

    def workload(self, work: str) -> dict[str, Any]:
        """What was measured, and the plan rests on."""
        return read_workload(self._directory / work)

    def plan(self, work: str) -> dict[str, Any] | None:
        """The plan that was deployed."""
        file = self._plans / f"{work}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def keep_plan(self, work: str, plan: dict[str, Any]) -> None:
        """Remember the plan that was deployed."""
        self._plans.mkdir(exist_ok=True)
        (self._plans / f"{work}.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")


def _record(document: dict[str, Any]) -> Record:
    return Record(**{**document, "configuration": Configuration(**document["configuration"])})
