"""Searches a source directory for what a project file needs, without importing or running any of it."""

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from farrier.files import STATE, document, opened
from farrier.project.reserved import why_not_a_name, why_not_a_variable
from farrier.project.values import NAME

REQUIREMENTS = (
    "requirements.txt",
    "requirements.lock",
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements/base.txt",
)
"""Requirements files that pip installs from, the likeliest first."""

SKIPPED = {".git", ".venv", "venv", "node_modules", "__pycache__", "tests", "test", "migrations", "site-packages"}
"""Directories that hold no entry point."""

MOST_FILES = 2000
"""Most Python files inspected; more is a library collection, not an application."""

LARGEST_FILE = 1 << 20
"""Bytes of the largest file inspected; requirements with the hashes of hundreds of packages are smaller."""

SECRET_WORDS = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE|CREDENTIAL|API_?KEY|DATABASE_URL|DSN")
"""An environment variable with one of these in its name is taken to be a secret."""

HEALTH = re.compile(r"""["']/?((?:[\w-]+/)*(?:healthz?|health-?check|livez|readyz|ping|status)/?)["']""")
"""A route that reports the application's health."""


@dataclass
class Discovery:
    """`keys` of the application as the project file has them; `hints` say what was not found."""

    name: str
    keys: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """What the user has to add, one line each."""
        return [f"{key}: {hint}" for key, hint in self.hints.items()]

    def put(self, key: str, value: object, how: str) -> None:
        """Record a finding and where it comes from."""
        self.keys[key] = value
        self.found.append(f"{key}: {how}")


def discover(directory: Path) -> Discovery:
    """What `directory` shows of a Django or Flask application."""
    seen = Discovery(_name(directory))
    sources = {path: text for path in _python_files(directory) if (text := read_text(path)) is not None}
    if (directory / "manage.py").is_file():
        _django(directory, sources, seen)
    else:
        _flask(directory, sources, seen)
    if there := next((name for name in REQUIREMENTS if (directory / name).is_file()), None):
        seen.put("requirements", there, there)
    else:
        seen.hints["requirements"] = f"none of {', '.join(REQUIREMENTS)} exists"
    _health(directory, sources, seen)
    _variables(directory, sources, seen)
    return seen


def _name(directory: Path) -> str:
    """The directory's name as an application's name."""
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-")[:30].strip("-")
    name = name if re.match(NAME, name) else f"app-{name}".strip("-")
    ways = (name, f"{name[:26].strip('-')}-app", f"app-{name[:26].strip('-')}")
    return next(way for way in ways if not why_not_a_name(way))


def _generated(directory: Path) -> set[str]:
    """Files that Farrier generated there, which are not part of the application."""
    manifests = (read_text(path) for path in directory.glob(f"{STATE}/*.json"))
    return {path for text in manifests if text for path in document(text.encode())}


def _python_files(directory: Path) -> Iterator[Path]:
    found = 0
    generated = _generated(directory)
    for path in sorted(directory.rglob("*.py")):
        below = path.relative_to(directory)
        if SKIPPED & set(below.parts[:-1]) or below.as_posix() in generated or not path.is_file():
            continue
        found += 1
        if found > MOST_FILES:
            return
        yield path


def read_text(path: Path) -> str | None:
    """A file's text; None if it cannot be read as text, or is larger than any written by hand."""
    try:
        with opened(path) as file:
            content = file.read(LARGEST_FILE + 1)
        return content.decode() if len(content) <= LARGEST_FILE else None
    except (OSError, UnicodeDecodeError):
        return None


