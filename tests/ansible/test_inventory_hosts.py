"""Hosts of plain inventories, read as Ansible reads them; where only Ansible can say, nothing is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from farrier.ansible.inventory import hosts_of

YAML = """
web:
  hosts:
    web9: {ansible_host: 10.0.0.9}
    web[01:03]:
  vars: {a: [1, {b: 2}]}
db:
  hosts:
    db1:
all:
  children:
    prod: {children: {web: {}, db: {}}}
  hosts: {lonely.example.org: null}
"""
INI = """
# a comment
lonely ansible_host=10.0.0.1 # no
[web]
web9 ansible_host=10.0.0.9
web[a:c].example.org
web7:2222
[web:vars]
http_port = 80
[db]
db1  # the database
[prod:children]
web
db
"""
PATTERNS = ("all", "web", "prod", "web:!web9", "db,web9", "prod:&web", "*.example.org", "web*", "nosuch")


def by_ansible(path: Path, pattern: str) -> tuple[str, ...]:
    command = [str(Path(sys.executable).parent / "ansible"), pattern, "-i", path.name, "--list-hosts"]
    said = subprocess.run(command, cwd=path.parent, check=True, capture_output=True, text=True).stdout
    return tuple(sorted(line.strip() for line in said.splitlines()[1:]))


@pytest.mark.programs
@pytest.mark.parametrize(
    ("name", "text"), [("hosts.yml", YAML), ("hosts", YAML), ("hosts.ini", INI), ("inventory", INI)]
)
def test_the_same_hosts_as_ansible_sees(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    for pattern in PATTERNS:
        assert hosts_of(path, pattern) == by_ansible(path, pattern), pattern


def test_json_is_yaml(tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    path.write_text(json.dumps({"all": {"children": {"web": {"hosts": {"web1": {}, "web2": {"a": [[1]]}}}}}}))
    assert hosts_of(path) == ("web1", "web2")


@pytest.mark.parametrize(
    "text",
    [
        "plugin: amazon.aws.aws_ec2\nregions: [eu-central-1]\n", "web: &a\n  hosts: {web1: }\ndb: *a\n", "[" * 200_000,
        "web:\n  hosts: [web1]\n", "web:\n  hosts: {'{{ name }}': }\n", "\x00", "web:\n  hosts: {'web[1:999999]': }\n",
        "web: " + "{a: " * 60 + "1" + "}" * 60, "- web1\n", "web:\n  hosts: {'web[1:9:0]': }\n",
    ],
)  # fmt: skip
def test_what_only_ansible_can_read_is_left_to_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    assert hosts_of(path) is None


def test_programs_directories_and_regular_expressions_are_left_to_ansible(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert hosts_of(path) is None
    path.write_text("web1\n")
    assert hosts_of(path) == ("web1",)
    assert hosts_of(path, "~web.*") is None
    assert hosts_of(path, "all[0]") is None
    path.chmod(0o755)
    assert hosts_of(path) is None
    assert hosts_of(tmp_path) is None
