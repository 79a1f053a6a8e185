"""The generated role's public face: defaults, argument specs and reasons agree, for hosts of one size and of several."""

import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from farrier.facts.model import HostFacts
from farrier.generate.tree import environment_tree
from farrier.plan.planner import plan_all
from farrier.project.model import Project
from farrier.project.workload import Workload
from farrier.settings import SPECS

ROOT = Path(__file__).parents[2]
TYPES = {"int": int, "str": str, "bool": bool, "float": float, "list": list, "dict": dict}

ONE_SIZE = {"web1": (2.0, 3936), "web2": (2.0, 3936)}
TWO_SIZES = {"web1": (2.0, 3936), "web2": (1.0, 1000), "web3": (2.0, 3936)}


def tree(
    hosts: Mapping[str, tuple[float, int]],
    application: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    workload: Workload | None = None,
) -> dict[str, bytes]:
    project = Project.model_validate(
        {
            "application": {
                "name": "notes",
                "wsgi": "notes.wsgi:application",
                "secrets": ["SECRET_KEY"],
                **(application or {}),
            },
            "environments": {
                "production": {"inventory": "inventory.yml", "domain": "www.example.org", **(environment or {})},
                "staging": {"inventory": "inventory.yml", "domain": "staging.example.org"},
            },
        }
    )
    facts = [HostFacts(host=name, cpus=cpus, memory_mb=mb, somaxconn=4096) for name, (cpus, mb) in hosts.items()]
    work = workload or Workload(stated=frozenset({"cpu_seconds", "wait_seconds"}))
    plans = plan_all(facts, work, project.environments["production"].overrides)
    return environment_tree(project, "production", facts, plans, work)


class Loader(yaml.SafeLoader):
    """Knows the tag of what Ansible is not to evaluate."""


Loader.add_constructor("!unsafe", lambda _loader, node: node.value)


def loaded(files: Mapping[str, bytes], path: str) -> Any:
    return yaml.load(files[f"roles/notes_production/{path}"], Loader)  # noqa: S506 - a safe loader


