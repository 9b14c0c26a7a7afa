"""Policies for rewards that drift: what they forget, and when."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from handmade import context, one_round, stream

from metasd.policies import make

K, G = 4, 4


def windowed(history, window):
    kept = history[-window:]
    t = len(kept)
    out = []
    for arm in range(K):
        x = [r for a, r in kept if a == arm]
        out.append(sum(x) / len(x) + 0.05 * math.sqrt(2 * math.log(t) / len(x)) if x else math.nan)
    return out


def discounted(history, gamma):
    weights = [gamma ** (len(history) - 1 - i) for i in range(len(history))]
    n = [sum(w for w, (a, _) in zip(weights, history, strict=True) if a == arm) for arm in range(K)]
    total = [sum(w * r for w, (a, r) in zip(weights, history, strict=True) if a == arm) for arm in range(K)]
    return [total[i] / n[i] + 0.05 * math.sqrt(2 * math.log(sum(n)) / n[i]) for i in range(K)]


@pytest.mark.parametrize(
    ("spec", "formula"),
    [
        ("sliding-window-ucb:window=30", lambda h: windowed(h, 30)),
        ("discounted-ucb:gamma=0.9", lambda h: discounted(h, 0.9)),
    ],
)
def test_forgetting_index_sequences(bench, spec, formula):
    pool, plays = bench.pool(K, plain=False), stream(3)
    policy = bench.bound(make(spec + ",reward=block_efficiency"), pool, bench.keys(1))
    history = []
    for t, play in enumerate(plays, 1):
        policy.update(one_round(pool, *play))
        history.append((play[0], play[1] / G))
        if t >= K:
            wanted = formula(history)
            with np.errstate(divide="ignore", invalid="ignore"):
                index = policy.index(context(pool))[0]
            np.testing.assert_array_equal(policy.n[0] == 0, np.isnan(wanted))
            np.testing.assert_allclose(np.where(np.isnan(wanted), np.nan, index), wanted, atol=1e-9)


def test_glr_restarts_soon_after_a_change_and_not_before(bench):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make("glr-ucb:reward=block_efficiency"), pool, bench.keys(1))
    for _ in range(60):
        policy.update(one_round(pool, 0, 4))
    assert policy.n[0, 0] == 60
    delays = 0
    while policy.n[0, 0] > 0:
        policy.update(one_round(pool, 0, 0))
        delays += 1
    assert 2 <= delays <= 15


def test_glr_statistic_equals_the_definition(bench):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make("glr-ucb:reward=block_efficiency,memory=40,delta=1e-9"), pool, bench.keys(1))
    rng, x = np.random.default_rng(3), []

    def kl(p, q):
        return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)

    for t in range(90):
        x.append(int(rng.integers(0, 5) if t < 60 else rng.integers(2, 5)))
        policy.update(one_round(pool, 0, x[-1]))
        kept = [v / 4 for v in x[-40:]]
        m, mean = len(kept), sum(kept) / len(kept)
        if t < 5:
            continue  # nothing to split yet, or all equal
        top = max(s * kl(np.mean(kept[:s]), mean) + (m - s) * kl(np.mean(kept[s:]), mean) for s in range(1, m))
        for slack in (1e-6, -1e-6):
            policy.delta = 3 * m**1.5 / math.exp(top - slack)
            assert policy.changed(np.array([0]), np.array([0]))[0] == (slack > 0)
        policy.delta = 1e-9


def test_glr_index_equals_the_formula_while_nothing_changes(bench):
    pool, rng, beta = bench.pool(3, plain=False), random.Random(10), 0.3
    policy = bench.bound(make(f"glr-ucb:beta={beta},delta=1e-9,reward=block_efficiency"), pool, bench.keys(1))
    seen = [[], [], []]
    for t in range(1, 101):
        arm = (t - 1) % 3 if t < 10 else rng.randrange(3)
        accepted = sum(1 for _ in range(4) if rng.random() < (0.4, 0.6, 0.5)[arm])
        policy.update(one_round(pool, arm, accepted))
        seen[arm].append(accepted / 4)
        if t >= 3:
            wanted = [sum(x) / len(x) + beta * math.sqrt(2 * math.log(t) / len(x)) for x in seen]
            np.testing.assert_allclose(policy.index(context(pool))[0], wanted, rtol=0, atol=1e-12)


def test_glr_plays_every_arm_in_turn_at_its_forced_times(bench):
    """3 arms, explore 0.1: of every 30 rounds the first three are forced, one for each arm; no reward ever changes."""
    pool = bench.pool(3, plain=False)
    policy = bench.bound(make("glr-ucb:beta=0,explore=0.1,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for _ in range(90):
        arm = int(policy.select(context(pool))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 4, 2)[arm]))
    assert played == ([0, 1, 2] + [1] * 27) * 3
