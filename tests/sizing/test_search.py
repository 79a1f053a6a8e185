"""How the comparison of sizes finds the highest rate at which an objective holds."""

import pytest

from sizing.search import Probe, highest


def search(limit: float, start: float, refine: int, low: float = 0.0) -> tuple[float, list[float]]:
    """What is found of an application that holds up to `limit`, and which rates were tried."""
    tried: list[float] = []

    def probe(rate: float) -> Probe:
        tried.append(round(rate, 2))
        return Probe(rate, 0.0, rate <= limit)

    return highest(probe, start, refine, low), tried


def test_upwards_until_one_does_not_hold() -> None:
    # Steps of 12 %: 112 holds, 125.44 does not; their geometric mean is 118.53.
    found, tried = search(120, 100, 1)
    assert tried == [100, 112, 125.44, 118.53]
    assert found == pytest.approx(118.53, abs=0.01)
    assert search(120, 100, 0)[1] == [100, 112, 125.44]


def test_downwards_in_growing_steps_for_a_guess_far_off() -> None:
    # 100, then / 1.12, / 1.12^2 and / 1.12^4.
    found, tried = search(50, 100, 0)
    assert tried == [100, 89.29, 71.18, 45.23]
    assert found == pytest.approx(45.23, abs=0.01)


def test_a_rate_that_is_known_to_hold_is_not_tried_again() -> None:
    assert search(97, 100, 0, low=95) == (95, [100])


def test_an_application_that_holds_nothing_carries_nothing() -> None:
    found, tried = search(0, 100, 1)
    assert found == 0
    assert len(tried) == 9
