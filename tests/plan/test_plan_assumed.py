"""What is only assumed must not bind: the memory of a worker that nobody has stated or measured."""

import pytest

from farrier.plan.what_if import explain
from farrier.project.workload import Workload
from planned import ORDINARY, host, pair, plan

MB = 1024 * 1024
UNKNOWN = Workload()


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "chosen", "switch", "maximum_mb", "high_mb"),
    [
        # 35 + 3 x (80 + 4 x 0.5) = 281 MB; 3 x 281 = 843 of (3,936 - 394 - 32) / 2 = 1,755, in steps of 64: 1,728.
        (2, 3936, (3, 4), "overlap", 1728, 1555),
        # 35 + 2 x (80 + 3 x 0.5) = 198 MB; 3 x 198 = 594 of (1,024 - 103 - 16) / 2 = 452, but of 905, in steps of 32: 896.
        (1, 1024, (2, 3), "stop-start", 896, 806),
        # 3 x 198 do not fit into 512 - 64 - 16 = 432 MB either, but 3 x (35 + 80 + 5 x 0.5) = 352.5 do.
        (1, 512, (1, 5), "stop-start", 432, 388),
        # 3 x 118 do not fit at all: what fits once, with all there is.
        (1, 256, (1, 5), "stop-start", 176, 158),
    ],
)
def test_a_slot_gets_what_the_host_can_spare(
    cpus: float, memory_mb: int, chosen: tuple[int, int], switch: str, maximum_mb: int, high_mb: int
) -> None:
    found = plan(host(cpus, memory_mb), UNKNOWN)
    assert pair(found) == chosen
    assert found.value("farrier.switch") == switch
    assert found.value("systemd.MemoryMax") == maximum_mb * MB
    assert found.value("systemd.MemoryHigh") == high_mb * MB


def test_an_application_of_219_mb_a_worker_fits_where_the_host_has_room() -> None:
    """Nothing is known of it; on a host of 1 GB its two workers take some 500 MB."""
    found = plan(host(1, 1024), UNKNOWN)
    assert int(found.value("gunicorn.workers")) * 219 + 65 < int(found.value("systemd.MemoryMax")) / MB
    known = plan(host(1, 1024), ORDINARY)
    assert known.value("systemd.MemoryMax") == 396 * MB, "twice the need, where it is known"


def test_the_plan_says_what_it_assumes_and_what_follows() -> None:
    found = plan(host(1, 1024), UNKNOWN)
    assert found.settings["systemd.MemoryMax"].reason == (
        "The 198 MB of a slot are assumed, and an assumption must not kill: all that the host can spare (1,024 MB usable - 103 "
        "MB reserve - 16 MB for NGINX = 905 MB)."
    )
    assert found.settings["farrier.switch"].reason == (
        "The 198 MB of a slot are assumed: two that take 3 x as much would not fit into the 905 MB left for Gunicorn, so the old "
        "one stops first while the queue holds the requests."
    )
    assert found.warnings[0] == (
        "as memory is assumed, slots do not overlap: during a deploy requests wait in the queue until the old slot has ended "
        "its last ones, and for about 3 s of boot"
    )
    assert found.warnings[-1] == (
        "the memory of a worker is assumed, not measured: 80 MB; a slot may take up to 896 MB, what the host can spare; measure "
        "it: farrier measure"
    )
    overlap = plan(host(), UNKNOWN).settings
    assert overlap["farrier.switch"].reason == (
        "Two slots fit into the 3,510 MB left for Gunicorn even if one takes 3 x the 281 MB assumed, so the new release starts "
        "beside the old one."
    )
    assert "half of all that the host can spare" in overlap["systemd.MemoryMax"].reason
    few = plan(host(1, 512), UNKNOWN).settings["gunicorn.workers"].reason
    assert few.endswith("= 118 MB, which is assumed, with room for 3 x as much.")


def test_an_operators_limit_or_switch_is_taken() -> None:
    found = plan(host(1, 1024), UNKNOWN, {"farrier.switch": "overlap"})
    # 3 x (35 + 80 + 5 x 0.5) = 352.5 of 452 MB, in steps of 16: 448.
    assert (pair(found), found.value("systemd.MemoryMax")) == ((1, 5), 448 * MB)
    assert not [warning for warning in found.warnings if "do not overlap" in warning]
    limited = plan(host(1, 1024), UNKNOWN, {"systemd.MemoryMax": 400 * MB})
    assert (pair(limited), limited.value("farrier.switch")) == ((2, 3), "overlap")
    assert not [warning for warning in limited.warnings if "the memory of a worker" in warning]


def test_the_derivation_says_the_same() -> None:
    found = plan(host(1, 1024), UNKNOWN, {})
    switch, maximum = (each.working for each in explain(found, ["farrier.switch", "systemd.MemoryMax"]))
    assert switch.steps == ("a o S = 1,188 MB do not fit into M = 905 MB",)
    assert maximum.steps == ("M / o = 905 MB / 1 = 905 MB", "896 MB = 939,524,096 bytes")
