"""Factors learned from rounds: a stall does not move them, a machine that really changed does."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.correction import HEAD, WINDOW, Corrections, Factor

from .test_costs import MODEL


def ratios(seed: int, rounds: int, drift: float) -> np.ndarray:
    """Rounds within some 5 % of ``drift`` times what was expected, 1 in 20 of them stalled: ten times as long."""
    rng = np.random.default_rng(seed)
    return drift * rng.uniform(0.95, 1.05, rounds) * np.where(rng.random(rounds) < 0.05, 10.0, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_stalls_do_not_spoil_a_factor_and_a_drift_is_found(seed: int) -> None:
    """False alarm: 17 of 33 ratios stalled, below 1e-12 a window."""
    factor = Factor()
    for ratio in ratios(seed, 200, 1.0):
        factor.see(ratio, 1.0)
        assert factor.value == pytest.approx(1.0, rel=0.1)
    found = []
    for ratio in ratios(seed + 100, 100, 1.5):
        factor.see(ratio, 1.0)
        found.append(factor.value)
    assert found[WINDOW:] == pytest.approx([1.5] * (100 - WINDOW), rel=0.1)


def test_the_first_rounds_say_little() -> None:
    factor = Factor()
    for _ in range(HEAD - 1):
        factor.see(10.0, 1.0)
        assert factor.value == 1.0
    factor.see(1.0, 0.0)
    assert factor.value == 1.0


def test_each_part_is_corrected_by_its_own_factor() -> None:
    corrections = Corrections(MODEL)
    for _ in range(WINDOW):
        corrections.see(1, (4.0, 2.0), (1.5, 1.0))
    for _ in range(WINDOW):
        corrections.see(-1, (9.0, 1.0), (3.0, 2.0))
    now, one, m = corrections.now, np.array(0), np.array(1)
    assert corrections.to_json() == {"verify": 1.5, "drafters": {"a": 1.0, "m": 2.0}}
    for drafted in range(4):
        width, context = np.array(drafted), np.array(300)
        assert now.verify(width, context) == pytest.approx(1.5 * MODEL.verify(width, context))
        assert now.draft(m, width) == pytest.approx(2 * MODEL.draft(m, width))
        assert now.catch_up(m, width) == pytest.approx(2 * MODEL.catch_up(m, width))
        assert now.draft(one, width) == MODEL.draft(one, width)
