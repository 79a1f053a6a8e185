"""The order of the modules is kept: each imports only what stands above it, and what is pure stays pure."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "generator" / "farrier"

LAYERS = [
    {"units", "reserved", "trust"},
    {"errors", "events"},
    {"facts", "settings", "policy"},
    {"setup_documents"},
    {"fact_documents", "workload", "yaml_input"},
    {"inputs", "git_url"},
    {"workload_input"},
    {"project", "asked"},
    {"pace"},
    {"measured"},
    {"measure_answer"},
    {"measurement"},
    {"access_log", "locust_requests"},
    {"workload_file"},
    {"plan"},
    {"sizing"},
    {"planning"},
    {"planner"},
    {"explaining"},
    {"role_variables"},
    {"scenario"},
    {"render"},
    {"tree", "tree_files"},
    {"output"},
    {
        "project_file",
        "facts_files",
        "inventory_hosts",
        "modules",
        "ansible_plugins",
        "discover",
        "schema",
        "policy_whys",
    },
    {"collect", "local", "init", "deployable"},
    {"measure", "asked_sources", "locust_recorder", "loading"},
    {"loadtest"},
    {"session", "option_values"},
    {"report"},
    {"sheets", "plot", "measure_options", "cli_options"},
    {"cli_loadtest"},
    {"cli"},
    {"__main__", "__init__"},
]
"""From the ground up; modules of one layer do not import each other, but for the parts of a package."""

PURE = {
    "errors", "units", "events", "reserved", "trust", "facts", "setup_documents", "fact_documents",
    "settings", "policy", "workload", "inputs", "git_url", "workload_input", "project", "plan", "sizing",
    "planning", "planner", "explaining", "role_variables", "scenario", "pace", "measured", "measure_answer", "measurement",
    "workload_file", "asked", "access_log", "locust_requests",
}  # fmt: skip
IMPURE = {
    "os",
    "subprocess",
    "pathlib",
    "jinja2",
    "socket",
    "time",
    "datetime",
    "random",
    "shutil",
    "tempfile",
    "sys",
    "io",
}
STARTS_PROCESSES = {"collect", "modules", "ansible_plugins", "asked_sources", "loading"}


def part(path: Path) -> str:
    """The first word of a module's name below the package: `sizing.memory` → `sizing`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.parent.name != "templates" and "templates" not in p.parts)


def imports(path: Path) -> set[str]:
    """Full names of what a module imports when it is loaded; `if TYPE_CHECKING` and functions are left out."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_every_module_has_its_layer() -> None:
    assert {part(path) for path in modules()} == set().union(*LAYERS)


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_upwards(path: Path) -> None:
    depth = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    own = part(path)
    for name in imports(path):
        if name.startswith("farrier."):
            other = name.split(".")[1]
            assert other == own or depth[other] < depth[own], f"{own} imports {other}"


@pytest.mark.parametrize(
    "path", [p for p in modules() if part(p) in PURE], ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_pure_modules_know_no_outside_world(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


def test_only_few_modules_start_processes() -> None:
    assert {part(p) for p in modules() if "subprocess" in imports(p)} <= STARTS_PROCESSES


def test_no_module_is_longer_than_a_reader_bears() -> None:
    """An Ansible module may be longer: Ansible ships it as one file, its documentation included."""
    lengths = {path: len(path.read_text().splitlines()) for path in modules()}
    assert not {path.name: n for path, n in lengths.items() if n > (530 if part(path) == "modules" else 310)}
