"""A page of the example application whose cost is known, and a project that is changed between commands."""

from pathlib import Path
from typing import Any

import yaml

import testbed
from deployed import Deployed
from testbed import ENVIRONMENT

URL = "/work/?cpu_ms=20&wait_ms=30"
COST = {"cpu_seconds": 0.02, "wait_seconds": 0.03, "latency_p95_seconds": 0.5}


def ask_for_it(stack: Deployed) -> None:
    """The page is what its visitors ask for."""
    change(stack.project, urls={URL: 1})


def change(project: Path, workload: dict[str, Any] | None = None, **application: Any) -> None:
    """Changes the application in the project file, or the environment's workload."""
    path = project / "farrier.yml"
    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    description["application"] |= application
    if workload is not None:
        description["environments"][ENVIRONMENT]["workload"] = workload
    testbed.write_yaml(path, description)
