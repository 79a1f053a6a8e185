"""A plan in the making: an operator's value takes the place of a calculated one, and what follows builds on it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from farrier import policy
from farrier.plan.model import Provenance, Setting, Working
from farrier.plan.sized import Basis, Sized, fixed
from farrier.settings import Value
from farrier.sizing.connections import Connections
from farrier.sizing.latency import Service
from farrier.sizing.memory import Budget, Cost
from farrier.sizing.worker import WorkerKind
from farrier.wording import number

if TYPE_CHECKING:
    from farrier.plan.derivation import Inputs

Workings = Callable[["Inputs"], Working]
"""Makes the lines of a derivation; called only where somebody asks for them."""

OPERATORS = "Set by the operator"

BEGINNINGS = ("gunicorn.worker_class", "gunicorn.workers", "gunicorn.threads")
"""The operator's values for these go into the calculation, which so cannot disagree."""


@dataclass(frozen=True)
class Draft(Basis):
    """What is given, how it is sized, and the settings so far."""

    sized: Sized = field(kw_only=True)
    settings: dict[str, Setting] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    workings: dict[str, Workings] | None = None
    """Kept only where somebody asks for them: they would outweigh the plans of ten thousand hosts."""

    def undecided(self) -> "Draft":
        """The same sizing, for the sections to decide with their workings kept."""
        return replace(self, settings={}, warnings=[], workings={})

    def calculated(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that follows from numbers."""
        self._put(Setting(name, value, Provenance.CALCULATED, reason, formula, value), working)

    def default(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that is the same for everybody."""
        self._put(Setting(name, value, Provenance.DEFAULT, reason, formula, value), working)

    def constant(self, name: str, constant: str, reason: str, unit: str = "s") -> None:
        """Put a constant of `policy`."""
        value: int = getattr(policy, constant)
        self.default(
            name,
            value,
            reason,
            f"policy.{constant}, whatever the host and the workload",
            lambda given: Working((given.constant("", constant, unit),), (f"{number(value)} {unit}",)),
        )

    def fact(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that the host itself gives."""
        self._put(Setting(name, value, Provenance.FACT, reason, formula, value), working)

    def measured(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that a measurement found."""
        self._put(Setting(name, value, Provenance.MEASURED, reason, formula, value), working)

    def asked(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that only an operator asks for, and that Farrier has no opinion of."""
        self._keep(Setting(name, value, Provenance.OVERRIDE, reason, formula, value), working)

    def _put(self, setting: Setting, working: Workings) -> None:
        if setting.name in self.overrides:
            own = self.overrides[setting.name]
            chosen = "; Farrier agrees" if own == setting.value else f"; Farrier would choose {setting.value}"
            if setting.name in BEGINNINGS:
                chosen = ""  # what is calculated here has begun with the operator's value
            reason = f"{OPERATORS}{chosen}: {setting.reason}"
            setting = setting._replace(value=own, provenance=Provenance.OVERRIDE, reason=reason)
        self._keep(setting, working)

    def _keep(self, setting: Setting, working: Workings) -> None:
        self.settings[setting.name] = setting
        if self.workings is not None:
            self.workings[setting.name] = working

    def is_override(self, *names: str) -> bool:
        """Whether the operator has set any of these."""
        return any(name in self.overrides for name in names)

    def fixed(self, name: str) -> int | None:
        """The operator's number for this setting, or None where it is free."""
        return fixed(self.overrides, name)

    def number(self, name: str) -> int:
        """The value of a setting that is a number and already decided."""
        value = self.settings[name].value
        if isinstance(value, str):
            raise TypeError(f"{name} is not a number")
        return int(value)

    @property
    def kind(self) -> WorkerKind:
        """The kind of worker."""
        return self.sized.kind

    @property
    def cost(self) -> Cost:
        """Memory of the application."""
        return self.sized.given.cost

    @property
    def budget(self) -> Budget:
        """Memory that Gunicorn may take."""
        return self.sized.given.budget

    @property
    def copies(self) -> int:
        """Slots that memory and connections are counted for."""
        return self.sized.copies

    @property
    def capacity_rps(self) -> float:
        """Requests a second at saturation."""
        return self.sized.capacity_rps

    @property
    def slot_mb(self) -> float:
        """What a slot should need."""
        return self.sized.slot_mb

    @property
    def memory_assumed(self) -> bool:
        """Whether nobody has said what a slot takes, nor what it may take at most."""
        return self.sized.given.memory_assumed

    @property
    def per_worker(self) -> int:
        """Requests that a worker has in service at once."""
        return self.sized.chosen.per_worker

    @property
    def connections(self) -> Connections | None:
        """What the database grants; None where nobody has said."""
        return self.sized.given.connections

    @property
    def service(self) -> Service:
        """The workers and threads decided on, at this workload on this host."""
        return self.sized.service(self.workload)