@pytest.mark.parametrize("hosts", [ONE_SIZE, TWO_SIZES], ids=["one size", "two sizes"])
def test_argument_specs_agree_with_defaults_in_keys_types_and_values(hosts: dict[str, tuple[float, int]]) -> None:
    files = tree(hosts, {"environment": {"LANG": "C.UTF-8"}})
    defaults = loaded(files, "defaults/main.yml")
    options = loaded(files, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    required = {name for name, option in options.items() if option.get("required")}
    assert required == {"notes_production_secrets"}
    assert options.keys() - required == defaults.keys()
    for name, value in defaults.items():
        assert options[name]["default"] == value
        looked_up = isinstance(value, str) and value.startswith("{{")
        assert looked_up or type(value) is TYPES[options[name]["type"]], name


def test_defaults_are_literal_where_the_hosts_agree() -> None:
    defaults = loaded(tree(ONE_SIZE), "defaults/main.yml")
    assert defaults["notes_production_gunicorn_workers"] == 3
    assert defaults["notes_production_sized_for_memory_mb"] == 3936
    assert not any(isinstance(value, str) and "{{" in value for value in defaults.values())


def test_hosts_that_differ_take_a_row_and_equal_ones_share_it() -> None:
    defaults = loaded(tree(TWO_SIZES), "defaults/main.yml")
    assert defaults["notes_production_size_of_host"] == {
        "web1": "2_cpus_3936_mb",
        "web3": "2_cpus_3936_mb",
        "web2": "1_cpus_1000_mb",
    }
    assert [row["gunicorn_workers"] for row in defaults["notes_production_sizes"].values()] == [3, 2]
    assert defaults["notes_production_gunicorn_workers"] == (
        "{{ notes_production_sizes[notes_production_size].gunicorn_workers }}"
    )
    assert defaults["notes_production_gunicorn_timeout"] == 30, "what is equal stays a literal"


@pytest.mark.parametrize(
    ("workload", "assumed"),
    [
        (Workload(), True),
        (Workload(stated=frozenset({"memory_private_mb"})), True),
        (Workload(stated=frozenset({"memory_private_mb", "memory_shared_mb"})), False),
    ],
)
def test_the_role_knows_whether_memory_is_assumed(workload: Workload, assumed: bool) -> None:
    assert loaded(tree(ONE_SIZE, workload=workload), "vars/main.yml")["__notes_production_memory_assumed"] is assumed


def test_retry_after_is_the_plans_queue_budget_not_the_workloads() -> None:
    # Of the 40 s that clients wait 30 s are the request's and 2 s margin; the workload asks for 10 s in the queue.
    files = tree(ONE_SIZE, workload=Workload(client_timeout_seconds=40))
    assert loaded(files, "defaults/main.yml")["notes_production_retry_after"] == 8
    site = files["roles/notes_production/templates/etc/nginx/sites-available/notes.j2"].decode()
    assert "add_header Retry-After {{ notes_production_retry_after }} always;" in site


def test_who_deploys_has_a_name_where_the_environment_says_none(tmp_path: Path) -> None:
    who = loaded(tree(ONE_SIZE), "vars/main.yml")["__notes_production_by"]
    ansible = Path(sys.executable).parent / "ansible"
    done = subprocess.run(
        [
            ansible,
            "-i",
            "localhost,",
            "-c",
            "local",
            "localhost",
            "-m",
            "debug",
            "-a",
            json.dumps({"msg": f"by {who}."}),
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"by {pwd.getpwuid(os.getuid()).pw_name}." in done.stdout


def test_some_megabytes_make_no_other_size() -> None:
    defaults = loaded(tree({"web1": (2.0, 3952), "web2": (2.0, 3936)}), "defaults/main.yml")
    assert defaults["notes_production_sized_for_memory_mb"] == 3936, "the smaller of the two"
    assert defaults["notes_production_gunicorn_workers"] == 3


@pytest.mark.parametrize(
    ("group", "groups"),
    [
        ("all", None),
        ("web", ["web"]),
        ("web:&prod:!db", ["web", "prod"]),
        ("web[0:2],app-*", ["web", "app-"]),
        ("!db", None),
        ("*", None),
    ],
)
def test_all_playbooks_keep_to_the_group_and_test_hosts_are_in_it(group: str, groups: list[str] | None) -> None:
    files = tree(ONE_SIZE, environment={"group": group})
    for name in ("production", "production-rollback", "production-status"):
        plays = yaml.load(files[f"playbooks/{name}.yml"], Loader)  # noqa: S506 - a safe loader
        assert {play["hosts"] for play in plays} == {group}
    (platform,) = yaml.safe_load(files["molecule/production/molecule.yml"])["platforms"]
    assert platform.get("groups") == groups


@pytest.mark.parametrize("hosts", [ONE_SIZE, TWO_SIZES], ids=["one size", "two sizes"])
def test_every_default_has_its_reason_in_a_comment_above(hosts: dict[str, tuple[float, int]]) -> None:
    lines = tree(hosts)["roles/notes_production/defaults/main.yml"].decode().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"notes_production_\w+:", line):
            assert lines[number - 1].startswith("# "), line


def test_every_setting_of_the_plan_is_a_variable_of_the_role() -> None:
    defaults = loaded(tree(ONE_SIZE), "defaults/main.yml")
    assert {f"notes_production_{spec.variable}" for spec in SPECS} <= defaults.keys()


def test_every_variable_is_used_by_the_role() -> None:
    files = tree(ONE_SIZE)
    used = b"".join(content for path, content in files.items() if re.search(r"/(tasks|templates|vars)/", path)).decode()
    unused = [name for name in loaded(files, "defaults/main.yml") if name not in used]
    assert unused == []


def test_a_role_holds_only_what_its_application_needs() -> None:
    bare = b"".join(c for p, c in tree(ONE_SIZE).items() if p.startswith("roles/") and "/library/" not in p).decode()
    full = b"".join(
        c
        for p, c in tree(
            ONE_SIZE,
            {
                "migrate": "python manage.py migrate",
                "static": {"url": "/static/", "directory": "static_root", "command": "python manage.py collectstatic"},
            },
        ).items()
        if p.startswith("roles/") and "/library/" not in p
    ).decode()
    for word in ("migrate", "/static/", "collectstatic"):
        assert word not in bare
        assert word in full


def own_text(files: Mapping[str, bytes]) -> str:
    """Tasks, templates and variables of the role."""
    found = [c for p, c in files.items() if re.search(r"roles/.*/(tasks|templates|vars)/", p)]
    return b"".join(found).decode()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"release_header": True}, ["X-Release", "_naming"]),
        ({"metrics_directory": "/var/lib/textfiles"}, ["metrics.timer", "# HELP", "# shed", "metrics_seconds"]),
    ],
)
def test_what_is_switched_on_is_in_the_role_and_else_it_is_not(environment: dict[str, Any], words: list[str]) -> None:
    off, on = own_text(tree(ONE_SIZE)), own_text(tree(ONE_SIZE, environment=environment))
    for word in words:
        assert word in on
        assert word not in off


