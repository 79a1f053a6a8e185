"""Other people's rules beside Farrier's choice: the same application on the same host, predicted by the same model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

from farrier.plan.draft import Draft
from farrier.sizing.latency import Service
from farrier.sizing.rules import RULES
from farrier.wording import MB

WITHOUT_A_PEAK = 0.7
"""Where no peak is asked for, latency is compared at this share of what Farrier's choice carries."""

FARRIER = "Farrier"


@dataclass(frozen=True)
class Row:
    """What one rule would do here; latency in seconds, None where it cannot carry the rate."""

    name: str
    formula: str
    service: Service
    memory_mb: float
    fits: bool
    p95_seconds: float | None

    def as_document(self) -> dict[str, object]:
        """One entry of `plan --json --rules`."""
        return {
            "name": self.name,
            "formula": self.formula,
            "workers": self.service.workers,
            "threads": self.service.per_worker,
            "capacity_rps": round(self.service.capacity_rps, 1),
            "memory_mb": round(self.memory_mb),
            "fits": self.fits,
            "p95_seconds": None if self.p95_seconds is None else round(self.p95_seconds, 3),
        }


@dataclass(frozen=True)
class Comparison:
    """Farrier's choice first, then the rules; `at_rps` is the rate of the latencies, `budget_mb` what one slot may take."""

    rows: tuple[Row, ...]
    at_rps: float
    is_peak: bool
    budget_mb: float

    def as_document(self) -> dict[str, object]:
        """The key `rules` of `plan --json --rules`."""
        return {"p95_at_rps": round(self.at_rps, 1), "choices": [row.as_document() for row in self.rows]}


def compare(draft: Draft) -> Comparison:
    """Every rule's workers and threads; class, preload and all else as in the plan, so that only the numbers differ."""
    work = draft.workload
    base = draft.service
    granted = draft.connections.each(draft.copies) if draft.connections else None
    rate = work.peak_rps or WITHOUT_A_PEAK * draft.capacity_rps
    budget_mb = draft.budget.gunicorn_mb / draft.copies
    process_mb = work.memory_private_mb + work.memory_shared_mb

    def row(name: str, formula: str, workers: int, threads: int) -> Row:
        service = replace(base, workers=workers, per_worker=threads)
        need = draft.cost.slot_mb(workers, threads)
        p95 = service.p95_seconds(rate)
        fits = need <= budget_mb + 1 / MB and (granted is None or workers * threads <= granted)
        return Row(name, formula, service, need, fits, p95 if isfinite(p95) else None)

    rows = [row(FARRIER, "", base.workers, base.per_worker)]
    rows += [
        row(rule.name, rule.formula, *rule.choose(draft.facts.cpus, draft.facts.memory_mb, process_mb))
        for rule in RULES
    ]
    return Comparison(tuple(rows), rate, work.peak_rps is not None, budget_mb)


def with_rules(document: dict[str, object], comparisons: Mapping[str, Comparison]) -> dict[str, object]:
    """The document of `plan --json` with the key `rules` for each host."""
    hosts = document["hosts"]
    if isinstance(hosts, dict):
        document = {**document, "hosts": {h: {**d, "rules": comparisons[h].as_document()} for h, d in hosts.items()}}
    return document
