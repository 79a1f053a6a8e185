"""A plan in the making: an operator's value takes the place of a calculated one, and what follows builds on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from farrier import policy
from farrier.facts.model import HostFacts
from farrier.plan.model import Provenance, Setting, Working
from farrier.project.workload import Workload
from farrier.settings import Value
from farrier.sizing.connections import Connections
from farrier.sizing.latency import Service
from farrier.sizing.memory import Budget, Cost
from farrier.wording import number

if TYPE_CHECKING:
    from farrier.plan.derivation import Inputs

Workings = Callable[["Inputs"], Working]
"""Makes the lines of a derivation; called only where somebody asks for them."""

OPERATORS = "Set by the operator"

BEGINNINGS = ("gunicorn.worker_class", "gunicorn.workers", "gunicorn.threads")
"""The operator's values for these go into the calculation, which so cannot disagree."""


@dataclass
class Draft:
    """Input, settings so far, and the quantities that later sections need."""

    facts: HostFacts
    workload: Workload
    overrides: Mapping[str, Value]
    hosts: int = 1
    """Hosts of the environment, which share the database's connections."""

    settings: dict[str, Setting] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    cost: Cost = field(init=False)
    budget: Budget = field(init=False)
    copies: int = field(init=False)
    capacity_rps: float = field(init=False)
    slot_mb: float = field(init=False)
    request_limit: int = field(init=False)
    queue_budget: int = field(init=False)

    def calculated(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that follows from numbers."""
        self._put(Setting(name, value, Provenance.CALCULATED, reason, formula, value, working))

    def default(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that is the same for everybody."""
        self._put(Setting(name, value, Provenance.DEFAULT, reason, formula, value, working))

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
        self._put(Setting(name, value, Provenance.FACT, reason, formula, value, working))

    def measured(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that a measurement found."""
        self._put(Setting(name, value, Provenance.MEASURED, reason, formula, value, working))

    def asked(self, name: str, value: Value, reason: str, formula: str, working: Workings) -> None:
        """Put a value that only an operator asks for, and that Farrier has no opinion of."""
        self.settings[name] = Setting(name, value, Provenance.OVERRIDE, reason, formula, value, working)

    def _put(self, setting: Setting) -> None:
        if setting.name in self.overrides:
            own = self.overrides[setting.name]
            chosen = "; Farrier agrees" if own == setting.value else f"; Farrier would choose {setting.value}"
            if setting.name in BEGINNINGS:
                chosen = ""  # what is calculated here has begun with the operator's value
            reason = f"{OPERATORS}{chosen}: {setting.reason}"
            setting = replace(setting, value=own, provenance=Provenance.OVERRIDE, reason=reason)
        self.settings[setting.name] = setting

    def is_override(self, *names: str) -> bool:
        """Whether the operator has set any of these."""
        return any(name in self.overrides for name in names)

    def fixed(self, name: str) -> int | None:
        """The operator's number for this setting, or None where it is free."""
        value = self.overrides.get(name)
        return int(value) if value is not None and not isinstance(value, str) else None

    def number(self, name: str) -> int:
        """The value of a setting that is a number and already decided."""
        value = self.settings[name].value
        if isinstance(value, str):
            raise TypeError(f"{name} is not a number")
        return int(value)

    @property
    def greenlets(self) -> bool:
        """Whether the operator asks for gevent's workers, whose requests share one thread."""
        return self.overrides.get("gunicorn.worker_class") == "gevent"

    @property
    def memory_assumed(self) -> bool:
        """Whether nobody has said what a slot takes, nor what it may take at most."""
        return self.workload.memory_is_assumed and not self.is_override("systemd.MemoryMax")

    @property
    def each(self) -> int:
        """Requests that a worker has in service at once."""
        return self.number("gunicorn.worker_connections" if self.greenlets else "gunicorn.threads")

    @property
    def connections(self) -> Connections | None:
        """What the database grants; None where nobody has said."""
        granted = self.workload.database_connections
        return None if granted is None else Connections(granted, self.hosts)

    @property
    def connections_needed(self) -> int:
        """Connections of the whole environment, were all its hosts like this one."""
        return Connections(0, self.hosts).need(self.copies, self.number("gunicorn.workers") * self.each)

    @property
    def service(self) -> Service:
        """The workers and threads decided on, at this workload on this host."""
        work = self.workload
        return Service(
            self.number("gunicorn.workers"),
            self.each,
            work.serving_cpu_seconds,
            work.wait_seconds,
            self.facts.cpus,
            work.service_scv,
            self.greenlets,
            work.other_cpu_seconds,
        )
