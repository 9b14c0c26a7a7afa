"""Policies that count seconds."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import context, one_round

from metasd.core.errors import UsageError
from metasd.policies import make


def test_goodput_weighs_length_against_cost(bench):
    pool = bench.pool(1, lengths=(1, 2, 4))
    policy = bench.bound(make("goodput"), pool, bench.keys(1))
    policy.accepted[:], policy.judged[:] = 6.4, 1.6  # with the prior, a = (6.4 + 1.6) / (6.4 + 1.6 + 2) = 0.8
    cost = np.array([[1.2, 1.3, 2.5, 1.0]])
    a = 0.8
    wanted = [(1 + a) / 1.2, (1 + a + a**2) / 1.3, (1 - a**5) / (1 - a) / 2.5, 1.0]
    np.testing.assert_allclose(policy.index(context(pool, cost=cost))[0], wanted)
    assert policy.select(context(pool, cost=cost))[0] == 1
    assert policy.select(context(pool, cost=cost, remaining=1))[0] == 3  # no room to draft: plain is cheapest


def test_ratio_ucb_prefers_tokens_per_second_and_counts_catch_up(bench):
    """Arm 0: 3 tokens in 1 s; arm 1: 4 tokens in 2 s; arm 2: 3 tokens in 0.9 s, unless it must catch up at length."""
    pool = bench.pool(3, plain=False)
    policy = bench.bound(make("ratio-ucb:beta=0,stay=4"), pool, bench.keys(1))
    cheap = np.array([[1.0, 2.0, 0.9]])
    tokens, seconds = (2, 3, 2), (1.0, 2.0, 0.9)
    for _ in range(3):
        arm = int(policy.select(context(pool, cost=cheap))[0])
        policy.update(one_round(pool, arm, tokens[arm], seconds=seconds[arm]))
    assert policy.gained[0] / policy.spent[0] == pytest.approx(10 / 3.9)

    def choice(catch_up):
        return int(policy.select(context(pool, cost=np.add(cheap, [[0, 0, catch_up]])))[0])

    assert [choice(c) for c in (0.0, 0.3, 0.5)] == [2, 2, 0]  # a fourth of the catch-up counts
    assert policy.select(context(pool))[0] == 2  # learned from its rounds


@pytest.mark.parametrize("name", ["ratio-ucb", "goodput"])
def test_seconds_without_a_clock_are_refused(bench, name):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make(name), pool, bench.keys(1))
    with pytest.raises(UsageError, match="clock"):
        policy.update(one_round(pool, int(policy.select(context(pool))[0]), 2))
    with pytest.raises(UsageError, match=r"stay 0\.5"):
        make(f"{name}:stay=0.5")
