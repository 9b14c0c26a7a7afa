"""Exponential weights against scalar code, step by step."""

from __future__ import annotations

import math

import numpy as np
from handmade import context, one_round, stream

from metasd.policies import make

K, G = 4, 4


def test_exp3_and_exp3spec_probabilities(bench):
    """p ~ exp(-eta_t sum of losses / p) with eta_t = sqrt(ln K / (t K)), step by step."""
    pool, plays = bench.pool(K, plain=False), stream(4)
    for name, loss_of in (
        ("exp3:reward=block_efficiency", lambda a: 1 - a / G),
        ("exp3spec", lambda a: (G + 1 - (a + 1)) / G),
    ):
        policy, sums = bench.bound(make(name), pool, bench.keys(1)), [0.0] * K
        for t, (_, accepted) in enumerate(plays, 1):
            arm = int(policy.select(context(pool))[0])
            eta = math.sqrt(math.log(K) / (t * K))
            weights = [math.exp(-eta * s) for s in sums]
            p = [w / sum(weights) for w in weights]
            np.testing.assert_allclose(policy.p[0], p, atol=1e-12)
            policy.update(one_round(pool, arm, accepted))
            sums[arm] += loss_of(accepted) / p[arm]


def test_exp3s_probabilities(bench):
    pool, plays, horizon, changes = bench.pool(K, plain=False), stream(5), 256, 2
    policy = bench.bound(make("exp3s:reward=block_efficiency"), pool, bench.keys(1))
    gamma = min(1, math.sqrt(K * ((1 + changes) * math.log(K * horizon) + math.e) / ((math.e - 1) * horizon)))
    w = [1.0] * K
    for _, accepted in plays:
        arm = int(policy.select(context(pool))[0])
        p = [(1 - gamma) * v / sum(w) + gamma / K for v in w]
        np.testing.assert_allclose(policy.p[0], p, atol=1e-12)
        policy.update(one_round(pool, arm, accepted))
        estimate = [accepted / G / p[arm] if i == arm else 0.0 for i in range(K)]
        total = sum(w)
        w = [v * math.exp(gamma * x / K) + math.e / horizon / K * total for v, x in zip(w, estimate, strict=True)]
