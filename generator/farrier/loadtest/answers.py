"""Checks what a host's watch, the inventory and the load generator answer: types, sizes, finite numbers. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from farrier.errors import HostError, InputError
from farrier.loadtest.step import KIND, Latency, Outcome, Step
from farrier.loadtest.usage import HostSample
from farrier.wording import quoted, shown

MOST_SAMPLES = 20_000
"""As many as the watch notes."""

MOST_SERVICES = 64
MOST_PATHS = 10_000
MOST_HOSTS = 100_000
LARGEST = 1e12
"""No time, count or amount of memory of a load test is larger."""

LONGEST_NAME = 300
SERVICE = re.compile(r"[\x21-\x7e]{1,80}")

RUNNING = ("workers", "threads", "worker_connections", "backlog")
"""What the ready mark of a worker says of its settings."""


class Wrong(ValueError):
    """What is wrong with an answer, as part of a sentence."""


def _value(document: Mapping[str, Any], name: str) -> Any:
    if name not in document:
        raise Wrong(f"{name} is missing")
    return document[name]


def amount(value: object, name: str, *, least: float = 0.0) -> float:
    """A finite number that is not below `least`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LARGEST:  # NaN is not
        raise Wrong(f"{name} is {quoted(value)}")
    return value


def count(value: object, name: str) -> int:
    """A whole number from 0 on."""
    if not isinstance(value, int):
        raise Wrong(f"{name} is {quoted(value)}")
    return int(amount(value, name))


def mapping(value: object, name: str, most: int) -> Mapping[str, Any]:
    """An object of at most so many keys."""
    if not isinstance(value, dict) or len(value) > most:
        raise Wrong(f"{name} is {quoted(value)}")
    return value


def watched(answer: object, host: str) -> dict[str, Any]:
    """What the watch on a host has answered. HostError when it cannot be used."""
    try:
        found = mapping(answer, "measured", 20)
        slot = _value(found, "slot")
        if slot not in (None, "a", "b"):
            raise Wrong(f"slot is {quoted(slot)}")
        nginx = _value(found, "nginx")
        if not isinstance(nginx, bool):
            raise Wrong(f"nginx is {quoted(nginx)}")
        running = mapping(found.get("running") or {}, "running", 20)
        return {
            "slot": slot,
            "nginx": nginx,
            "workers": count(_value(found, "workers"), "workers"),
            "memory_mb": amount(_value(found, "memory_mb"), "memory_mb"),
            "time": amount(_value(found, "time"), "time"),
            "machine_cpus": count(found.get("machine_cpus", 0), "machine_cpus"),
            "running": {
                "gevent": running.get("worker_class") == "gevent",
                **{name: count(running[name], name) for name in RUNNING if name in running},
            },
            "samples": _samples(mapping(found.get("samples") or {}, "samples", 20)),
        }
    except Wrong as error:
        raise HostError(f"host {shown(host)}: what its watch answered cannot be used: {error}") from error


def _samples(columns: Mapping[str, Any]) -> list[HostSample]:
    """The samples, of which a host sends the values of each figure together; none before the watch has ended."""
    if not columns:
        return []
    names = [field.name for field in fields(HostSample)]
    values = [_value(columns, name) for name in names]
    for name, column in zip(names, values, strict=True):
        check = CHECKS.get(name, amount)
        if not isinstance(column, list) or len(column) > MOST_SAMPLES or len(column) != len(values[0]):
            raise Wrong(f"samples.{name} is {quoted(column)}")
        for value in column:
            check(value, f"samples.{name}")
    return [HostSample(**dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]


def _services(value: object, name: str) -> None:
    for service, used in mapping(value, name, MOST_SERVICES).items():
        if not SERVICE.fullmatch(service):
            raise Wrong(f"{name} names {shown(service)}")
        amount(used, name)


CHECKS: Mapping[str, Callable[[object, str], object]] = {"workers": count, "main_pid": count, "services": _services}
"""Of figures of a sample that are no amounts."""


def looked(answer: object, inventory: str) -> dict[str, Any]:
    """What an inventory says: the host's address, all names, the groups. InputError when it is not of this kind."""
    try:
        found = mapping(answer, "the answer", 10)
        address = _value(found, "address")
        if not isinstance(address, str) or not address.isprintable() or not 0 < len(address) <= LONGEST_NAME:
            raise Wrong(f"ansible_host is {quoted(address)}")
        names = _value(found, "names")
        if not isinstance(names, list) or len(names) > MOST_HOSTS:
            raise Wrong(f"names is {quoted(names)}")
        groups = mapping(_value(found, "groups"), "groups", MOST_HOSTS)
        if not all(isinstance(hosts, list) for hosts in groups.values()):
            raise Wrong("a group is no list of hosts")
        return {
            "address": address,
            "names": [str(each) for each in names if isinstance(each, str | int)],
            "groups": groups,
        }
    except Wrong as error:
        raise InputError(f"inventory {shown(inventory, 200)}: {error}") from error


def step(answer: object) -> Step:
    """The step that the generator tells of. HostError when it cannot be used."""
    try:
        found = mapping(answer, "the answer", 30)
        paths = mapping(_value(found, "paths"), "paths", MOST_PATHS)
        seconds = amount(_value(found, "seconds"), "seconds", least=1e-3)
        whole = _outcome(found, "the answer")

        def one(name: str) -> float:
            return amount(_value(found, name), name)

        return Step(
            whole.offered,
            whole.kinds,
            whole.latency,
            rps=one("rps"),
            seconds=seconds,
            warm_seconds=one("warm_seconds"),
            good_rps=one("good_rps"),
            lateness_p95_seconds=one("lateness_p95_seconds"),
            cpu_share=one("cpu_share"),
            drain_seconds=one("drain_seconds"),
            begun=one("begun"),
            paths={name: _outcome(mapping(path, "a path", 10), "a path") for name, path in paths.items()},
            in_flight=count(_value(found, "in_flight"), "in_flight"),
            workers=count(_value(found, "workers"), "workers"),
        )
    except Wrong as error:
        raise HostError(f"the load generator: its answer cannot be used: {error}") from error


def _outcome(found: Mapping[str, Any], name: str) -> Outcome:
    offered = count(_value(found, "offered"), f"offered of {name}")
    kinds = mapping(_value(found, "kinds"), f"kinds of {name}", 1000)
    for kind in kinds:
        if not KIND.fullmatch(kind):
            raise Wrong(f"a kind of {name} is {shown(kind)}")
    counts = {kind: count(number, f"kind {kind} of {name}") for kind, number in kinds.items()}
    if sum(counts.values()) != offered:
        raise Wrong(f"offered of {name} is {offered}, but its kinds make {sum(counts.values())}")
    latency = mapping(_value(found, "latency"), f"latency of {name}", 10)
    times = {
        key: None if (value := _value(latency, key)) is None else amount(value, f"{key} of {name}")
        for key in ("p50", "p95", "p99", "mean", "longest")
    }
    return Outcome(offered, counts, Latency(**times))
