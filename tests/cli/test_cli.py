"""The commands as people and programs call them: exit codes, one-line errors, nothing half-written."""

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from farrier.cli.app import main

PROJECT = """\
application:
  name: notes
  wsgi: notes.wsgi:application
environments:
  production:
    inventory: inventory.yml
    domain: www.example.org
    hosts:
      web1: {cpus: 2, memory_mb: 3936}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def write_project(directory: Path) -> None:
    (directory / "farrier.yml").write_text(PROJECT)
    (directory / "inventory.yml").write_text("web: {hosts: {web1: {}, web2: {}}}\n")
    (directory / "requirements.txt").write_text("flask\n")
    (directory / "notes").mkdir()
    (directory / "notes/wsgi.py").write_text("application = None\n")


TERMINAL = {"TERM": "dumb", "COLUMNS": "120"}


def farrier(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in this process, which has imported all that it needs; an exception that leaves it fails the test."""
    said, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setattr(sys, "argv", ["farrier", *arguments])
        patch.setattr(sys, "stdin", io.StringIO())
        for name, value in TERMINAL.items():
            patch.setenv(name, value)
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as end,
        ):
            main()
    code = end.value.code
    assert code is None or isinstance(code, int), code
    return subprocess.CompletedProcess(sys.argv, code or 0, said.getvalue(), errors.getvalue())


def process(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "farrier", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={**os.environ, **TERMINAL},
    )


def fails(
    directory: Path,
    code: int,
    *arguments: str,
    by: Callable[..., "subprocess.CompletedProcess[str]"] = farrier,
) -> str:
    """The one line that a failing command says."""
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    result = by(directory, *arguments)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before, "nothing is written"
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_version_and_help(tmp_path: Path) -> None:
    assert process(tmp_path, "--version").stdout.startswith("farrier 0.")
    for command in ("init", "facts", "plan", "generate"):
        assert f"Usage: farrier {command}" in farrier(tmp_path, command, "--help").stdout
    help_text = process(tmp_path, "plan", "--help").stdout
    assert "Usage: farrier plan" in help_text.replace("python -m farrier", "farrier")


