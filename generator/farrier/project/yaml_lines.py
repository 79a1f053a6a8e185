"""Reads handwritten YAML without surprises: YAML 1.2's scalars, no tags, no duplicate keys, every key's line.

PyYAML follows YAML 1.1, in which `no` is false and `012` is ten; here `no` and `012` are text, as they look.
"""

import re
from dataclasses import dataclass, field

import yaml

from farrier.errors import InputError
from farrier.wording import shown

MAXIMUM_BYTES = 1_000_000
MAXIMUM_NODES = 20_000
"""Aliases may multiply nodes; a document that expands to more than this is refused."""

Key = str | int
Path = tuple[Key, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)?\.[0-9]+|(0|[1-9][0-9]*)\.?)([eE][-+]?[0-9]+)?\Z")
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")}
_SURROGATES = re.compile("[\ud800-\udfff]")
_LINE_BREAKS = re.compile("[\u0085\u2028\u2029]")


@dataclass
class Document:
    """A document's data, and the line of each of its keys (counted from 1)."""

    data: object
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest key above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; what a plain scalar means is decided below."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own interface


def load(content: bytes, name: str) -> Document:
    """Read one YAML document; `name` is the file's name in errors.

    Raises:
        InputError: every defect that YAML itself knows, with file and line.
    """
    if len(content) > MAXIMUM_BYTES:
        raise InputError(f"{name}: is too large; the limit is {MAXIMUM_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start} is not UTF-8 text; save the file as UTF-8") from None
    if found := _LINE_BREAKS.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"{name}:{line}: invisible line break {shown(found.group())}; write it as an escape in double quotes"
        )
    loader = None
    try:
        loader = _Loader(text)
        return _Reader(name).read(loader.get_single_node())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{name}:{line}: the character {shown(chr(error.character))} is not allowed in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{name}:{line}: not YAML: {error.problem or error.context}") from None
    except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF"
        line = loader.line + 1 if loader is not None else 1
        raise InputError(f"{name}:{line}: not YAML: invalid character escape") from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes = 0
        self.lines: dict[Path, int] = {}

    def read(self, node: yaml.Node | None) -> Document:
        return Document(None if node is None else self._value(node, (), frozenset()), self.lines)

    def _value(self, node: yaml.Node, path: Path, above: frozenset[int]) -> object:
        line = node.start_mark.line + 1
        self.nodes += 1
        if self.nodes > MAXIMUM_NODES or id(node) in above:
            raise InputError(
                f"{self.name}:{line}: aliases make the document endless or larger than {MAXIMUM_NODES:,} values"
            )
        if node.tag not in _TAGS:
            raise InputError(
                f"{self.name}:{line}: tag {shown(node.tag)} is not supported; write the value without a tag"
            )
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            self.lines |= {(*path, i): item.start_mark.line + 1 for i, item in enumerate(node.value)}
            return [self._value(item, (*path, i), above) for i, item in enumerate(node.value)]
        self._text(node)
        return _scalar(node)

    def _text(self, node: yaml.Node) -> str:
        """A scalar's text, in which an escape may have produced half of a surrogate pair."""
        text: str = node.value
        if found := _SURROGATES.search(text):
            raise InputError(
                f"{self.name}:{node.start_mark.line + 1}: {shown(found.group())} is half of a surrogate pair; write the whole character"
            )
        return text

    def _mapping(self, node: yaml.MappingNode, path: Path, above: frozenset[int]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{self.name}:{line}: a key must be a scalar, not a list or mapping")
            key = self._text(key_node)
            if key in result:
                raise InputError(
                    f"{self.name}:{line}: duplicate key {shown(key)}; the first is on line {self.lines[(*path, key)]}"
                )
            self.lines[(*path, key)] = line
            result[key] = self._value(value_node, (*path, key), above)
        return result


def _scalar(node: yaml.Node) -> object:
    text = node.value
    if getattr(node, "style", None) is not None:
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) and len(text) < 100:
        return int(text)
    if _FLOAT.match(text) and len(text) < 100:
        return float(text)
    return text
