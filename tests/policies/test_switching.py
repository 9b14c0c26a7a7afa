"""Policies that switch seldom, against scalar code written from their papers."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from handmade import context, one_round, uniforms

from metasd.policies import make
from metasd.policies.switching import tsallis


def test_ucb2_plays_in_the_blocks_of_its_paper(bench):
    """Each block of an arm lasts tau(r + 1) - tau(r) rounds after its first trial."""
    pool, keys = bench.pool(3, plain=False), bench.keys(1)
    policy = bench.bound(make("ucb2:alpha=0.5"), pool, keys)
    played = bench.drive(policy, bench.World(pool, [0.3, 0.8, 0.6], keys), 400)[:, 0]
    cuts = np.flatnonzero(np.diff(played)) + 1
    runs = [(int(r[0]), len(r)) for r in np.split(played, cuts)]
    assert runs[:3] == [(0, 1), (1, 1), (2, 1)]
    tau = [math.ceil(1.5**r) for r in range(40)]
    at = {0: 0, 1: 0, 2: 0}
    for arm, length in runs[3:-1]:
        begin = at[arm]
        while length > 0:
            length -= max(tau[at[arm] + 1] - tau[at[arm]], 1)
            at[arm] += 1
        assert length == 0
        assert at[arm] > begin
    assert len(runs) < 60


def test_ucb2_equals_scalar_code(bench):
    """Arm by arm for 300 rounds: mean + sqrt((1 + alpha) ln(e t / tau(r)) / (2 tau(r))), blocks as in figure 2."""
    pool, rng, alpha = bench.pool(3, plain=False), random.Random(4), 0.5
    policy = bench.bound(make("ucb2:alpha=0.5,reward=block_efficiency"), pool, bench.keys(1))
    seen, blocks, arm, left, t = [[], [], []], [0, 0, 0], 0, 0, 0

    def tau(r):
        return math.ceil((1 + alpha) ** r)

    def index(k):
        had = tau(blocks[k])
        return sum(seen[k]) / len(seen[k]) + math.sqrt((1 + alpha) * math.log(math.e * t / had) / (2 * had))

    for t in range(300):
        if t < 3:
            arm, left = t, 1
        elif left == 0:
            arm = max(range(3), key=index)
            left = max(tau(blocks[arm] + 1) - tau(blocks[arm]), 1)
            blocks[arm] += 1
        assert policy.select(context(pool)).tolist() == [arm], t
        left -= 1
        accepted = sum(1 for _ in range(4) if rng.random() < (0.5, 0.65, 0.6)[arm])
        seen[arm].append(accepted / 4)
        policy.update(one_round(pool, arm, accepted))
    assert min(blocks) > 2


def test_tsallis_switch_equals_scalar_code(bench):
    """Arm by arm for 300 rounds: blocks, rates, and losses over the probability their block was drawn with."""
    pool, keys, rng, K, price = bench.pool(3, plain=False), bench.keys(1), random.Random(5), 3, 0.5
    policy = bench.bound(make(f"tsallis-switch:price={price},reward=block_efficiency"), pool, keys)
    losses, m, left, arm, p, within, u = [0.0] * K, 0, 0, 0, [1.0] * K, 0.0, uniforms(keys[0])

    def weights(rate):
        low, high = min(losses) - 2 * math.sqrt(K) / rate, min(losses) - 2 / rate
        for _ in range(200):
            x = (low + high) / 2
            low, high = (x, high) if sum(4 / (rate * (loss - x)) ** 2 for loss in losses) < 1 else (low, x)
        return [4 / (rate * (loss - x)) ** 2 for loss in losses]

    for t in range(300):
        uniform = next(u)
        if left == 0:
            losses[arm] += within / p[arm]
            within, m = 0.0, m + 1
            length = 1.5 * price * math.sqrt(m / K)
            p = weights(2 * math.sqrt(2 / m) / (length + 1))
            arm = next(k for k in range(K) if sum(p[: k + 1]) >= uniform * sum(p))
            left = max(math.ceil(length), 1)
        assert policy.select(context(pool)).tolist() == [arm], t
        assert policy.p[0] == pytest.approx(p[arm], abs=1e-9)
        left -= 1
        accepted = sum(1 for _ in range(4) if rng.random() < (0.5, 0.7, 0.6)[arm])
        within += 1 - accepted / 4
        policy.update(one_round(pool, arm, accepted))


def test_tsallis_weights_solve_their_equation():
    loss = np.array([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0], [0.0, 300.0, 9.0]])
    allowed = np.array([[True] * 3, [True] * 3, [False, True, True]])
    rate = np.array([0.5, 1.0, 0.1])
    p = tsallis(loss, allowed, rate)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p[2, 0] == 0
    np.testing.assert_allclose(p[1], 1 / 3)
    for row in range(3):
        x = [loss[row, i] - 2 / (rate[row] * math.sqrt(p[row, i])) for i in range(3) if p[row, i] > 0]
        np.testing.assert_allclose(x, x[0], rtol=1e-6, atol=1e-6)  # one x for all arms


def test_tsallis_switches_less_when_a_switch_costs_more(bench):
    pool, keys = bench.pool(3, plain=False), bench.keys(8)
    switches = []
    for price in (0, 1, 4):
        policy = bench.bound(make(f"tsallis-switch:price={price}"), pool, keys)
        played = bench.drive(policy, bench.World(pool, [0.5, 0.6, 0.4], keys), 200)
        switches.append(int((np.diff(played, axis=0) != 0).sum()))
    assert switches[0] > 2 * switches[1] > 3 * switches[2]


def test_ucb2_resumes_a_block_that_was_cut_short(bench):
    """An arm that comes and goes must not climb through its blocks without playing them."""
    pool, keys = bench.pool(), bench.keys(3)
    policy = bench.bound(make("ucb2"), pool, keys)
    bench.drive(policy, bench.World(pool, [0.7, 0.5, 0.3], keys, shows=[0.5, 1.0, 1.0]), 300)
    assert (policy.n >= policy.tau(policy.blocks) - policy.left - 1).all()
