"""Reads what `nginx -T` prints: blocks inside blocks, and which value of a directive is in force where."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<mark>[{};])|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'|(?P<word>[^\s{};]+)"""
)
# NGINX adds up whole lists of these; with all others the innermost block that says something wins.
SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass
class Block:
    """A block with its own directives; `parent` is the block around it."""

    name: tuple[str, ...] = ()
    parent: "Block | None" = None
    directives: list[tuple[str, ...]] = field(default_factory=list)
    blocks: list["Block"] = field(default_factory=list)

    def own(self, directive: str) -> list[tuple[str, ...]]:
        """The arguments of each time that the directive stands in this very block."""
        return [words[1:] for words in self.directives if words[0] == directive]

    def in_force(self, directive: str) -> list[tuple[str, ...]]:
        """What this block says, or else what it inherits from the blocks around it."""
        return self.own(directive) or (self.parent.in_force(directive) if self.parent else [])

    def all_blocks(self, kind: str) -> Iterator["Block"]:
        """All blocks of a kind, however deep: `http`, `server`, `location`."""
        for block in self.blocks:
            if block.name[0] == kind:
                yield block
            yield from block.all_blocks(kind)


def parse(printed: str) -> Block:
    """The whole configuration as one block, with `include`d files where they belong."""
    files = _files(printed)
    root = Block()
    _read(next(iter(files.values())), root, files)
    return root


def _files(printed: str) -> dict[str, str]:
    """`nginx -T` prints one file after the other; the first is the main one."""
    parts = re.split(r"^# configuration file (.+):$", printed, flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _read(text: str, block: Block, files: dict[str, str]) -> None:
    words: list[str] = []
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read the NGINX configuration at {text[position : position + 40]!r}")
        position = match.end()
        mark = match["mark"]
        if mark is None:
            words += [word for word in match.group("double", "single", "word") if word is not None]
        elif mark == ";":
            if words[0] == "include":
                _include(words[1], block, files)
            else:
                block.directives.append(tuple(words))
            words = []
        elif mark == "{":
            inner = Block(tuple(words), block)
            block.blocks.append(inner)
            block, words = inner, []
        elif block.parent is not None:
            block = block.parent


def _include(pattern: str, block: Block, files: dict[str, str]) -> None:
    """Relative patterns count from the directory of the main file, as NGINX has it."""
    directory = next(iter(files)).rpartition("/")[0]
    path = pattern if pattern.startswith("/") else f"{directory}/{pattern}"
    wanted = re.compile(re.escape(path).replace(r"\*", "[^/]*"))
    for name in sorted(files):
        if wanted.fullmatch(name):
            _read(files[name], block, files)


def application_server(root: Block, domain: str) -> Block:
    """The server block that passes requests for `domain` on to Gunicorn."""
    for server in root.all_blocks("server"):
        names = [name for names in server.own("server_name") for name in names]
        if domain in names and any(location.own("proxy_pass") for location in server.all_blocks("location")):
            return server
    raise LookupError(f"no server block of `nginx -T` passes requests for {domain} on")


def proxying_location(server: Block) -> Block:
    """The location of a server that passes requests on: the widest one, should there be several."""
    locations = [location for location in server.all_blocks("location") if location.own("proxy_pass")]
    return min(locations, key=lambda location: len(location.name[-1]))


def seconds(text: str) -> float:
    """`1m30s` and `90` are both 90."""
    parts = re.findall(r"(\d+)(ms|[smhd]?)", text)
    return sum(int(number) * SECONDS[unit] for number, unit in parts)


def size(text: str) -> int:
    """`10m` and `10485760` are both 10485760."""
    number, unit = re.fullmatch(r"(\d+)([kmg]?)", text.lower()).groups()  # type: ignore[union-attr]
    return int(number) * SIZES[unit]
