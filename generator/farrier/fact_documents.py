"""Host facts out of documents: Farrier's own, and what Ansible's setup module and fact caches write."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from farrier.errors import HostError, InputError
from farrier.facts import (
    DISK_MB,
    FACTS,
    INDISPENSABLE,
    MEMORY_MB,
    SCHEMA,
    HostFacts,
    Missing,
    Number,
    Other,
    Raw,
    Text,
    check,
    is_a,
    quoted,
    still_missing,
)
from farrier.units import shown

STATED = "the stated fact "

CACHE_PAYLOAD = "__payload__"
"""The key under which ansible-core 2.19 and newer keep a host's facts in a cache, as JSON within JSON."""

SETUP_FACTS = {
    "cpus": ("ansible_processor_nproc", "ansible_processor_vcpus"),
    "cpus_online": ("ansible_processor_vcpus",),
    "cpus_affinity": ("ansible_processor_nproc",),
    "memory_mb": ("ansible_memtotal_mb",),
    "memory_total_mb": ("ansible_memtotal_mb",),
    "kernel_release": ("ansible_kernel",),
    "distribution": ("ansible_distribution",),
    "version": ("ansible_distribution_version",),
    "codename": ("ansible_distribution_release",),
    "init": ("ansible_service_mgr",),
    "python": ("ansible_python_version",),
}
"""Ansible's names of the facts, the best first: nproc heeds the affinity, vcpus are the whole machine."""

SETUP_SIGNS = (
    "gather_subset",
    "ansible_memtotal_mb",
    "memtotal_mb",
    "ansible_hostname",
    "ansible_distribution",
)
"""A file with one of these is what Ansible's setup module found, even where it was told to gather little."""

SETUP_UNKNOWN = (
    Missing(
        "cpu_quota",
        "Ansible's own facts hold no cgroup limits, so the plan takes all CPUs of the machine; in a container that "
        "is too many",
    ),
    Missing(
        "memory_limit_mb",
        "Ansible's own facts hold no cgroup limits, so the plan takes all memory of the machine; in a container that "
        "is too much",
    ),
)
"""What Ansible's own facts never say although it bounds the host."""


def parse(document: object, host: str, origin: str, stated: Mapping[str, object] | None = None) -> HostFacts:
    """Facts from a fact document, or from what Ansible's setup module or its fact cache wrote.

    `stated` are the operator's facts, which may also supply what the document lacks.
    InputError for impossible values, HostError where nothing is known of CPUs or memory.
    """
    where = f"host {host} ({origin}): "
    if not isinstance(document, dict):
        raise InputError(f"{where}the file holds {quoted(document)}; it must be an object with facts")
    if "schema" in document:
        raw, others, problems = from_document(document, host, where)
        missing: tuple[Missing, ...] = ()
    else:
        raw, others, problems = from_setup(document, where), (), []
        missing = SETUP_UNKNOWN
    values, impossible = check(raw, where)
    problems += [*impossible, *contradictions(values, where)]
    said, impossible = check({name: (name, value) for name, value in (stated or {}).items()}, where + STATED)
    problems += impossible
    if problems:
        raise InputError(*dict.fromkeys(problems))
    values.update(said)
    absent = [name for name in INDISPENSABLE if name not in values]
    if absent:
        raise HostError(*(incomplete(name, raw, where) for name in absent))
    noted = {entry.fact for entry in missing}
    missing += tuple(
        Missing(name, fact.unknown)
        for name, fact in FACTS.items()
        if fact.unknown and name not in values and name not in noted
    )
    known = frozenset(said)
    facts = HostFacts(host=host, others=others, origin=origin, stated=known, **values)
    return replace(facts, missing=still_missing(missing, known))


def from_statements(host: str, stated: Mapping[str, object]) -> HostFacts:
    """Facts of a host of which only what the operator states is known."""
    return parse({"schema": SCHEMA}, host, "stated facts only", stated)


