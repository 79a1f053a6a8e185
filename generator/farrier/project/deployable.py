"""Checks that a source directory has what the project file says, before anything is generated and without importing it.

What cannot be seen without running it, such as a module installed by a requirement, is taken on trust.
"""

import ast
import re
from pathlib import Path

from farrier.errors import InputError
from farrier.project.discover import REQUIREMENTS, bound_names, parsed, read_text
from farrier.project.model import Application
from farrier.wording import nearest, printable, shown

EXPORTS = {
    "uv.lock": "uv export --format requirements-txt > requirements.txt",
    "poetry.lock": "poetry export --output requirements.txt",
    "pdm.lock": "pdm export --output requirements.txt",
    "Pipfile": "pipenv requirements > requirements.txt",
    "Pipfile.lock": "pipenv requirements > requirements.txt",
    "pylock.toml": "uv export --format requirements-txt > requirements.txt",
    "pyproject.toml": "uv pip compile pyproject.toml --output-file requirements.txt",
    "setup.py": "uv pip compile setup.py --output-file requirements.txt",
    "setup.cfg": "uv pip compile setup.cfg --output-file requirements.txt",
    "environment.yml": "pip freeze > requirements.txt",
}
"""Files in which tools keep dependencies, and how each exports what pip installs from."""

ASGI = {
    "fastapi": {"FastAPI"},
    "starlette": {"Starlette"},
    "litestar": {"Litestar"},
    "quart": {"Quart"},
    "sanic": {"Sanic"},
    "blacksheep": {"Application"},
    "channels": {"ProtocolTypeRouter"},
    "django": {"get_asgi_application"},
}
"""Names that create an ASGI application, by the package they are imported from."""


def require_deployable(application: Application, root: Path) -> None:
    """InputError with a line for each thing that would fail on the host; for a git source only the names can be checked."""
    if export := EXPORTS.get(application.requirements.rpartition("/")[2]):
        raise InputError(
            f"application.requirements: {shown(application.requirements)} is not a file that `pip install -r` reads; "
            f"write one with `{export}` and name that"
        )
    if application.is_git:
        return
    source = root / application.source
    if not source.is_dir():
        raise InputError(
            f"application.source: {shown(application.source, 200)} is not a directory beside the project file; name "
            "the one that holds the application"
        )
    looks = (_requirements, _entry, _static, _scripts)
    if lines := [line for look in looks if (line := look(application, source))]:
        raise InputError(*lines)


def _requirements(application: Application, source: Path) -> str | None:
    named = application.requirements
    if (source / named).is_file():
        return None
    there = next((name for name in REQUIREMENTS if (source / name).is_file()), None)
    export = next((command for name, command in EXPORTS.items() if (source / name).is_file()), None)
    right = f"name {there}" if there else f"write it with `{export or 'pip freeze > requirements.txt'}`"
    return f"application.requirements: {shown(named)} is not in {source}; {right}"


def _entry(application: Application, source: Path) -> str | None:
    """Checks that the source has the module, and that its callable takes WSGI."""
    module, _, called = application.wsgi.partition(":")
    parts = module.split(".")
    top = source / parts[0]
    if not top.is_dir() and not top.with_suffix(".py").is_file():
        return _elsewhere(application, parts[0], source)
    path = source.joinpath(*parts)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.is_file():
        if path.name == "__init__.py" or any(path.parent.glob(f"{path.stem}.*")):
            return None  # a package without that file, or a compiled module
        return f"application.wsgi: {shown(module)} is not in {source}: there is no {path.relative_to(source)}"
    text = read_text(path)
    tree = parsed(text) if text is not None else None
    return _callable(tree, called, module) if tree else None


def _elsewhere(application: Application, top: str, source: Path) -> str | None:
    """A module that is not in the source: a requirement may install it, so it is refused only if none can."""
    requirements = source / application.requirements
    text = read_text(requirements) if requirements.is_file() else None
    if text is None:
        return None  # already reported for the requirements
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    wanted = re.sub("[^a-z0-9]", "", top.lower())
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if line.startswith(("-e", "-r", ".", "--req", "--edit")) or "/" in line or name is None:
            return None
        given = re.sub("[^a-z0-9]", "", name[0].lower())
        if wanted in given or given in wanted:
            return None
    near = [path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    right = nearest(top, sorted(near)) if near else "name the application's module"
    return (
        f"application.wsgi: {shown(top)} is neither in {source} nor installed by {application.requirements}; "
        f"{printable(right, 300)}"
    )


def _callable(tree: ast.Module, called: str, module: str) -> str | None:
    """What is wrong with the callable of a module that was parsed."""
    name = re.split(r"[.(]", called, maxsplit=1)[0]
    names, dynamic = bound_names(tree)
    if name not in names:
        if dynamic:
            return None
        return f"application.wsgi: {shown(module)} defines no {shown(name)}; {nearest(name, sorted(names))}"
    framework = _asgi(tree, name)
    if framework is None or called != name:
        return None
    return (
        f"application.wsgi: {shown(f'{module}:{called}')} is an ASGI application ({framework}), and Farrier deploys WSGI; "
        f"wrap it with a2wsgi (`wsgi = ASGIMiddleware({name})`) and name {module}:wsgi"
    )


def _asgi(tree: ast.Module, name: str) -> str | None:
    """The framework whose ASGI application `name` is, by the module's last assignment to it."""
    origins: dict[str, str] = {}
    made: ast.expr | None = None
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.partition(".")[0]
            origins |= {alias.asname or alias.name: f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            origins |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                made = node.value.func if isinstance(node.value, ast.Call) else None
    of = made.value if isinstance(made, ast.Attribute) else made
    origin = origins.get(of.id, "") if isinstance(of, ast.Name) else ""
    package, _, maker = (
        f"{origin}.{made.attr}".partition(".") if isinstance(made, ast.Attribute) else origin.partition(".")
    )
    return f"{package}'s {maker}" if maker in ASGI.get(package, ()) else None


def _static(application: Application, source: Path) -> str | None:
    if application.static is None:
        return None
    named = application.static.directory
    path = source
    for part in named.split("/"):
        path /= part
        if path.is_symlink():
            return (
                f"application.static.directory: {shown(named)} goes through the symbolic link "
                f"{path.relative_to(source)}, which a release does not follow; name a directory inside the source"
            )
    if application.static.command is None and not path.is_dir():
        return (
            f"application.static.directory: {shown(named)} is not a directory in {source}, and no static.command "
            "creates it; name the directory or the command"
        )
    return None


def _scripts(application: Application, source: Path) -> str | None:
    """Checks a Python file of the source that a command runs."""
    commands = {"migrate": application.migrate, "static.command": application.static and application.static.command}
    for key, command in commands.items():
        words = (command or "").split()
        if len(words) < 2 or not re.fullmatch(r"python[0-9.]*", words[0]) or not words[1].endswith(".py"):
            continue
        if not words[1].startswith(("-", "/")) and not (source / words[1]).is_file():
            return f"application.{key}: {shown(words[1])} is not in {source}; name one that is"
    return None