def parsed(text: str) -> ast.Module | None:
    """A module's syntax tree; None if it is not valid for this version of Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the application's own, such as an invalid escape
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two for code nested too deeply
        return None


def bound_names(tree: ast.Module) -> tuple[set[str], bool]:
    """Names that a module binds outside its functions, and whether it may have others."""
    names: set[str] = set()
    dynamic = False
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            dynamic |= node.name == "__getattr__"
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                names.add(node.id)
            dynamic |= node.id in ("globals", "exec", "vars", "locals", "setattr", "eval")
        waiting.extend(ast.iter_child_nodes(node))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.Global))
    names |= {name for node in functions for name in node.names}
    return names, dynamic or "*" in names


def _module(directory: Path, path: Path) -> str:
    parts = path.relative_to(directory).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _django(directory: Path, sources: dict[Path, str], seen: Discovery) -> None:
    """Settings module from manage.py, WSGI entry beside it, static root from the settings."""
    named = re.search(r"""DJANGO_SETTINGS_MODULE["'],\s*["']([\w.]+)["']""", sources.get(directory / "manage.py", ""))
    settings = named[1] if named else None
    if settings:
        name = settings.partition(".")[0].replace("_", "-").lower()
        tells = name not in ("config", "settings", "project", "core")
        if tells and re.match(NAME, name) and len(name) <= 30 and not why_not_a_name(name):
            seen.name = name
        seen.found.append(f"Django, settings {settings}, named in manage.py")
    wsgi = sorted(path for path in sources if path.name == "wsgi.py")
    if wsgi:
        module = _module(directory, wsgi[0])
        seen.put("wsgi", f"{module}:application", f"{module}:application in {wsgi[0].relative_to(directory)}")
    else:
        seen.hints["wsgi"] = "no wsgi.py below the directory"
    seen.put("migrate", "python manage.py migrate --noinput", "Django's own command")
    texts = _settings_texts(directory, sources)
    values = _assignments(texts)
    root = _last_text(values.get("STATIC_ROOT"))
    if root:
        url = _last_text(values.get("STATIC_URL")) or "static/"
        static = {
            "url": f"/{url.strip('/')}/",
            "directory": root.strip("/"),
            "command": "python manage.py collectstatic --noinput",
        }
        seen.put("static", static, f"{static['url']} from STATIC_ROOT {root}")
    else:
        seen.hints["static"] = "the settings have no STATIC_ROOT, so NGINX cannot serve static files"
    if "ALLOWED_HOSTS" in " ".join(_environment_names(texts)):
        seen.environment["ALLOWED_HOSTS"] = "{domain}"
    if len(texts) == 1:  # with several there is no telling which one the host uses
        _as_startproject_wrote_it(values, seen)


def _as_startproject_wrote_it(values: dict[str, ast.expr], seen: Discovery) -> None:
    """Settings of Django's project template that suit a development machine but not a host."""
    if isinstance(hosts := values.get("ALLOWED_HOSTS"), ast.List) and not hosts.elts:
        seen.hints["ALLOWED_HOSTS"] = "empty in the settings, so Django answers 400; list the domain and its aliases"
    if isinstance(debug := values.get("DEBUG"), ast.Constant) and debug.value is True:
        seen.hints["DEBUG"] = (
            "True in the settings, so visitors would see tracebacks and settings; set it to False on hosts"
        )
    databases = _source_of(values.get("DATABASES"))
    if "BASE_DIR" in databases and ".sqlite3'" in databases and not _environment_names([databases]):
        seen.hints["DATABASES"] = f"beside the code, which is read-only on a host; put it below /var/lib/{seen.name}"


def _assignments(texts: list[str]) -> dict[str, ast.expr]:
    """Top-level `NAME = value` of settings modules; the last one wins."""
    values: dict[str, ast.expr] = {}
    for text in texts:
        tree = parsed(text)
        for node in tree.body if tree else []:
            if isinstance(node, ast.Assign):
                values |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return values


def _last_text(node: ast.expr | None) -> str | None:
    """The last literal text of an expression: `BASE_DIR / "static_root"` → `static_root`."""
    literals = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)] if node else []
    return next((text for text in reversed(literals) if isinstance(text, str)), None)


