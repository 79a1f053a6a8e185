"""A setting explained: how its value comes about, and what would change it, found by planning again with one thing different."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from farrier import policy
from farrier.errors import DoesNotFitError
from farrier.facts.model import FACTS, HostFacts
from farrier.plan.derivation import Inputs, quantity, written
from farrier.plan.draft import Draft
from farrier.plan.model import Plan, Setting, Working
from farrier.plan.planner import decide, drafted
from farrier.project.workload import Workload
from farrier.settings import Value


@dataclass(frozen=True)
class Explanation:
    """A setting of the plan, how its value comes about, and what would change it."""

    setting: Setting
    working: Working
    changes: tuple[str, ...]


def explain(plan: Plan, names: Iterable[str]) -> list[Explanation]:
    """Explanations of the settings `names`, in that order."""
    draft = plan.draft.undecided()
    decide(draft)
    given, workings, beside = Inputs(draft), draft.workings or {}, _beside(draft)
    return [
        Explanation(setting, workings[setting.name](given), tuple(_changes(draft, setting, beside)))
        for setting in (plan.settings[name] for name in names)
    ]


Beside = list[tuple[str, object, dict[str, Value] | None]]
"""The input that differs, its other value, and the settings that this makes; None where nothing fits."""


def _beside(draft: Draft) -> Beside:
    """The plans beside a plan, made once for all settings that are asked for."""
    return [
        (name, value, _planned(draft, *_with(draft, name, value)))
        for name, values in _different(draft).items()
        for value in values
        if value != _now(draft, name)
    ]


def _changes(draft: Draft, setting: Setting, beside: Beside) -> Iterator[str]:
    """Lines such as `5 with 3 CPUs instead of 2 CPUs (cpus)`; none where the operator's own value stands."""
    for name, value, settings in beside if setting.name not in draft.overrides else ():
        if settings is not None and settings[setting.name] != setting.value:
            then = written(setting.name, settings[setting.name])
            yield f"{then} with {quantity(name, value)} instead of {quantity(name, _now(draft, name))} ({name})"


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
