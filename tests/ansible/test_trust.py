"""Data from outside is no code: Ansible takes each text of the project file and of the facts as it stands."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from farrier.ansible.render import yaml_block, yaml_unsafe, yaml_value
from farrier.ansible.trust import Expression, unsafe
from farrier.facts.model import HostFacts
from farrier.generate.tree import environment_tree
from farrier.measure.run import MeasureOptions, _write
from farrier.measure.sources import RequestSource, asked_for
from farrier.plan.planner import plan_all
from farrier.project.model import Project
from farrier.project.workload import Workload

TOUCH = "touch evaluated"
HOSTILE = {
    "braces": f"{{{{ lookup('pipe', '{TOUCH}') }}}}",
    "statement": f"{{% set x = lookup('pipe', '{TOUCH}') %}}",
    "header": f"#jinja2: variable_start_string:'[[', variable_end_string:']]'\n[[ lookup('pipe', '{TOUCH}') ]]",
    "header of blocks": f"#jinja2:block_start_string:'<%',block_end_string:'%>'\n<% set x = lookup('pipe', '{TOUCH}') %>",
    "looks like YAML": "!vault |\n  $ANSIBLE_VAULT;1.1;AES256",
    "looks like omit": "__omit_place_holder__0123",
    "empty": "",
    "number": "012",
    "float": "1.0",
    "boolean": "no",
    "null": "~",
    "date": "2026-11-27",
    "merge": "<<",
    "value": "=",
    "spaces": " x ",
    "lines": "a\n\n b\n",
    "letters": "größer \u2028 日本 {#",
}
NO_TEXT = {"empty", "number", "float", "boolean", "null", "date", "merge", "value"}
TAGGED = {name: value if name in NO_TEXT else ("unsafe", value) for name, value in HOSTILE.items()}
PROJECT = Project.model_validate(
    {
        "application": {"name": "notes", "wsgi": "notes.wsgi:application", "migrate": "python manage.py migrate"},
        "environments": {"production": {"inventory": "inventory.yml", "domain": "www.example.org"}},
    }
)
PLAY = """\
- hosts: localhost
  gather_facts: false
  roles: [notes_production]
"""
TASKS = """\
- name: What the role's variables come to
  ansible.builtin.copy:
    content: "{{ [notes_production_environment, notes_production_domains, own] | to_json }}"
    dest: "{{ playbook_dir }}/found.json"
    mode: "0600"
  vars:
    own: OWN
- name: What the service would read
  ansible.builtin.copy:
    content: "{{ lookup('ansible.builtin.template', 'etc/notes/environment.j2') }}"
    dest: "{{ playbook_dir }}/environment"
    mode: "0600"
"""


def tree_with(application: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, bytes]:
    """The role for values that a project file refuses, which must be harmless all the same."""
    own = PROJECT.environments["production"].model_copy(update=dict(environment))
    project = PROJECT.model_copy(
        update={
            "application": PROJECT.application.model_copy(update=dict(application)),
            "environments": {"production": own},
        }
    )
    facts = [HostFacts(host="web1", cpus=2, memory_mb=3936, somaxconn=4096)]
    plans = plan_all(facts, Workload(), {})
    return environment_tree(project, "production", facts, plans, Workload())


@pytest.mark.programs
def test_ansible_evaluates_nothing_that_came_in_as_data(tmp_path: Path) -> None:
    """Every free text at once, also such as the project file refuses, through defaults, argument specs and a template."""
    domains = [HOSTILE["braces"], HOSTILE["header"]]
    files = tree_with(
        {"environment": HOSTILE, "migrate": HOSTILE["header"]}, {"domain": domains[0], "aliases": domains[1:]}
    )
    for path, content in files.items():
        if path.startswith("roles/"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
    release = files["roles/notes_production/tasks/release.yml"].decode()
    migrate = release.partition("    command: ")[2].partition("\n")[0]
    (tmp_path / "roles/notes_production/tasks/main.yml").write_text(TASKS.replace("OWN", migrate))
    (tmp_path / "play.yml").write_text(PLAY)
    here = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    command = [str(Path(sys.executable).parent / "ansible-playbook"), *here, "play.yml"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not (tmp_path / "evaluated").exists()
    assert json.loads((tmp_path / "found.json").read_text()) == [HOSTILE, domains, HOSTILE["header"]]
    written = (tmp_path / "environment").read_text()
    for name, value in HOSTILE.items():
        escaped = value.replace("$", "\\$")
        assert f'{name}="{escaped}"' in written


def test_only_an_expression_of_farriers_own_is_written_without_the_tag() -> None:
    for text in HOSTILE.values():
        if text.startswith("#jinja2:") or "{" in text:  # what Ansible would evaluate
            assert yaml_value(text).startswith("!unsafe ")
            assert yaml_value([text]).startswith("[!unsafe ")
            assert yaml_block({"a": text}).startswith("a: !unsafe ")
    assert yaml_value(Expression("{{ a }}")) == '"{{ a }}"'
    assert yaml_value("plain") == "plain"


def test_what_nobody_limits_has_the_tag_whatever_it_holds() -> None:
    assert yaml_unsafe("plain") == '!unsafe "plain"'
    assert (
        yaml_block(unsafe({"a": "plain", "b": ["x", 1]}), 2) == '  a: !unsafe "plain"\n  b:\n    - !unsafe "x"\n    - 1'
    )


class TagLoader(yaml.SafeLoader):
    """Knows Ansible's tag, and shows what has it."""


TagLoader.add_constructor("!unsafe", lambda _loader, node: ("unsafe", node.value))


def test_measure_writes_the_environment_with_the_tag(tmp_path: Path) -> None:
    own = PROJECT.environments["production"].model_copy(update={"group": "web"})
    application = PROJECT.application.model_copy(update={"environment": HOSTILE})
    project = PROJECT.model_copy(update={"application": application, "environments": {"production": own}})
    (tmp_path / "inventory.yml").touch()
    how = MeasureOptions(None, 60)
    asked = asked_for(PROJECT, RequestSource(None, None, None))
    _write(tmp_path, project, "production", tmp_path, asked, how)
    (play,) = yaml.load((tmp_path / "measure.yml").read_text(), TagLoader)  # noqa: S506 - a safe loader
    assert play["vars"]["notes_production_environment"] == TAGGED
    assert play["hosts"] == "web[0]", "the first host of the group"


def test_every_environment_value_of_a_role_has_the_tag() -> None:
    files = tree_with({"environment": {"A": "plain"}}, {"environment": {"B": ""}})
    expected = {"A": ("unsafe", "plain"), "B": ""}
    defaults = yaml.load(files["roles/notes_production/defaults/main.yml"], TagLoader)  # noqa: S506 - a safe loader
    specs = yaml.load(files["roles/notes_production/meta/argument_specs.yml"], TagLoader)  # noqa: S506 - a safe loader
    options = specs["argument_specs"]["main"]["options"]
    assert defaults["notes_production_environment"] == expected
    assert options["notes_production_environment"]["default"] == expected
