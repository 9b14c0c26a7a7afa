"""Contextual policies, linear in the signals."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import context, one_round

from metasd.core.signals import INDEX, SIGNALS, F
from metasd.policies import make
from metasd.policies.linear import features


def test_features_are_finite_and_bounded():
    assert set(INDEX) == set(SIGNALS)
    wild = np.array([[np.nan] * F, [1e6] * F, [-5.0] * F, [0.5] * F], np.float32)
    x = features(wild)
    assert x.shape == (4, F + 1)
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    assert (x <= 1).all()
    np.testing.assert_array_equal(x[0], [0] * F + [1])
    np.testing.assert_array_equal(x[1], 1)


def test_linucb_equals_ridge_regression(bench):
    pool, rng = bench.pool(2), np.random.default_rng(1)
    policy = bench.bound(make("linucb:alpha=0.3,ridge=2,reward=block_efficiency"), pool, bench.keys(1))
    data = {arm: ([], []) for arm in range(3)}
    for t in range(60):
        signals = rng.random((1, 2, F)) * 3
        if t % 5 == 0:
            signals[0, 1] = np.nan
        arm = int(policy.select(context(pool, signals=signals))[0])
        accepted = int(rng.integers(0, 5)) if arm < 2 else 0
        data[arm][0].append(np.eye(F + 1)[-1] if arm == 2 else features(signals)[0, arm])
        data[arm][1].append(accepted / 4)
        policy.update(one_round(pool, arm, accepted))
    signals = rng.random((1, 2, F))
    policy.select(context(pool, signals=signals))
    for arm, (x, y) in data.items():
        now = np.eye(F + 1)[-1] if arm == 2 else features(signals)[0, arm]
        a = 2 * np.eye(F + 1) + np.array(x).T @ np.array(x)
        wanted = now @ np.linalg.solve(a, np.array(x).T @ np.array(y)) + 0.3 * np.sqrt(now @ np.linalg.solve(a, now))
        assert policy.index(context(pool))[0, arm] == pytest.approx(wanted, abs=1e-9)


def test_linucb_learns_to_follow_a_signal(bench):
    """Arm 0 is good exactly when its hit_fast is high; arm 1 is always middling."""
    pool, rng = bench.pool(2, plain=False), np.random.default_rng(2)
    policy = bench.bound(make("linucb:reward=block_efficiency"), pool, bench.keys(1))
    right = []
    for _ in range(300):
        signals = np.full((1, 2, F), np.nan)
        good = bool(rng.random() < 0.5)
        signals[0, 0, INDEX["hit_fast"]] = 0.9 if good else 0.1
        arm = int(policy.select(context(pool, signals=signals))[0])
        right.append((arm == 0) == good)
        policy.update(one_round(pool, arm, (4 if good else 0) if arm == 0 else 2))
    assert np.mean(right[200:]) > 0.95  # 100 fair coins: probability below 1e-20