def incomplete(name: str, raw: Raw, where: str) -> str:
    """Why a host cannot be sized, and both ways out."""
    label = raw[name][0] if name in raw else FACTS[name].place
    what = "the usable CPUs are" if name == "cpus" else "the usable memory is"
    return f"{where}{what} not known: {label} is missing or null; gather the facts again, or state `{name}`"


def contradictions(values: Mapping[str, object], where: str) -> list[str]:
    """Sentences about facts that cannot both be true."""
    found = []
    for name, bound in (("cpus", "cpus_online"), ("memory_mb", "memory_total_mb")):
        value, most = values.get(name), values.get(bound)
        if isinstance(value, int | float) and isinstance(most, int | float) and value > most:
            machine = f"the machine has only {most:g} ({FACTS[bound].place})"
            found.append(f"{where}{FACTS[name].place} is {value:g}; {machine}")
    return found


def from_document(document: Mapping[str, object], host: str, where: str) -> tuple[Raw, tuple[Other, ...], list[str]]:
    """The parts of a fact document: facts, other services, and what is wrong with its structure."""
    if document["schema"] != SCHEMA:
        found = quoted(document["schema"])
        raise InputError(f"{where}schema is {found}; it must be {SCHEMA}: gather the facts again")
    problems = []
    name = document.get("host", host)
    if name != host:
        problems.append(f"{where}host is {quoted(name)}; it must be the name of its file, {shown(host)}")
    raw: dict[str, tuple[str, object]] = {}
    for section in dict.fromkeys(fact.place.partition(".")[0] for fact in FACTS.values()):
        content = document.get(section)
        if content is not None and not isinstance(content, dict):
            problems.append(f"{where}{section} is {quoted(content)}; it must be an object")
            continue
        for fact_name, fact in FACTS.items():
            if content and fact.place.startswith(section + "."):
                raw[fact_name] = (fact.place, content.get(fact.place.partition(".")[2]))
    others, wrong = other_services(document.get("others"), where)
    return raw, others, problems + wrong


def other_services(rows: object, where: str) -> tuple[tuple[Other, ...], list[str]]:
    """The services beside the application, and a sentence for each entry that is none."""
    if rows is None:
        return (), []
    if not isinstance(rows, list):
        return (), [f"{where}others is {quoted(rows)}; it must be a list of services"]
    services, problems = [], []
    amount = Number(MEMORY_MB, whole=False)
    for number, row in enumerate(rows):
        content = row if isinstance(row, dict) else {}
        name, memory_mb, cpus = (content.get(key) for key in ("name", "memory_mb", "cpus"))
        if is_a(Text(), name) and is_a(amount, memory_mb) and is_a(amount, cpus):
            services.append(Other(str(name), memory_mb, cpus))  # type: ignore[arg-type]
        else:
            right = "an object with name, memory_mb and cpus"
            problems.append(f"{where}others[{number}] is {quoted(row)}; it must be {right}")
    return tuple(services), problems


def from_setup(document: Mapping[str, object], where: str) -> Raw:
    """The facts among a result of `ansible -m setup` or an entry of a fact cache."""
    facts = setup_facts(document, where)
    raw: dict[str, tuple[str, object]] = {}
    for name, keys in SETUP_FACTS.items():
        found = [(key, value) for key in keys if (value := fact_of(facts, key)) is not None]
        raw[name] = found[0] if found else (keys[0], None)
    systemd = fact_of(facts, "ansible_systemd")
    if isinstance(systemd, dict):
        raw["systemd"] = ("ansible_systemd.version", systemd.get("version"))
    raw.update(disk_facts(fact_of(facts, "ansible_mounts")))
    return raw


def fact_of(facts: Mapping[str, object], key: str) -> object:
    """A fact by its name as a variable, or as `ansible_facts` has it: without the prefix."""
    return facts.get(key, facts.get(key.removeprefix("ansible_")))


