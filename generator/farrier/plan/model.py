"""What the sizing answers: settings with provenance and reason, for one host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from farrier.settings import Value

if TYPE_CHECKING:
    from farrier.plan.draft import Draft


class Provenance(StrEnum):
    """Where a value comes from."""

    DEFAULT = "default"
    FACT = "fact"
    MEASURED = "measured"
    CALCULATED = "calculated"
    OVERRIDE = "override"


class Input(NamedTuple):
    """`constant` is its name in `policy`, where its why stands, or empty."""

    symbol: str
    meaning: str
    value: str
    provenance: str
    constant: str = ""


class Working(NamedTuple):
    """What a formula was given, and how it came to its value, line by line."""

    inputs: tuple[Input, ...]
    steps: tuple[str, ...]


class Setting(NamedTuple):
    """One value of the plan with what led to it; `reason` has the numbers.

    `own` is Farrier's choice, which is `value` unless the operator has set another.
    """

    name: str
    value: Value
    provenance: Provenance
    reason: str
    formula: str
    own: Value


@dataclass(frozen=True)
class Plan:
    """Everything decided for one host. Memory in MB, rate in requests per second, latency in seconds.

    `draft` is what the settings were made from; `bottleneck` finds by sizing again what keeps the host from carrying more,
    so it is called only where somebody reads it.
    """

    host: str
    cpus: float
    memory_mb: int
    settings: Mapping[str, Setting]
    capacity_rps: float
    predicted_memory_mb: int
    p95_seconds: float | None
    warnings: tuple[str, ...]
    draft: "Draft" = field(compare=False, repr=False)
    bottleneck: Callable[[], str] = field(compare=False, repr=False)

    def value(self, name: str) -> Value:
        """The value of the setting `name`."""
        return self.settings[name].value

    @property
    def bound(self) -> str:
        """What keeps the host from carrying more."""
        return self.bottleneck()

    @property
    def per_worker(self) -> int:
        """Requests that a worker has in service at once."""
        return self.draft.per_worker

    def as_document(self) -> dict[str, object]:
        """The host's part of `plan --json`."""
        predicted: dict[str, object] = {
            "capacity_rps": round(self.capacity_rps, 1),
            "memory_mb": self.predicted_memory_mb,
            "bound": self.bound,
        }
        if self.p95_seconds is not None:
            predicted["p95_seconds"] = round(self.p95_seconds, 3)
        return {
            "sized_for": {"cpus": self.cpus, "memory_mb": self.memory_mb},
            "settings": {
                name: {"value": s.value, "provenance": s.provenance.value, "reason": s.reason}
                for name, s in self.settings.items()
            },
            "predicted": predicted,
            "warnings": list(self.warnings),
        }


def plans_document(environment: str, plans: Mapping[str, Plan]) -> dict[str, object]:
    """`plan --json`: the contract for other programs."""
    return {
        "environment": environment,
        "hosts": {host: plan.as_document() for host, plan in plans.items()},
    }
