"""Full information: losses of whole drafts, and the weights made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from handmade import context, revealed

from metasd.policies import make
from metasd.policies.drawing import softmax
from metasd.policies.full import normal_hedge


def test_hedge_loss_is_the_expected_length_and_waits_for_the_frontier(bench):
    """The loss of the draft at s comes when s + G - 1 is committed, whatever the chunks, and equals the formula."""
    pool = bench.pool(2, lengths=(2, 4))
    rng = np.random.default_rng(0)
    table = rng.random((23, 2))
    table[5, 1] = np.nan  # no proposal
    policy = bench.bound(make("hedgespec"), pool, bench.keys(1))
    seen = []
    policy.absorb = lambda lanes, loss: seen.append((lanes.copy(), loss.copy()))
    committed = 0
    for chunk in (1, 3, 5, 2, 1, 1, 4, 5, 1):
        policy.observe(revealed(table[committed : committed + chunk], committed))
        committed += chunk
        assert sum(len(lanes) for lanes, _ in seen) == max(committed - bench.G + 1, 0)
    got = np.concatenate([loss for _, loss in seen])
    g = np.nan_to_num(table)
    for start, row in enumerate(got):
        for arm, (drafter, length) in enumerate([(0, 2), (0, 4), (1, 2), (1, 4), (0, 0)]):
            gammas = [*g[start : start + length, drafter], 0.0]
            expected = sum((k + 1) * (1 - gammas[k]) * math.prod(gammas[:k]) for k in range(length + 1))
            assert row[arm] == pytest.approx(1 - expected / (bench.G + 1), abs=1e-12)


def test_acceptance_score_is_one_minus_agreement_at_once(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec:score=acceptance"), pool, bench.keys(1))
    seen = []
    policy.absorb = lambda lanes, loss: seen.append(loss.copy())
    policy.observe(revealed([[0.25, 1.0], [0.5, np.nan]]))
    np.testing.assert_allclose(np.concatenate(seen), [[0.75, 0.0, 1.0], [0.5, 1.0, 1.0]])


def test_a_new_text_drops_drafts_that_began_in_the_last(bench):
    pool = bench.pool(2)
    for reset in ("prompt", "never"):
        policy = bench.bound(make("hedgespec"), pool, bench.keys(1), reset=reset)
        policy.observe(revealed(np.ones((3, 2))))
        policy.begin(np.array([0]), bench.keys(1))
        policy.observe(revealed(np.zeros((3, 2))))
        assert policy.t.tolist() == [0]
        policy.observe(revealed(np.zeros((1, 2)), 3))
        assert policy.t.tolist() == [1]
        np.testing.assert_allclose(policy.loss, 1 - 1 / (bench.G + 1))


def test_hedge_weights(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec"), pool, bench.keys(1))
    policy.loss[:], policy.t[:] = [[3.0, 1.0, 2.0]], 7
    eta = math.sqrt(8 * math.log(3) / 7)
    wanted = np.exp(-eta * np.array([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(softmax(policy.log_weights(), np.ones((1, 3), bool))[0], wanted / wanted.sum())


def test_normal_hedge_solves_its_equation():
    regret = np.array([[3.0, -1.0, 2.0, 0.5], [-1.0, -2.0, 0.0, -3.0], [0.1, 0.1, 0.1, 0.1]])
    weights = softmax(normal_hedge(regret), np.ones_like(regret, dtype=bool))
    assert weights[0, 1] == 0
    np.testing.assert_allclose(weights[1:], 0.25)
    lo, hi = 0.1, 100.0
    for _ in range(200):  # a scalar solution of the same equation
        c = (lo + hi) / 2
        lo, hi = (c, hi) if sum(math.exp(max(r, 0) ** 2 / (2 * c)) for r in regret[0]) / 4 > math.e else (lo, c)
    wanted = np.array([max(r, 0) / c * math.exp(max(r, 0) ** 2 / (2 * c)) for r in regret[0]])
    np.testing.assert_allclose(weights[0], wanted / wanted.sum(), atol=1e-9)


def test_normal_hedge_accumulates_the_regret_to_its_own_mixture(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec:weights=normalhedge,score=acceptance"), pool, bench.keys(1))
    policy.observe(revealed([[1.0, 0.0]]))
    np.testing.assert_allclose(policy.own_loss, [(0 + 1 + 1) / 3])
    assert policy.select(context(pool))[0] == 0  # only arm 0 has positive regret now: all weight on it
    policy.observe(revealed([[1.0, 0.0]], 1))
    np.testing.assert_allclose(policy.own_loss, [2 / 3])


def test_fixed_share_follows_a_change_faster_than_hedge(bench):
    pool = bench.pool(2, plain=False)
    share, hedge = (
        bench.bound(make(f"{n}:score=acceptance"), pool, bench.keys(1)) for n in ("fixed-share", "hedgespec")
    )
    for policy in (share, hedge):
        policy.observe(revealed(np.tile([1.0, 0.0], (60, 1))))
        policy.observe(revealed(np.tile([0.0, 1.0], (12, 1)), 60))
    allowed = np.ones((1, 2), bool)
    assert softmax(share.log_weights(), allowed)[0, 1] > 0.9
    assert softmax(hedge.log_weights(), allowed)[0, 1] < 0.1


def test_fixed_share_weights_equal_the_formula(bench):
    pool, rate, share = bench.pool(2), 0.7, 0.05
    policy = bench.bound(make(f"fixed-share:rate={rate},share={share},score=acceptance"), pool, bench.keys(1))
    agreement = np.random.default_rng(9).random((50, 2))
    w = [1 / 3] * 3
    for position, row in enumerate(agreement):
        policy.observe(revealed([row], position))
        w = [v * math.exp(-rate * (1 - g)) for v, g in zip(w, [*row, 0.0], strict=True)]  # plain agrees with nothing
        w = [(1 - share) * v / sum(w) + share / 3 for v in w]
        np.testing.assert_allclose(np.exp(policy.log_weights()[0]), w, rtol=1e-9)