def setup_facts(document: Mapping[str, object], where: str) -> Mapping[str, object]:
    """The facts themselves; HostError where Ansible noted a failure, InputError where there are none."""
    inner: object = document
    payload = document.get(CACHE_PAYLOAD)
    if isinstance(payload, str):
        try:
            inner = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}{CACHE_PAYLOAD} is not JSON; gather the facts again") from error
    result = inner if isinstance(inner, dict) else {}
    facts = result.get("ansible_facts", result)
    if isinstance(facts, dict) and any(key in facts for key in SETUP_SIGNS):
        return facts
    if "msg" in result:
        raise HostError(f"{where}Ansible could not gather its facts: {shown(result['msg'], 200)}")
    raise InputError(
        f"{where}the file holds no host facts; it must be a fact document of Farrier (with `schema`), a result of "
        "`ansible -m setup --tree`, or an entry of a JSON fact cache"
    )


def kept_part(document: object, where: str) -> dict[str, object]:
    """What is worth keeping of a host's document: all of Farrier's own; of Ansible's only what a plan reads."""
    if not isinstance(document, dict) or "schema" in document:
        return dict(document) if isinstance(document, dict) else {}
    facts = setup_facts(document, where)
    keys = sorted({key for keys in SETUP_FACTS.values() for key in keys})
    kept: dict[str, object] = {key: value for key in keys if (value := fact_of(facts, key)) is not None}
    systemd = fact_of(facts, "ansible_systemd")
    if isinstance(systemd, dict):
        kept["ansible_systemd"] = {"version": systemd.get("version")}
    mounts = fact_of(facts, "ansible_mounts")
    if isinstance(mounts, list):
        parts = ("mount", "size_available", "size_total")
        rows = [row for row in mounts if isinstance(row, dict) and row.get("mount") in ("/", "/srv")]
        kept["ansible_mounts"] = [{part: row.get(part) for part in parts} for row in rows]
    return {"ansible_facts": kept}


def disk_facts(mounts: object) -> dict[str, tuple[str, object]]:
    """Space of the mount that /srv is on, in MB."""
    entries = [mount for mount in (mounts if isinstance(mounts, list) else ()) if isinstance(mount, dict)]
    by_place = {str(mount.get("mount")): mount for mount in entries}
    place = "/srv" if "/srv" in by_place else "/"
    mount = by_place.get(place, {})
    facts: dict[str, tuple[str, object]] = {}
    for name, key in (("disk_free_mb", "size_available"), ("disk_total_mb", "size_total")):
        size = mount.get(key)
        facts[name] = (f"ansible_mounts[{place}].{key}", size // 2**20 if isinstance(size, int) else size)
    return facts


def settled(document: dict[str, Any], before: object) -> dict[str, Any]:
    """A new document with the old figures where they hardly moved: idle hosts make no changes in git.

    Free memory and disk may move by a tenth, the memory of other services by one step (16 MB) of the probe.
    """
    if not isinstance(before, dict) or before.get("schema") != SCHEMA:
        return document
    new = {**document, "memory_mb": dict(document["memory_mb"]), "disk_mb": dict(document["disk_mb"])}
    old = {key: before[key] if isinstance(before.get(key), dict) else {} for key in ("memory_mb", "disk_mb")}
    for section, key in (("memory_mb", "available"), ("disk_mb", "srv_free")):
        if near(new[section].get(key), old[section].get(key), share=0.1):
            new[section][key] = old[section][key]
    memory, known = new["memory_mb"], old["memory_mb"]
    same_size = all(memory.get(key) == known.get(key) for key in ("total", "limit"))
    same_services = names_of(new.get("others")) == names_of(before.get("others"))
    usable = ("used_by_others", "usable")
    if same_size and same_services and all(near(memory.get(key), known.get(key), most=16) for key in usable):
        memory.update({key: known[key] for key in usable})
        new["others"] = before["others"]
    return new


def near(new: Any, old: Any, *, share: float = 0.0, most: float = 0.0) -> bool:
    """Whether two amounts differ by no more than a share of the old one, or than so much."""
    amount = Number(DISK_MB)
    return is_a(amount, new) and is_a(amount, old) and bool(abs(new - old) <= max(share * old, most))


def names_of(rows: object) -> list[tuple[object, object]]:
    """The services of a document with what they take of the CPUs."""
    return [(row.get("name"), row.get("cpus")) for row in rows] if isinstance(rows, list) else []
