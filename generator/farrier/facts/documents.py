"""Host facts from documents: Farrier's own, and those of Ansible's setup module and fact caches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from farrier.errors import HostError, InputError
from farrier.facts.model import (
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
    still_missing,
)
from farrier.facts.setup import SETUP_UNKNOWN, from_setup, setup_part
from farrier.wording import counted, quoted, shown

SECTIONS = tuple(dict.fromkeys(fact.place.partition(".")[0] for fact in FACTS.values()))
"""Parts of a fact document that hold facts."""

MOST_OTHERS = 2000
"""Most other services in a document; a host has hundreds at most."""

MOST_PROBLEMS = 5
"""Problems of one document that are listed; the rest are counted."""


def parse(document: object, host: str, origin: str, stated: Mapping[str, object] | None = None) -> HostFacts:
    """Facts from a fact document, or from what Ansible's setup module or its fact cache wrote.

    `stated` are the operator's facts, which may also fill in what the document lacks. InputError for impossible values,
    HostError if CPUs or memory are unknown.
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
    said, impossible = check(
        {name: (name, value) for name, value in (stated or {}).items()}, f"{where}the stated fact "
    )
    problems += impossible
    if problems:
        raise InputError(*few(problems, where))
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


def gathered(answer: object, host: str, origin: str) -> dict[str, Any]:
    """The document in a host's answer, reduced to the keys that Farrier knows; HostError if it is invalid."""
    where = f"host {host} ({origin}): "
    if not isinstance(answer, dict):
        raise HostError(f"{where}the answer is {quoted(answer)}; it must be an object with facts")
    absent = [name for name in ("schema", *SECTIONS) if answer.get(name) is None]
    if absent:
        raise HostError(
            *few([f"{where}{name} is missing from the answer; gather the facts again" for name in absent], where)
        )
    document = {**answer, "host": host}
    try:
        parse(document, host, origin)
    except InputError as error:
        raise HostError(*error.messages) from error
    return own_part(document)


def few(problems: list[str], where: str) -> list[str]:
    """Each problem once, and only the first few."""
    once = list(dict.fromkeys(problems))
    more = len(once) - MOST_PROBLEMS
    return [
        *once[:MOST_PROBLEMS],
        *([f"{where}{counted(more, 'more value')} {'is' if more == 1 else 'are'} wrong"] if more > 0 else []),
    ]


def from_statements(host: str, stated: Mapping[str, object]) -> HostFacts:
    """Facts of a host known only from the operator."""
    return parse({"schema": SCHEMA}, host, "stated facts only", stated)


def incomplete(name: str, raw: Raw, where: str) -> str:
    """Why a host cannot be sized, and both remedies."""
    what = "the usable CPUs are" if name == "cpus" else "the usable memory is"
    return f"{where}{what} unknown: {raw[name][0]} is missing or null; gather the facts again, or set `{name}`"


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
    problems += [
        f"{where}{section} is {quoted(document[section])}; it must be an object"
        for section in SECTIONS
        if not isinstance(document.get(section), dict | None)
    ]
    raw = {name: (fact.place, at(document, fact.place)) for name, fact in FACTS.items()}
    others, wrong = other_services(document.get("others"), where)
    return raw, others, problems + wrong


def at(document: Mapping[str, object], place: str) -> object:
    """What a document has at a place such as `cpus.usable`."""
    section, _, key = place.partition(".")
    content = document.get(section)
    return content.get(key) if isinstance(content, dict) else None


def other_services(rows: object, where: str) -> tuple[tuple[Other, ...], list[str]]:
    """The services beside the application, and a sentence for each invalid entry."""
    if rows is None:
        return (), []
    if not isinstance(rows, list) or len(rows) > MOST_OTHERS:
        most = f"at most {MOST_OTHERS} " if isinstance(rows, list) else ""
        return (), [f"{where}others is {quoted(rows)}; it must be a list of {most}services"]
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


def kept_part(document: object, where: str) -> dict[str, object]:
    """The part of a document accepted by `parse` that a plan reads."""
    if not isinstance(document, dict):
        return {}
    return own_part(document) if "schema" in document else setup_part(document, where)


def own_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys of one of Farrier's fact documents; anything else is left out."""
    kept: dict[str, Any] = {key: document[key] for key in ("schema", "host") if key in document}
    for fact in FACTS.values():
        section, _, key = fact.place.partition(".")
        content = document.get(section)
        if isinstance(content, dict):
            kept.setdefault(section, {}).update({key: content[key]} if key in content else {})
    if isinstance(document.get("others"), list):
        kept["others"] = [{key: row.get(key) for key in ("name", "memory_mb", "cpus")} for row in document["others"]]
    return kept


def settled(document: dict[str, Any], before: object) -> dict[str, Any]:
    """A new document with the old figures where they hardly changed, so that idle hosts cause no changes in git.

    Free memory and disk may change by a tenth, the memory of other services by one step (16 MB) of the probe.
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
        new["others"] = before.get("others", [])
    return new


def near(new: Any, old: Any, *, share: float = 0.0, most: float = 0.0) -> bool:
    """Whether two amounts differ by no more than a share of the old one, or a fixed amount."""
    amount = Number(DISK_MB)
    return is_a(amount, new) and is_a(amount, old) and bool(abs(new - old) <= max(share * old, most))


def names_of(rows: object) -> list[tuple[object, object]]:
    """The services of a document with their CPU use."""
    return [(row.get("name"), row.get("cpus")) for row in rows] if isinstance(rows, list) else []
