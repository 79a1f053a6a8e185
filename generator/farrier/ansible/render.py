"""Turns templates into the files of a generated tree: paths and contents, in memory; nothing is written here."""

import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml
from jinja2 import Environment as Jinja
from jinja2 import StrictUndefined, Template, TemplateError

from farrier import policy
from farrier.ansible.trust import Expression, Free, is_evaluated, unsafe
from farrier.wording import wrapped

SUFFIX = ".tmpl"
PACKAGE = Path(__file__).parents[1]


def templates_directory() -> Path:
    """Where the templates are: beside the package in a wheel, at the top of the repository in a checkout."""
    packaged = PACKAGE / "templates"
    return packaged if packaged.is_dir() else PACKAGE.parents[1] / "templates"


def yaml_unsafe(value: object) -> str:
    """As `yaml_value`, with the tag by which Ansible takes each text as it stands."""
    return yaml_value(unsafe(value))


def yaml_value(value: object) -> str:
    """A value as YAML on one line, quoted where YAML needs it; only an `Expression` is ever evaluated by Ansible."""
    text = yaml.dump(value, default_flow_style=True, width=2**31, allow_unicode=True, sort_keys=False, Dumper=_Dumper)
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """Double quotes for text that needs any, as yamllint and people expect; aliases never."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    resolved = dumper.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call] # PyYAML's own
    is_text = resolved == "tag:yaml.org,2002:str"
    # With that tag Ansible reads "5" or "" as a number or as nothing, although they are quoted; but it evaluates neither.
    if is_text and (isinstance(value, Free) or is_evaluated(value)):
        return dumper.represent_scalar("!unsafe", str(value), style='"')
    looks_odd = not is_text or value != value.strip() or not value.isprintable()
    style = '"' if looks_odd or any(c in value for c in "{}[]#&*!|>'\"%@`:,?\\") or value[:1] == "-" else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style='"' if not value or style else None)


def _expression(dumper: _Dumper, value: Expression) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(value), style='"')


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Free, _text)
_Dumper.add_representer(Expression, _expression)


def yaml_block(value: object, indent: int = 0) -> str:
    """A mapping or list as block YAML, each line indented by `indent` spaces; empty ones stay on one line."""
    if not value:
        return " " * indent + yaml_value(value)
    text = yaml.dump(
        value, default_flow_style=False, width=2**31, allow_unicode=True, sort_keys=False, Dumper=_BlockDumper
    )
    return textwrap.indent(text.removesuffix("\n"), " " * indent)


class _BlockDumper(_Dumper):
    """Indents list items below their key, as ansible-lint wants it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def comment(sentences: object, indent: int = 0, width: int = 100) -> str:
    """Sentences as comment lines."""
    prefix = " " * indent + "# "
    each = [sentences] if isinstance(sentences, str) else list(sentences)  # type: ignore[call-overload]
    return "\n".join(prefix + line for sentence in each for line in wrapped(sentence, width - len(prefix)))


def jinja() -> Jinja:
    """The environment that `.tmpl` files are rendered in: delimiters that neither Ansible, NGINX nor bash use."""
    environment = Jinja(  # noqa: S701 - no HTML is made here
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<%=",
        variable_end_string="%>",
        comment_start_string="<%#",
        comment_end_string="#%>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "yaml": yaml_value,
        "yaml_unsafe": yaml_unsafe,
        "yaml_block": yaml_block,
        "comment": comment,
    }
    environment.globals["policy"] = policy
    return environment


def render_tree(source: Path, context: Mapping[str, object], names: Mapping[str, str], below: str) -> dict[str, bytes]:
    """All files of `source`, as paths `below` a folder → content. `names` replaces words in paths, such as `__app__`."""
    files: dict[str, bytes] = {}
    for path in _files(source):
        relative = f"{below}/{path.relative_to(source).as_posix()}"
        for word, name in names.items():
            relative = relative.replace(word, name)
        content = path.read_bytes()
        if relative.endswith(SUFFIX):
            relative = relative.removesuffix(SUFFIX)
            content = _rendered(content.decode(), context, path)
            if not content.strip():
                continue  # a file that this environment does not need
        files[relative] = content
    return files


def render_file(path: Path, context: Mapping[str, object]) -> bytes:
    """One template."""
    return _rendered(path.read_text(encoding="utf-8"), context, path)


def _rendered(text: str, context: Mapping[str, object], path: Path) -> bytes:
    try:
        return _compiled(text).render(context).encode()
    except TemplateError as error:
        raise RuntimeError(f"template {path}: {error}") from error


@cache
def _compiled(text: str) -> Template:
    """A template, which takes longer to compile than to render."""
    return jinja().from_string(text)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not any(part.endswith(("__pycache__", "_cache")) for part in path.parts):
            yield path