def test_shell_completion_is_offered(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "farrier", "--show-completion", "bash"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "COMPREPLY" in result.stdout


def test_plan_json_is_the_contract(project: Path) -> None:
    result = farrier(project, "plan", "production", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["environment"] == "production"
    assert document["hosts"]["web1"]["sized_for"] == {"cpus": 2.0, "memory_mb": 3936}
    assert document["hosts"]["web1"]["settings"]["gunicorn.workers"]["value"] == 3


def test_plan_shows_a_reason_beside_every_setting(project: Path) -> None:
    text = farrier(project, "plan", "production").stdout
    assert "web1: sized for 2 CPUs and 3,936 MB; carries 98.5 requests a second in 281 MB" in text
    assert "gunicorn.backlog" in text
    assert "warning: the cost of a request is assumed, not measured" in text


def test_the_table_parts_no_number_from_its_unit_and_separates_thousands(project: Path) -> None:
    lines = farrier(project, "plan", "production").stdout.splitlines()
    reasons = [line.split("│")[3].strip() for line in lines if line.count("│") == 3]
    parted = [pair for pair in pairwise(reasons) if re.search(r"\d$", pair[0]) and re.match(r"[\w%]", pair[1])]
    assert (len(reasons) > 60, parted) == (True, [])
    assert [line.split("│")[1].strip() for line in lines if line.startswith("nginx.worker_connections")] == ["6,400"]


def test_plan_for_this_machine_needs_no_project(tmp_path: Path) -> None:
    document = json.loads(farrier(tmp_path, "plan", "--local", "--json").stdout)
    assert list(document["hosts"]) == ["localhost"]
    assert document["hosts"]["localhost"]["sized_for"]["cpus"] > 0
    stated = ("--cpus", "3", "--fact", "memory_mb=2048")
    document = json.loads(farrier(tmp_path, "plan", "--local", "--json", *stated).stdout)
    assert document["hosts"]["localhost"]["sized_for"] == {"cpus": 3.0, "memory_mb": 2048}
    assert list(tmp_path.iterdir()) == []


def test_a_stated_fact_wins_over_the_project_file(project: Path) -> None:
    document = json.loads(farrier(project, "plan", "production", "--json", "--fact", "cpus=1").stdout)
    assert document["hosts"]["web1"]["sized_for"]["cpus"] == 1.0
    assert any("stated" in warning for warning in document["hosts"]["web1"]["warnings"])


def test_facts_of_ansibles_setup_module(project: Path) -> None:
    tree = project / "tree"
    tree.mkdir()
    facts = {
        "ansible_processor_nproc": 1,
        "ansible_processor_vcpus": 64,
        "ansible_memtotal_mb": 3936,
        "ansible_distribution": "Debian",
        "ansible_distribution_version": "12.9",
        "ansible_python_version": "3.11.2",
    }
    (tree / "app1").write_text(json.dumps({"ansible_facts": facts, "changed": False}))
    document = json.loads(farrier(project, "plan", "production", "--facts", "tree", "--json").stdout)
    assert document["hosts"]["app1"]["sized_for"] == {"cpus": 1.0, "memory_mb": 3936}
    assert any(w.startswith("cpu_quota is not known") for w in document["hosts"]["app1"]["warnings"])


def test_facts_that_ansible_has_written_are_taken_over(project: Path) -> None:
    (project / "farrier.yml").write_text(PROJECT.partition("    hosts:")[0])
    (project / "tree").mkdir()
    facts = {
        "ansible_processor_nproc": 2,
        "ansible_memtotal_mb": 2000,
        "ansible_env": {"PASSWORD": "x"},
        "ansible_mounts": [{"mount": "/", "size_available": 10 * 2**30, "size_total": 20 * 2**30, "uuid": "u"}],
    }
    (project / "tree/app1").write_text(json.dumps({"ansible_facts": facts}))
    result = farrier(project, "facts", "production", "--from", "tree")
    assert (result.returncode, result.stdout) == (0, "1 host imported from tree into facts/production\n")
    assert json.loads((project / "facts/production/app1.json").read_text()) == {
        "ansible_facts": {
            "ansible_memtotal_mb": 2000,
            "ansible_mounts": [{"mount": "/", "size_available": 10 * 2**30, "size_total": 20 * 2**30}],
            "ansible_processor_nproc": 2,
        }
    }
    from_tree = farrier(project, "plan", "production", "--facts", "tree", "--json").stdout
    assert farrier(project, "plan", "production", "--json").stdout == from_tree


def test_generate_check_and_diff(project: Path) -> None:
    result = farrier(project, "generate", "production", "--check")
    assert result.returncode == 1
    assert not (project / "roles").exists()
    assert farrier(project, "generate", "production").returncode == 0
    again = farrier(project, "generate", "production", "--check", "--diff")
    assert again.returncode == 0, again.stdout
    assert "0 files of" in again.stdout
    playbook = project / "playbooks/production.yml"
    playbook.write_text(playbook.read_text() + "# mine\n")
    mine = farrier(project, "generate", "production", "--check")
    assert re.search(r"^production: 1 file of \d+ differs, for 1 host$", mine.stdout, re.MULTILINE)
    assert farrier(project, "generate", "production", "--force").returncode == 0
    changed = PROJECT.replace("cpus: 2", "cpus: 4")
    (project / "farrier.yml").write_text(changed)
    drift = farrier(project, "generate", "production", "--check", "--diff")
    assert drift.returncode == 1
    assert "-notes_production_gunicorn_workers: 3" in drift.stdout
    assert "+notes_production_gunicorn_workers: 5" in drift.stdout


def test_generate_is_the_same_to_the_byte_wherever_it_runs(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    write_project(other)
    for directory in (project, other):
        assert process(directory, "generate", "production").returncode == 0  # each with another seed of its hashes

    def tree(root: Path) -> dict[str, bytes]:
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    assert tree(project) == tree(other)


def test_what_a_project_brings_along_says_nothing_to_the_terminal(project: Path) -> None:
    """Neither a file of the tree nor its name, which a manifest may hold."""
    assert farrier(project, "generate", "production").returncode == 0
    odd = project / "playbooks/\x1b[31m"
    odd.write_text("a\tb\x1b[2J\r\n")
    manifest = project / ".farrier/production.json"
    recorded = json.loads(manifest.read_text()) | {
        "playbooks/\x1b[31m": f"sha256:{hashlib.sha256(odd.read_bytes()).hexdigest()}"
    }
    manifest.write_text(json.dumps(recorded))
    said = farrier(project, "generate", "production", "--check", "--diff").stdout
    assert "-a\tb\\x1b[2J" in said.splitlines()
    assert "would remove playbooks/\\x1b[31m" in said.splitlines()
    assert said.replace("\t", "").replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["plan", "nope"], 2, "farrier: environment 'nope' is not in the project file, which has production"),
        (["plan"], 2, "farrier: name an environment, such as `farrier plan production`, or use --local for this machine"),
        (["plan", "production", "--local"], 2, "farrier: --local plans for this machine; leave out the environment 'production'"),
        (["plan", "production", "--project", "none.yml"], 2, None),
        (["plan", "production", "--fact", "cpus=none"], 2, "farrier: --fact cpus: 'none' is not a number above 0 to 4096"),
        (["plan", "production", "--fact", "colour=red"], 2, None),
        (["plan", "production", "--facts", "none"], 2, None),
        (["plan", "production", "--limit", "db*"], 2, "farrier: --limit 'db*' matches no host with facts"),
        (["plan", "production", "--fact", "memory_mb=150"], 3, None),
        (["generate", "production", "--fact", "memory_mb=150"], 3, None),
        (["generate", "production", "--output", "/proc/nowhere"], 2, None),
        (["generate", "production", "--output", "farrier.yml"], 2, None),
        (["facts", "production", "--from", "none"], 2, None),
        (["init", "none"], 2, "farrier: 'none' is not a directory; name the application's source directory"),
        (["init"], 2, "farrier: farrier.yml: already exists; edit it, or overwrite it with --force"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_their_exit_code(
    project: Path, arguments: list[str], code: int, message: str | None
) -> None:
    said = fails(project, code, *arguments)
    assert said == message or (message is None and said.startswith("farrier: "))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan", "nope"], 2),
        (["generate", "production", "--fact", "memory_mb=150"], 3),
        (["facts", "production", "--from", "none"], 2),
    ],
)
def test_the_exit_code_of_a_process_is_that_of_its_command(project: Path, arguments: list[str], code: int) -> None:
    assert fails(project, code, *arguments, by=process) == fails(project, code, *arguments)


def test_an_environment_without_facts(project: Path) -> None:
    (project / "farrier.yml").write_text(PROJECT.partition("    hosts:")[0])
    assert fails(project, 4, "plan", "production") == (
        "farrier: environment production has no host facts: facts/production has none; gather them with `farrier "
        "facts production`, or set cpus and memory_mb of each host under `hosts:` in the project file"
    )


def test_a_plan_for_a_host_that_is_only_stated(project: Path) -> None:
    """Without any host; a role is for hosts that there are."""
    (project / "farrier.yml").write_text(PROJECT.partition("    hosts:")[0])
    (project / "inventory.yml").unlink()
    stated = ["--fact", "cpus=2", "--fact", "memory_mb=4096"]
    plan = json.loads(farrier(project, "plan", "production", "--json", *stated).stdout)
    assert list(plan["hosts"]) == ["stated"]
    assert plan["hosts"]["stated"]["settings"]["gunicorn.workers"]["value"] == 3
    missing = "farrier: inventory 'inventory.yml' does not exist; it must be a file or directory that Ansible reads"
    assert "has no host facts" in fails(project, 4, "generate", "production", *stated)
    assert "has no host facts" in fails(project, 4, "plan", "production", "--fact", "cpus=2")
    assert fails(project, 2, "facts", "production") == missing


@pytest.mark.parametrize("command", ["plan", "generate"])
def test_a_missing_inventory_is_told_where_hosts_are_planned_all_the_same(project: Path, command: str) -> None:
    (project / "inventory.yml").unlink()
    assert farrier(project, command, "production").stdout.splitlines()[-1] == (
        "warning: inventory 'inventory.yml' does not exist; it must be a file or directory that Ansible reads"
    )


def test_stated_facts_are_those_of_the_inventorys_hosts(project: Path) -> None:
    """For `plan` and `generate` alike, where no facts were gathered."""
    (project / "farrier.yml").write_text(PROJECT.partition("    hosts:")[0])
    stated = ["--fact", "cpus=2", "--fact", "memory_mb=4096"]
    plan = json.loads(farrier(project, "plan", "production", "--json", *stated).stdout)
    assert (list(plan["hosts"]), plan["hosts_without_facts"]) == (["web1", "web2"], [])
    assert farrier(project, "generate", "production", *stated).stdout.splitlines()[-1].endswith("for 2 hosts")


def test_facts_of_all_hosts_hold_beside_those_of_one(project: Path) -> None:
    (project / "farrier.yml").write_text(
        f"{PROJECT.partition('    hosts:')[0]}    facts: {{cpus: 2, memory_mb: 4096}}\n    hosts:\n      web2: {{cpus: 1}}\n"
    )
    plan = json.loads(farrier(project, "plan", "production", "--json").stdout)
    assert {name: host["sized_for"]["cpus"] for name, host in plan["hosts"].items()} == {"web1": 2, "web2": 1}
    assert farrier(project, "generate", "production").stdout.splitlines()[-1].endswith("for 2 hosts")


def test_localhost_need_not_be_in_the_inventory(project: Path) -> None:
    stated = "    group: localhost\n    hosts:\n      localhost: {cpus: 2, memory_mb: 4096}\n"
    (project / "farrier.yml").write_text(PROJECT.partition("    hosts:")[0] + stated)
    assert list(json.loads(farrier(project, "plan", "production", "--json").stdout)["hosts"]) == ["localhost"]


@pytest.mark.parametrize("command", ["plan", "generate"])
def test_an_inventory_without_a_host_of_the_group(project: Path, command: str) -> None:
    (project / "farrier.yml").write_text(PROJECT.replace("    hosts:", "    group: wbe\n    hosts:"))
    assert fails(project, 2, command, "production") == (
        "farrier: inventory 'inventory.yml' has no host that matches 'wbe'; it must have at least one"
    )


@pytest.mark.parametrize("command", ["plan", "generate"])
@pytest.mark.parametrize("stated", ["{cpus: 1}", "{cpus: 1, memory_mb: 512}"])
def test_a_mistyped_host_is_refused(project: Path, command: str, stated: str) -> None:
    (project / "farrier.yml").write_text(f"{PROJECT}      wbe2: {stated}\n")
    assert fails(project, 2, command, "production") == (
        "farrier: environment production: 'wbe2' under `hosts:` is not in its inventory; did you mean web2?"
    )


def test_a_mistyped_host_where_only_ansible_can_read_the_inventory(project: Path) -> None:
    (project / "inventory.yml").write_text("plugin: constructed\n")
    assert farrier(project, "plan", "production").returncode == 0
    (project / "farrier.yml").write_text(PROJECT + "      wbe1: {cpus: 1}\n")
    assert fails(project, 2, "plan", "production") == (
        "farrier: environment production: 'wbe1' under `hosts:` has neither gathered facts nor cpus and memory_mb; did you "
        "mean web1?"
    )


def test_facts_from_an_unsupported_system(project: Path) -> None:
    tree = project / "tree"
    tree.mkdir()
    facts = {
        "ansible_processor_nproc": 2,
        "ansible_memtotal_mb": 4000,
        "ansible_distribution": "CentOS",
        "ansible_distribution_version": "7",
    }
    (tree / "old1").write_text(json.dumps({"ansible_facts": facts}))
    assert "CentOS 7" in fails(project, 2, "generate", "production", "--facts", "tree")


def test_incomplete_facts(project: Path) -> None:
    (project / "tree").mkdir()
    (project / "tree" / "odd1").write_text(json.dumps({"ansible_facts": {"ansible_memtotal_mb": 4000}}))
    assert "odd1" in fails(project, 4, "plan", "production", "--facts", "tree")


def test_a_closed_pipe_is_no_error(project: Path) -> None:
    command = f"{sys.executable} -m farrier plan production --json | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=project, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_pattern_has_no_first_host_to_measure_on(project: Path) -> None:
    (project / "farrier.yml").write_text(PROJECT.replace("    hosts:", "    group: web:!db\n    hosts:"))
    assert fails(project, 2, "measure", "production") == (
        "farrier: --host is missing: group 'web:!db' is a pattern; name one host"
    )


@pytest.mark.programs
def test_facts_are_asked_of_the_group_only(project: Path) -> None:
    """And of what --limit leaves of it."""
    local = f"ansible_connection=local ansible_python_interpreter={sys.executable}"
    (project / "inventory.yml").write_text(
        f"[web]\nweb1 {local}\nweb2 {local}\n[db]\ndb1 ansible_host=127.0.0.1 ansible_port=1\n"
    )
    (project / "farrier.yml").write_text(PROJECT.replace("    hosts:", "    group: web\n    hosts:"))
    assert farrier(project, "facts", "production", "--limit", "web2:db1").returncode == 0
    assert [path.name for path in (project / "facts/production").iterdir()] == ["web2.json"]
    assert farrier(project, "facts", "production").returncode == 0
    assert sorted(path.name for path in (project / "facts/production").iterdir()) == ["web1.json", "web2.json"]
    assert farrier(project, "generate", "production").returncode == 0
    for name in ("production", "production-rollback", "production-status"):
        playbook = str(Path(sys.executable).parent / "ansible-playbook")
        command = [playbook, "-i", "inventory.yml", "--list-hosts", f"playbooks/{name}.yml"]
        listed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
        assert {"web1", "web2"} <= set(listed.split())
        assert "db1" not in listed


def test_hosts_of_the_inventory_without_facts_are_named(project: Path) -> None:
    document = yaml.safe_load((project / "farrier.yml").read_text())
    inventory = document["environments"]["production"]["inventory"]
    (project / inventory).write_text("web: {hosts: {web1: {}}}\ndb: {hosts: {db1: {}}}\n")
    warning = (
        "warning: db1 is in the inventory of production but without facts, so not planned; gather them with `farrier facts "
        "production`"
    )
    assert farrier(project, "plan", "production").stdout.splitlines()[-1] == warning
    assert farrier(project, "plan", "production", "--explain", "gunicorn.workers").stdout.splitlines()[-1] == warning
    assert "db1" not in farrier(project, "plan", "production", "--limit", "web*").stdout
    assert json.loads(farrier(project, "plan", "production", "--json").stdout)["hosts_without_facts"] == ["db1"]
    assert farrier(project, "generate", "production").stdout.splitlines()[-1] == warning
    document["environments"]["production"]["group"] = "web"
    (project / "farrier.yml").write_text(yaml.safe_dump(document))
    assert "db1" not in farrier(project, "plan", "production").stdout, "no host of the environment"
    del document["environments"]["production"]["group"]
    (project / "farrier.yml").write_text(yaml.safe_dump(document))
    assert "warning: db1" in farrier(project, "plan", "production").stdout
    (project / inventory).write_text("web: {hosts: {web1: {}}}\n")
    assert "warning: db1" not in farrier(project, "plan", "production").stdout
    assert json.loads(farrier(project, "plan", "production", "--json").stdout)["hosts_without_facts"] == []