def _flask(directory: Path, sources: dict[Path, str], seen: Discovery) -> None:
    """wsgi.py, the module with `app = Flask(...)`, or the one with a `create_app` function; its static directory is beside it."""
    where = [directory]
    for path in sorted(sources, key=lambda p: (len(p.parts), p)):
        if "Flask(" not in sources[path]:
            continue
        tree = parsed(sources[path])
        entry = _flask_entry(tree) if tree else None
        if entry:
            where.insert(0, path.parent)
            holds, entry = _wsgi_py(directory, sources) or (path, entry)
            module = _module(directory, holds)
            seen.put("wsgi", f"{module}:{entry}", f"Flask, {module}:{entry} in {holds.relative_to(directory)}")
            break
    else:
        seen.hints["wsgi"] = "there is neither a manage.py nor a module with `Flask(...)`"
    static = next((there / "static" for there in where if (there / "static").is_dir()), None)
    if static:
        named = static.relative_to(directory).as_posix()
        seen.put("static", {"url": "/static/", "directory": named}, f"the directory {named}")


def _wsgi_py(directory: Path, sources: dict[Path, str]) -> tuple[Path, str] | None:
    """The application in a top-level wsgi.py, whose author knows how `create_app` is called."""
    path = directory / "wsgi.py"
    tree = parsed(sources.get(path, ""))
    bound = bound_names(tree)[0] if tree else set()
    return next(((path, name) for name in ("application", "app") if name in bound), None)


def _flask_entry(tree: ast.Module) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "Flask" and isinstance(node.targets[0], ast.Name):
                return node.targets[0].id
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in ("create_app", "make_app"):
            required = len(node.args.args) - len(node.args.defaults)
            return f"{node.name}()" if required == 0 else None
    return None


def _health(directory: Path, sources: dict[Path, str], seen: Discovery) -> None:
    for path, text in sources.items():
        routes = any(mark in text for mark in ("path(", "route(", "@app."))
        if routes and (found := HEALTH.search(text)):
            seen.put("health_path", f"/{found[1]}", f"/{found[1]} in {path.relative_to(directory)}")
            return
    seen.hints["health_path"] = "no route such as health/; / will be used"


def _environment_names(texts: list[str]) -> list[str]:
    """Names of environment variables that the code reads."""
    pattern = re.compile(r"""(?:\benv(?:iron(?:ment)?)?(?:\.\w+)?|getenv|config)\s*[\[(]\s*["']([A-Z][A-Z0-9_]+)["']""")
    return sorted({name for text in texts for name in pattern.findall(text) if not why_not_a_variable(name)})


def _source_of(expression: ast.expr | None) -> str:
    """An expression as Python writes it, with single quotes; empty if it is nested too deeply."""
    try:
        return ast.unparse(expression) if expression else ""
    except RecursionError:
        return ""


def _settings_texts(directory: Path, sources: dict[Path, str]) -> list[str]:
    return [text for path, text in sources.items() if "settings" in path.relative_to(directory).as_posix()]


def _variables(directory: Path, sources: dict[Path, str], seen: Discovery) -> None:
    names = _environment_names(list(sources.values()))
    secret_key = _assignments(_settings_texts(directory, sources)).get("SECRET_KEY")
    named = _environment_names([_source_of(secret_key)])
    if secret_key is not None and not isinstance(secret_key, ast.Constant) and not named:
        names = sorted({*names, "SECRET_KEY"})  # Django reads one, and these settings do not show its source
    secrets = [name for name in names if SECRET_WORDS.search(name)]
    plain = [name for name in names if name not in secrets and name != "DJANGO_SETTINGS_MODULE"]
    if secrets:
        seen.put("secrets", secrets, f"{', '.join(secrets)}, judging by the names; keep the values in Ansible vault")
    if plain:
        seen.found.append(f"environment variables the code reads: {', '.join(plain)}")
