"""The hosts that several modules look at."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployed import Deployed, deployed
from faults import OVERRIDES as FAULT_OVERRIDES
from faults import REST_SECONDS, SETTLE_SECONDS, Stage, write_release
from faults import WORKLOAD as FAULT_WORKLOAD
from impatient import OVERRIDES, WORKLOAD
from known_cost import COST, ask_for_it
from load import load
from operated import prepare
from testbed import DOMAIN


@pytest.fixture(scope="session", params=["sync", "gthread"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The impatient environment with each kind of worker; the one with threads is what an operator looks at, too."""
    if request.param == "gthread":
        yield request.getfixturevalue("operated")
        return
    with deployed("impatient-sync", tmp_path_factory.mktemp("sync"), WORKLOAD, OVERRIDES["sync"]) as running:
        yield running


@pytest.fixture(scope="session")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """The impatient environment with threads, and with all that an operator can switch on."""
    project: Path = tmp_path_factory.mktemp("operated")
    with deployed("operated", project, WORKLOAD, OVERRIDES["gthread"], prepare=prepare) as running:
        yield running


def write_first_release(stack: Deployed) -> None:
    write_release(stack.project)


@pytest.fixture(scope="session")
def known_cost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A page whose cost is known beforehand, to be measured and to be loaded."""
    project: Path = tmp_path_factory.mktemp("known-cost")
    with deployed("known-cost", project, COST, {}, prepare=ask_for_it) as running:
        yield running


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The host of the fault suite."""
    root: Path = tmp_path_factory.mktemp("faults")
    with deployed("faults", root / "project", FAULT_WORKLOAD, FAULT_OVERRIDES, 1024, write_first_release) as stack:
        stage = Stage(stack, root / "answers")
        stage.deploy("# both slots have been used")
        stage.settled()
        with load(stage.port, DOMAIN, stage.answers) as running:
            time.sleep(REST_SECONDS)
            stage.rest = running.stop()
        stage.rest.require_none_lost()
        yield stage


@pytest.fixture
def rested(stage: Stage) -> None:
    """Each fault happens to a host as it was planned, and recovered from the one before."""
    stage.mutation, stage.patience_seconds = "", SETTLE_SECONDS
    try:
        stage.settled()
    except AssertionError:  # that test has failed; this one need not
        stage.repair()