@pytest.mark.parametrize(
    "overrides", [{"farrier.watchdog_timeout": 0}, {"gunicorn.worker_class": "sync", "gunicorn.threads": 1}]
)
def test_a_role_has_no_watchdog_where_none_watches(overrides: dict[str, Any]) -> None:
    on, off = own_text(tree(ONE_SIZE)), own_text(tree(ONE_SIZE, environment={"overrides": overrides}))
    for word in ("watchdog", "pre_request", "threading"):
        assert word in on
        assert word not in off


def test_playbooks_keep_their_own_order_and_leave_the_connection_to_the_operator() -> None:
    """A strategy of ansible.cfg's would migrate on every host at once; where sudo wants a terminal pipelining fails."""
    plays = {p: yaml.safe_load(c) for p, c in tree(ONE_SIZE).items() if p.startswith("playbooks/")}
    assert len(plays) == 3
    for path, each in plays.items():
        assert {play["strategy"] for play in each} == {"ansible.builtin.linear"}, path
        assert not any("ansible_pipelining" in play.get("vars", {}) for play in each), path


@pytest.mark.parametrize("hosts", [ONE_SIZE, TWO_SIZES], ids=["one size", "two sizes"])
def test_the_role_knows_which_hosts_were_planned(hosts: dict[str, tuple[float, int]]) -> None:
    files = tree(hosts)
    assert loaded(files, "defaults/main.yml")["notes_production_planned_hosts"] == list(hosts)
    scenario = yaml.safe_load(files["molecule/production/molecule.yml"])
    variables = scenario["provisioner"]["inventory"]["host_vars"]
    assert {name: own["notes_production_planned_hosts"] for name, own in variables.items()} == {
        each["name"]: [each["name"]] for each in scenario["platforms"]
    }


def test_templates_leave_no_mark_behind() -> None:
    for path, content in tree(TWO_SIZES).items():
        assert b"<%" not in content, path
        assert not path.endswith(".tmpl")
        assert "__app__" not in path


def test_all_yaml_that_is_written_can_be_read() -> None:
    for path, content in tree(TWO_SIZES).items():
        if path.endswith(".yml"):
            assert yaml.load(content, Loader) is not None, path  # noqa: S506 - a safe loader with Ansible's tags


def test_environments_differ_only_in_their_name_and_numbers() -> None:
    """The repository's own two: the tasks and templates are the same but for the environment's name."""
    production, staging = ROOT / "roles/notes_production", ROOT / "roles/notes_staging"
    paths = {p.relative_to(production) for p in production.rglob("*") if p.is_file()}
    assert paths == {p.relative_to(staging) for p in staging.rglob("*") if p.is_file()}
    for path in sorted(paths):
        one, two = ((role / path).read_text().replace("production", "staging") for role in (production, staging))
        if path.parts[0] == "vars":  # each names what Farrier writes for all environments
            assert set(one.splitlines()) == set(two.splitlines()), path
        elif path.parts[0] in ("tasks", "templates", "library"):
            assert one == two, path
