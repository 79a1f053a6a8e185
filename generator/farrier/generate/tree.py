"""Everything that `farrier generate` writes for one environment, in memory: relative path → content."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import PurePosixPath

from farrier.ansible.module_utils.farrier_systems import RELEASES
from farrier.ansible.render import PACKAGE, render_tree, templates_directory
from farrier.facts.model import HostFacts
from farrier.files import json_document
from farrier.generate.scenarios import TestScenario, scenarios
from farrier.generate.variables import differing, role_variables, sizes
from farrier.plan.model import Plan, plans_document
from farrier.project.model import Environment, Project
from farrier.project.workload import Workload


def environment_tree(
    project: Project, name: str, facts: Iterable[HostFacts], plans: Mapping[str, Plan], workload: Workload
) -> dict[str, bytes]:
    """Role, playbooks and scenarios of the environment `name`; paths are relative to the project's root."""
    source = templates_directory()
    role = project.role(name)
    groups = sizes(plans)
    variables = role_variables(project, name, plans, groups)
    tested = scenarios(project, name, facts, plans, workload, variables)
    every_plan = [*plans.values(), *(plan for scenario in tested for plan in scenario.plans.values())]
    context = _context(project, name) | {
        "variables": variables,
        "sections": [(name, list(members)) for name, members in groupby(variables, key=lambda v: v.section)],
        "sizes": groups,
        "differing": differing(groups),
        "memory_assumed": workload.memory_is_assumed
        and "systemd.MemoryMax" not in project.environments[name].overrides,
        "watched": any(map(_is_watched, every_plan)),
        "gevent": any(plan.value("gunicorn.worker_class") == "gevent" for plan in every_plan),
    }
    names = {"__app__": project.application.name, "__environment__": name}
    files = render_tree(source / "role", context, names, f"roles/{role}")
    tasks = b"".join(content for path, content in files.items() if "/tasks/" in path)
    for module in sorted((PACKAGE / "ansible/modules").glob("farrier_*.py")):
        if f"{module.stem}:".encode() in tasks:
            files[f"roles/{role}/library/{module.name}"] = module.read_bytes()
    for shared in sorted((PACKAGE / "ansible/module_utils").glob("farrier_*.py")):
        files[f"roles/{role}/module_utils/{shared.name}"] = shared.read_bytes()
    files |= render_tree(source / "playbooks", context, names, "playbooks")
    files |= render_tree(source / ".config", context, names, ".config")
    for scenario in tested:
        in_scenario = context | {"scenario": _scenario_context(scenario, project.environments[name])}
        files |= render_tree(source / "molecule", in_scenario, names | {"__scenario__": scenario.name}, "molecule")
        directory = f"molecule/{scenario.name}"
        files[f"{directory}/plan.json"] = json_document(plans_document(name, scenario.plans))
        files[f"{directory}/expect.json"] = json_document(_expectations(project, name))
    return files


def _is_watched(plan: Plan) -> bool:
    """Whether a watchdog monitors the workers of a host."""
    return plan.value("gunicorn.worker_class") == "gthread" and plan.value("farrier.watchdog_timeout") != 0


def _context(project: Project, name: str) -> dict[str, object]:
    environment = project.environments[name]
    role = project.role(name)
    return {
        "systems": RELEASES,
        "prefix": role,
        "role": role,
        "app": application_context(project, environment),
        "environment": {
            "name": name,
            "inventory": environment.inventory,
            "domains": [environment.domain, *environment.aliases],
            "hosts_pattern": environment.group,
            "tls": environment.tls.model_dump() if environment.tls else None,
            "release_header": environment.release_header,
            "metrics_directory": environment.metrics_directory,
        },
    }


def application_context(project: Project, environment: Environment) -> dict[str, object]:
    """What templates know about the application in an environment."""
    app = project.application
    return {
        "name": app.name,
        "wsgi": app.wsgi,
        "requirements": app.requirements,
        "source": {"kind": "git" if app.is_git else "directory", "location": app.source, "ref": app.ref},
        "own": own_paths(project),
        "static": app.static.model_dump() if app.static else None,
        "migrate": app.migrate,
        "health_path": app.health_path,
        "environment": app.environment | environment.environment,
        "secrets": app.secrets,
    }


def own_paths(project: Project) -> list[str]:
    """Paths that Farrier and Ansible read and write in a project; not part of a release, even if the source contains them."""
    found = {
        "farrier.yml",
        ".cache/hosts",
        ".farrier",
        ".config/molecule",
        "molecule/shared",
        "playbooks/group_vars",
        "playbooks/host_vars",
    }
    found |= {f"molecule/{scenario}" for scenario in [*project.environments, *project.scenarios]}
    for name, environment in project.environments.items():
        beside = PurePosixPath(environment.inventory).parent
        found |= {
            environment.inventory,
            str(beside / "group_vars"),
            str(beside / "host_vars"),
            f"roles/{project.role(name)}",
        }
        found |= {f"playbooks/{name}{kind}.yml" for kind in ("", "-rollback", "-status")}
        found |= {f"facts/{name}", f"workloads/{name}.yml", f"loadtests/{name}"}
    return sorted(found)


def _scenario_context(scenario: TestScenario, environment: Environment) -> dict[str, object]:
    return {
        "groups": list(environment.groups),
        "name": scenario.name,
        "system": scenario.system,
        "hosts": [asdict(host) for host in scenario.hosts],
    }


def _expectations(project: Project, name: str) -> dict[str, object]:
    """What the scenario's tests know besides the plan."""
    environment, app = project.environments[name], project.application
    return {
        "app": app.name,
        "domain": environment.domain,
        "health_path": app.health_path,
        "static": app.static.model_dump(include={"url", "directory"}) if app.static else None,
        "user": app.name,
        "release_root": f"/srv/{app.name}",
        "tls": environment.tls is not None,
        "release_header": environment.release_header,
        "metrics_directory": environment.metrics_directory,
        "secrets": app.secrets,
    }
