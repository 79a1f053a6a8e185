"""The hosts that several modules look at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed, deployed
from impatient import OVERRIDES, WORKLOAD
from operated import prepare


@pytest.fixture(scope="session", params=["sync", "gthread"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The impatient environment, deployed once with each kind of worker."""
    worker_class: str = request.param
    project: Path = tmp_path_factory.mktemp(worker_class)
    with deployed(f"impatient-{worker_class}", project, WORKLOAD, OVERRIDES[worker_class]) as running:
        yield running


@pytest.fixture(scope="session")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The impatient environment with threads, and with all that an operator can switch on."""
    project: Path = tmp_path_factory.mktemp("operated")
    with deployed("operated", project, WORKLOAD, OVERRIDES["gthread"], prepare=prepare) as running:
        yield running
