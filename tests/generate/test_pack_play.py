"""The play that packs the source runs on this machine, whatever an inventory, ansible.cfg or cached answers say of hosts."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from farrier.facts.model import HostFacts
from farrier.generate.tree import environment_tree
from farrier.plan.planner import plan_all
from farrier.project.model import Project
from farrier.project.workload import Workload

pytestmark = pytest.mark.programs

OF_HOSTS: dict[str, Any] = {
    "ansible_host": "192.0.2.1",
    "ansible_become": True,
    "ansible_become_method": "su",
    "ansible_become_user": "postgres",
    "ansible_become_exe": "/nowhere/su",
    "ansible_connection": "ssh",
    "ansible_python_interpreter": "/nowhere/python",
    "ansible_remote_tmp": "/nowhere/tmp",
    "ansible_shell_executable": "/nowhere/sh",
    "ansible_shell_type": "powershell",
    "ansible_pipelining": False,
    "ansible_user": "nobody-here",
}
"""What a team may have in all:vars for its hosts; with any of it this machine could do nothing."""


def project_in(place: Path, source: str, ref: str | None = None) -> None:
    """What `farrier generate` writes, with a playbook that ends where the first host would be asked."""
    application = {"name": "notes", "wsgi": "notes.wsgi:application", "source": source, "ref": ref}
    environments = {"production": {"inventory": "inventory.yml", "domain": "www.example.org"}}
    project = Project.model_validate({"application": application, "environments": environments})
    facts = [HostFacts(host=host, cpus=2.0, memory_mb=3936, somaxconn=4096) for host in ("web1", "web2")]
    work = Workload(stated=frozenset({"cpu_seconds", "wait_seconds"}))
    for path, content in environment_tree(project, "production", facts, plan_all(facts, work, {}), work).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    plays = yaml.safe_load((place / "playbooks/production.yml").read_text())
    told = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }}={{ __notes_production_source.release }}"}}
        ],
    }
    (place / "playbooks/packed.yml").write_text(yaml.safe_dump([plays[0], told]))
    hosts: dict[str, Any] = {"web1": {}, "web2": {}, "localhost": {"ansible_port": 1}}
    (place / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": OF_HOSTS}}))
    (place / "ansible.cfg").write_text("[defaults]\nstrategy = free\n[privilege_escalation]\nbecome = true\n")


def play(place: Path, name: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.yml", f"playbooks/{name}.yml", *arguments],
        cwd=place,
        env={**os.environ, "HOME": str(place), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def played(place: Path, *arguments: str, **variables: str) -> str:
    done = play(place, "packed", *arguments, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cached(place: Path, answers: dict[str, Any]) -> dict[str, str]:
    """Settings of Ansible with which it knows these facts of each host from an earlier play."""
    facts = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(place / "cached")}
    packed = place / "playbooks/packed.yml"
    before = packed.read_text()
    task = {"ansible.builtin.set_fact": {**answers, "cacheable": True}}
    packed.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "become": False, "tasks": [task]}]))
    played(place, **facts)
    packed.write_text(before)
    return facts


def git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    subprocess.run(["git", "-C", directory, *identity, *arguments], check=True, capture_output=True)


def test_packing_needs_nothing_of_what_is_said_of_hosts(tmp_path: Path) -> None:
    project_in(tmp_path, "app")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/app.py").write_text("application = None\n")
    said = played(tmp_path)
    releases = {host: said.split(f'"{host}=')[1][:12] for host in ("web1", "web2", "localhost")}
    assert len(set(releases.values())) == 1, "one packing for all hosts"
    assert f'"web2={releases["web2"]}"' in played(tmp_path, "--limit", "web2", "--check")


def test_what_farrier_and_its_test_hosts_leave_in_a_project_is_no_part_of_a_release(tmp_path: Path) -> None:
    place, home = tmp_path / "project", str(tmp_path)  # where Ansible leaves files of its own
    project_in(place, ".")
    before = played(place, HOME=home).split('"web1=')[1][:12]
    kept = (
        ".cache/hosts/up/notes-production-1.json",
        "facts/production/web1.json",
        "workloads/production.yml",
        "loadtests/production/web1.csv",
    )
    for path in kept:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text("{}")
    assert played(place, HOME=home).split('"web1=')[1][:12] == before
    (place / "app.py").write_text("application = None\n")
    assert played(place, HOME=home).split('"web1=')[1][:12] != before


def test_what_a_host_has_answered_before_is_no_source(tmp_path: Path) -> None:
    project_in(tmp_path, "app")
    for name in ("app", "secrets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    clean = played(tmp_path).split('"web1=')[1][:12]
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    answers = {
        "seen": "read",
        "notes_production_source": str(tmp_path / "secrets"),
        "notes_production_source_ref": "main",
        "__notes_production_own": [],
        "__notes_production_recipe": {"static_directory": "x"},
        "role_path": str(tmp_path / "secrets/roles/x"),
        "ansible_playbook_python": str(script),
        "ansible_python_interpreter": str(script),
        "ansible_shell_executable": str(script),
        "ansible_connection": "ssh",
        "ansible_become": True,
        "ansible_become_exe": str(script),
    }
    facts = cached(tmp_path, answers)
    packed = tmp_path / "playbooks/packed.yml"
    packed.write_text(packed.read_text().replace("}}=", '}}-{{ seen | default("unread") }}='))
    assert f'"web1-read={clean}"' in played(tmp_path, **facts)
    assert not (tmp_path / "ran").exists()


def test_another_ref_for_one_run(tmp_path: Path) -> None:
    source = tmp_path / "repository"
    source.mkdir()
    git(source, "init")
    for version in ("v1", "v2"):
        (source / "app.py").write_text(version)
        git(source, "add", ".")
        git(source, "commit", "-m", version)
        git(source, "tag", version)
    project_in(tmp_path, f"file://{source}", "v1")
    first, second = (
        played(tmp_path, *each).split('"web1=')[1][:12] for each in ((), ("-e", "notes_production_source_ref=v2"))
    )
    assert first != second


def test_where_packing_was_skipped_no_answer_takes_its_place(tmp_path: Path) -> None:
    project_in(tmp_path, "app")
    (tmp_path / "app").mkdir()
    facts = cached(
        tmp_path, {"__notes_production_source": {"release": "0" * 12, "archive": "/etc/passwd"}, "seen": "read"}
    )
    told = {"ansible.builtin.debug": {"msg": "{{ seen }}={{ __notes_production_source.archive | default('none') }}"}}
    (tmp_path / "roles/notes_production/tasks/pack.yml").write_text(yaml.safe_dump([told]))
    packed = tmp_path / "playbooks/packed.yml"
    packed.write_text(yaml.safe_dump(yaml.safe_load(packed.read_text())[:1]))
    assert '"read=none"' in played(tmp_path, **facts)


def test_one_host_without_a_plan_stops_the_deploy_before_any_is_asked(tmp_path: Path) -> None:
    project_in(tmp_path, "app")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/app.py").write_text("application = None\n")
    done = play(tmp_path, "production")
    assert done.returncode == 2
    assert "localhost was not planned: gather its facts (farrier facts production) and generate the role" in done.stdout
    assert "Validating arguments" not in done.stdout, "which each host fails by itself, while the others go on"
    assert "web1                       : ok=1    changed=0    unreachable=0    failed=0" in done.stdout
    assert "unreachable=1" not in done.stdout


def test_a_limit_that_systemd_would_pass_over_stops_the_deploy_before_any_host_is_asked(tmp_path: Path) -> None:
    project_in(tmp_path, "app")
    (tmp_path / "app").mkdir()
    (tmp_path / "app/app.py").write_text("application = None\n")
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars/web1.yml").write_text("notes_production_systemd_memory_max: 252 MB\n")
    (tmp_path / "host_vars/web2.yml").write_text("notes_production_systemd_memory_max: 264241152\n")
    done = play(tmp_path, "production")
    assert done.returncode == 2
    assert re.search(r"systemd_memory_max\s+must\s+be\s+amounts\s+such\s+as\s+252M", done.stdout), done.stdout
    assert "web2                       : ok=1    changed=0    unreachable=0    failed=0" in done.stdout
    assert "unreachable=1" not in done.stdout
