"""Rooms import downwards only, what is pure stays pure, and no module outgrows its reader."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "generator" / "farrier"

LAYERS = [
    {"errors", "files", "policy", "settings", "wording"},
    {"ansible"},
    {"facts"},
    {"project", "sizing"},
    {"plan"},
    {"generate"},
    {"measure"},
    {"loadtest"},
    {"cli"},
    {"__main__"},
]
"""From the ground up. A room imports rooms of the layers below it; only on the ground do neighbours know each other."""

IMPURE = {
    *(
        "datetime",
        "jinja2",
        "os",
        "pathlib",
        "random",
        "shutil",
        "socket",
        "subprocess",
        "sys",
        "tempfile",
        "time",
    ),
}
PURE = {
    *("errors.py", "wording.py", "policy.py", "settings.py", "ansible/events.py", "ansible/trust.py"),
    *("facts/model.py", "facts/documents.py", "facts/setup.py", "generate/variables.py", "measure/answer.py"),
    *(f"project/{name}.py" for name in ("model", "values", "git_url", "reserved", "workload")),
}
STARTS_PROCESSES = {"ansible/runner.py", "measure/sources.py", "loadtest/load_generator.py", "loadtest/process.py"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "templates" not in p.relative_to(PACKAGE).parts)


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    """The first word of a module's name below the package: `sizing/memory.py` is in `sizing`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    """Full names of all that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} if node.module != "farrier" else {f"farrier.{alias.name}" for alias in node.names}
    return found


def is_pure(path: Path) -> bool:
    """Of what computes rather than does: two rooms, those named above, and each module that says so."""
    return (
        room(path) in {"sizing", "plan"}
        or name_of(path) in PURE
        or "Pure." in (ast.get_docstring(ast.parse(path.read_text())) or "")
    )


def test_every_module_has_its_layer() -> None:
    assert {room(path) for path in modules()} - {"__init__"} == set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_what_is_below_it(path: Path) -> None:
    depth = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    own = room(path)
    for name in imports(path):
        if name.startswith("farrier."):
            other = name.split(".")[1]
            if other != own and not {own, other} <= LAYERS[0]:
                assert depth[other] < depth[own], f"{own} imports {other}"
                assert own != "sizing" or other in LAYERS[0], f"{own} imports {other}"


@pytest.mark.parametrize("path", [p for p in modules() if is_pure(p)], ids=name_of)
def test_what_is_pure_knows_no_outside_world(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


def test_only_few_modules_start_processes() -> None:
    starting = {name_of(path) for path in modules() if "subprocess" in imports(path)}
    assert {name for name in starting if not name.startswith("ansible/module")} == STARTS_PROCESSES


def test_no_module_is_longer_than_a_reader_bears() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert not {name: n for name, n in lengths.items() if n > 300}
