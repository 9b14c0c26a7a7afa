"""The counter-based streams: independent of company, uniform, stable."""

from __future__ import annotations

import numpy as np
from scipy import stats

from metasd.core.noise import LaneNoise, key, uniform_at


def test_a_lane_draws_the_same_alone_and_in_company() -> None:
    keys = np.array([key(0, i) for i in range(5)])
    many, alone = LaneNoise(5), LaneNoise(1)
    many.begin(np.arange(5), keys)
    alone.begin(np.array([0]), keys[3:4])
    for n in (1, 3, 2):
        assert np.array_equal(many.uniform(n)[3], alone.uniform(n)[0])


def test_keys_are_stable_across_machines() -> None:
    assert int(key(1, "text", 2)) == 11224649081633530327
    assert len({int(key(s, p)) for s in range(20) for p in "abcdefgh"}) == 160


def test_uniforms_are_uniform_and_uncorrelated_between_neighbouring_counters_and_keys() -> None:
    """Kolmogorov-Smirnov at 1e-7 on 200,000 draws, and correlations within 5.5 standard errors (4e-8 each)."""
    keys = np.array([key(7, i) for i in range(100)])
    u = uniform_at(keys[:, None], np.arange(2000)[None, :])
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-7
    for a, b in ((u[:, 1:], u[:, :-1]), (u[1:], u[:-1])):
        r = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(r) < 5.5 / np.sqrt(a.size)
