"""The hosts in an inventory file, as far as it can be read without Ansible: plain INI and YAML, and simple patterns.

Anything else (programs, plugins, directories, variables in names) is left to Ansible itself.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import product
from math import prod
from os import X_OK, access
from pathlib import Path
from typing import Any

import yaml

from farrier.errors import InputError
from farrier.wording import shown

MOST_BYTES = 10 * 1000 * 1000
MOST_HOSTS = 100_000
MOST_DEPTH = 24
"""A larger, longer or deeper inventory is left to Ansible."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

RANGE = re.compile(r"\[(\w+):(\w+)(?::(\d+))?\]", re.ASCII)
SECTION = re.compile(r"\[([^\]:]+)(?::(\w+))?\]")


class Unknown(Exception):
    """Only Ansible can tell."""


def hosts_of(path: Path, pattern: str = "all") -> tuple[str, ...] | None:
    """The hosts of an inventory that a pattern selects, sorted; None if only Ansible can tell."""
    try:
        if not path.is_file() or access(path, X_OK):
            return None
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            return None
        text = content.decode()
        groups = _from_yaml(text) if path.suffix in (".yml", ".yaml", ".json") else _from_either(text)
        return tuple(sorted(_selected(pattern, groups)))
    except (OSError, ValueError, Unknown, yaml.YAMLError):
        return None


def missing_inventory(root: Path, inventory: str) -> str:
    """That there is no inventory at all, in words; empty when there is one."""
    if (root / inventory).exists():
        return ""
    return f"inventory {shown(inventory, 200)} does not exist; it must be a file or directory that Ansible reads"


def no_hosts(inventory: str, selection: str) -> InputError:
    """That an inventory has no host of a selection."""
    return InputError(
        f"inventory {shown(inventory, 200)} has no host that matches {selection}; it must have at least one"
    )


Groups = dict[str, tuple[set[str], set[str]]]
"""By name: its own hosts, and its children."""


def _from_either(text: str) -> Groups:
    """YAML where it is a mapping of groups, as Ansible tries first, else INI."""
    try:
        return _from_yaml(text)
    except (yaml.YAMLError, Unknown):
        return _from_ini(text)


def _from_yaml(text: str) -> Groups:
    found: Groups = {}
    rest = list(_mapping(_tree(text)).items())
    if any(name == "plugin" for name, _ in rest):
        raise Unknown
    while rest:
        name, content = rest.pop()
        hosts, children = found.setdefault(name, (set(), set()))
        parts = _mapping(content)
        named = parts.get("hosts")
        for host in [named] if isinstance(named, str) and named else _mapping(named):
            hosts.update(_expanded(host))
        for child, inner in _mapping(parts.get("children")).items():
            children.add(child)
            rest.append((child, inner))
    return found


def _mapping(content: object) -> Mapping[str, object]:
    if content is None or content == "":
        return {}
    if not isinstance(content, dict):
        raise Unknown
    return content


def _tree(text: str) -> object:
    """A document's mappings, lists and texts, built without recursion."""
    root: list[object] = []
    stack: list[tuple[Any, list[str]]] = [(root, [])]
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            value = _value(event)
            _put(*stack[-1], value)
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append((value, []))
            if len(stack) > MOST_DEPTH:
                raise Unknown
    return root[0] if len(root) == 1 else None


def _value(event: object) -> Any:
    if isinstance(event, yaml.ScalarEvent):
        return None if event.implicit[0] and event.value in ("null", "~", "Null", "NULL") else event.value
    if isinstance(event, yaml.AliasEvent):
        raise Unknown
    return {} if isinstance(event, yaml.MappingStartEvent) else []


def _put(inside: Any, key: list[str], value: object) -> None:
    """Add the next value to a list or a mapping, which gets keys and values in turn."""
    if isinstance(inside, list):
        inside.append(value)
    elif key:
        inside[key.pop()] = value
    elif isinstance(value, str):
        key.append(value)
    else:
        raise Unknown


def _from_ini(text: str) -> Groups:
    found: Groups = {"ungrouped": (set(), set())}
    group, kind = "ungrouped", None
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        section = SECTION.fullmatch(line.partition("#")[0].strip())
        if section:
            group, kind = section[1], section[2]
            found.setdefault(group, (set(), set()))
        elif kind == "children":
            found[group][1].add(line.split()[0])
        elif kind is None:
            found[group][0].update(_expanded(line.split()[0]))
        elif kind != "vars":
            raise Unknown
    return found


def _expanded(name: str) -> Iterator[str]:
    """The hosts that a name with ranges such as `web[01:10]` stands for, without a port."""
    if "{{" in name:
        raise Unknown
    address = name.rpartition(":") if re.fullmatch(r"[^:]+(\[[^\]]*\])?[^:]*:\d+", name) else None
    pieces = RANGE.split(address[0] if address else name)
    texts, ranges = pieces[::4], list(zip(pieces[1::4], pieces[2::4], pieces[3::4], strict=True))
    steps = [list(_range(*each)) for each in ranges]
    if prod(map(len, steps)) > MOST_HOSTS:
        raise Unknown
    for chosen in product(*steps):
        yield "".join(part for pair in zip(texts, [*chosen, ""], strict=True) for part in pair)


def _range(first: str, last: str, step: str | None) -> Iterator[str]:
    by = int(step or 1)
    if by < 1 or len(first) > 6 or len(last) > 6:
        raise Unknown
    if first.isdigit() and last.isdigit():
        width = len(first) if first.startswith("0") else 0
        yield from (str(number).zfill(width) for number in range(int(first), int(last) + 1, by))
    elif len(first) == len(last) == 1:
        yield from map(chr, range(ord(first), ord(last) + 1, by))
    else:
        raise Unknown


def _selected(pattern: str, groups: Groups) -> set[str]:
    """The hosts of a pattern of names, globs, `:`, `,`, `!` and `&`."""
    if re.search(r"[~\[{]|^(localhost|127\.0\.0\.1|::1)$", pattern):  # the last three need not be listed
        raise Unknown
    parts = [part.strip() for part in re.split(r"[,:]", pattern) if part.strip()]
    plain = [part for part in parts if part[0] not in "!&"] or ["all"]
    found = set().union(*(_matching(part, groups) for part in plain))
    for part in (part for part in parts if part[0] == "&"):
        found &= _matching(part[1:], groups)
    for part in (part for part in parts if part[0] == "!"):
        found -= _matching(part[1:], groups)
    return found


def _matching(name: str, groups: Groups) -> set[str]:
    everyone = set().union(*(hosts for hosts, _ in groups.values()))
    if name in ("all", "*"):
        return everyone
    found = {host for host in everyone if fnmatchcase(host, name)}
    rest = [group for group in groups if fnmatchcase(group, name)]
    seen: set[str] = set()
    while rest:
        group = rest.pop()
        if group not in seen:
            seen.add(group)
            hosts, children = groups.get(group, (set(), set()))
            found |= hosts
            rest += children
    return found
