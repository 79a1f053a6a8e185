"""What every test of a running host can ask for: the host, its plan, and what the generator knows of it."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from living import Living
from testinfra.utils.ansible_runner import AnsibleRunner


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every test that looks at a host against each host of the scenario."""
    if "instance" in metafunc.fixturenames:
        metafunc.parametrize("instance", _runner().get_hosts(), scope="session")


@pytest.fixture(scope="session")
def scenario() -> Path:
    """The scenario's directory."""
    return Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


@pytest.fixture(scope="session")
def host(instance: str) -> Any:
    """The host as Testinfra sees it, over SSH."""
    return _runner().get_host(instance)


@pytest.fixture(scope="session")
def expect(scenario: Path) -> Mapping[str, Any]:
    """What is to be expected of the application itself: its domain, paths and user."""
    return _json(scenario / "expect.json")


@pytest.fixture(scope="session")
def changed(instance: str) -> Mapping[str, Any]:
    """Settings that a side effect has given another value than the planned one."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / f"{instance}.changed.json"
    return _json(path) if path.exists() else {}


@pytest.fixture(scope="session")
def plan(scenario: Path, instance: str, changed: Mapping[str, Any]) -> Mapping[str, Any]:
    """The host's part of the plan, with the values that must be in force by now."""
    planned = _json(scenario / "plan.json")["hosts"][instance]
    settings = {
        name: setting | {"value": changed.get(name, setting["value"])} for name, setting in planned["settings"].items()
    }
    return {**planned, "settings": settings}


@pytest.fixture(scope="module")
def living(host: Any, expect: Mapping[str, Any]) -> Living:
    """The host looked at from inside; each test module looks anew."""
    return Living(host, expect)


@cache
def _runner() -> AnsibleRunner:
    """What Ansible knows of the hosts; asked once, because each answer takes it half a second."""
    return AnsibleRunner(os.environ["MOLECULE_INVENTORY_FILE"])


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
