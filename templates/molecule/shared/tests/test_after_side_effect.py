"""What survives a reboot of the host, and what a changed number does; each test waits for its side effect."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from living import Living


def test_a_reboot_brings_back_the_slot_and_the_release_of_before(living: Living) -> None:
    stack = living.stack
    put_there = datetime.fromisoformat(living.slot["record"]["since"]).timestamp()
    if put_there > stack["now"] - stack["booted_seconds_ago"]:
        pytest.skip("the host has not been rebooted since it was deployed to")
    other = "b" if stack["active"] == "a" else "a"
    assert stack["slots"][other]["unit"]["ActiveState"] == "inactive"
    assert living.slot["main"]["directory"].endswith(f"/{living.slot['record']['release']}")
    (page,) = living.ask({"path": living.expect["health_path"]})
    assert page.status == 200, page


def test_a_changed_number_of_workers_runs_in_a_slot_started_for_it(living: Living, changed: Mapping[str, Any]) -> None:
    if "gunicorn.workers" not in changed:
        pytest.skip("the number of workers has not been changed")
    assert len(living.workers) == changed["gunicorn.workers"]
    other = living.stack["slots"]["b" if living.stack["active"] == "a" else "a"]
    assert other["unit"]["ActiveState"] == "inactive"
    assert other["workers"] == []
    # Both serve one release: what changed is how it is run.
    assert other["record"]["release"] == living.slot["record"]["release"]
