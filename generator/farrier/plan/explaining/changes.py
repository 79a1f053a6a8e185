"""What would change a setting: found by planning again with one thing different."""

import math
from collections.abc import Iterator
from dataclasses import replace

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.facts.model import FACTS, HostFacts
from farrier.plan.draft import Draft
from farrier.plan.explaining.sheet import quantity, written
from farrier.plan.planner import drafted
from farrier.project.workload import Workload
from farrier.settings import Value


class Changes:
    """The plans beside a plan, made once for all settings that are asked for."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.beside = [
            (name, value, _planned(draft, *_with(draft, name, value)))
            for name, values in _different(draft).items()
            for value in values
            if value != _now(draft, name)
        ]

    def of(self, setting: str) -> tuple[str, ...]:
        """Lines such as `5 with 3 CPUs instead of 2 CPUs (cpus)`; none where the operator's own value stands."""
        return tuple(self._of(setting)) if setting not in self.draft.overrides else ()

    def _of(self, setting: str) -> Iterator[str]:
        for name, value, settings in self.beside:
            if settings is not None and settings[setting] != self.draft.settings[setting].value:
                then = written(setting, settings[setting])
                yield f"{then} with {quantity(name, value)} instead of {quantity(name, _now(self.draft, name))} ({name})"


def _different(draft: Draft) -> dict[str, tuple[float | int | bool, ...]]:
    """Other values of each input, of which one at a time is tried."""
    facts, work = draft.facts, draft.workload
    granted = work.database_connections
    return {
        "cpus": (facts.cpus + 1,),
        "memory_mb": (2 * facts.memory_mb, max(1, facts.memory_mb // 2), max(1, facts.memory_mb // 4)),
        "nofile_hard": (1024,),
        "somaxconn": (2 * max(facts.somaxconn or 0, policy.DEFAULT_SOMAXCONN),),
        work.gunicorn_cpu_name: (2 * work.gunicorn_cpu_seconds,),
        "other_cpu_seconds": (2 * work.other_cpu_seconds,) if work.other_cpu_seconds else (),
        "wait_seconds": (2 * work.wait_seconds or work.gunicorn_cpu_seconds,),
        "longest_cpu_segment_seconds": (policy.GIL_SWITCH_SECONDS,) if work.longest_cpu_segment_seconds else (),
        "memory_private_mb": (2 * work.memory_private_mb,),
        "memory_shared_mb": (2 * work.memory_shared_mb or work.memory_private_mb,),
        "memory_thread_mb": (10 * work.memory_thread_mb,),
        "preload_safe": (not work.preload_safe,),
        "boot_seconds": (10 * work.boot_seconds,),
        "database_connections": (2 * granted, max(1, granted // 2)) if granted else (),
        "peak_rps": (math.ceil(2 * (work.peak_rps or draft.capacity_rps)),),
        "request_limit_seconds": (max(1, work.request_limit_seconds // 2),),
        "queue_budget_seconds": (2 * work.queue_budget_seconds,),
        "client_timeout_seconds": (work.request_limit_seconds + 5,),
        "upload_limit_mb": (2 * work.upload_limit_mb,),
    }


def _now(draft: Draft, name: str) -> object:
    return getattr(draft.facts if name in FACTS else draft.workload, name)


def _with(draft: Draft, name: str, value: float | int | bool) -> tuple[HostFacts, Workload]:
    change: dict[str, object] = {name: value}
    if name in FACTS:
        return replace(draft.facts, **change), draft.workload  # type: ignore[arg-type] # each name with its own type
    return draft.facts, replace(draft.workload, **change)  # type: ignore[arg-type] # as above


def _planned(draft: Draft, facts: HostFacts, workload: Workload) -> dict[str, Value] | None:
    try:
        again = drafted(facts, workload, draft.overrides, draft.hosts)
    except DoesNotFitError:
        return None
    return {name: setting.value for name, setting in again.settings.items()}
