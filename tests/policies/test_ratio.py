"""Policies that count seconds."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from handmade import context, one_round

from metasd.core.errors import UsageError
from metasd.policies import make


def test_goodput_weighs_length_against_cost(bench):
    pool = bench.pool(1, lengths=(1, 2, 4))
    policy = bench.bound(make("goodput"), pool, bench.keys(1))
    policy.accepted[:], policy.rejected[:] = 6.4, 1.6  # with the prior, a = (6.4 + 1.6) / (6.4 + 1.6 + 2) = 0.8
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


@pytest.mark.parametrize("stalled", [4.1, 10.0, 1000.0])
def test_a_stall_says_nothing_of_its_arm(bench, stalled):
    """Arm 0: 3 tokens in 1 s, the first time in ``stalled``; arm 1 in 2 s, the first time in 8: no stall yet."""
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make("ratio-ucb:beta=0"), pool, bench.keys(1))
    cost, seconds = np.array([[1.0, 2.0]]), [[stalled, 8.0], [1.0, 2.0]]
    played = []
    for t in range(12):
        arm = int(policy.select(context(pool, cost=cost))[0])
        policy.update(one_round(pool, arm, 2, seconds=seconds[t > 1][arm]))
        played.append(arm)
    assert played == [0, 1] + [0] * 10
    assert policy.work[0].tolist() == [11.0, 8.0]
    assert policy.spent[0] == 19.0


@pytest.mark.parametrize("name", ["ratio-ucb", "goodput"])
def test_seconds_without_a_clock_are_refused(bench, name):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make(name), pool, bench.keys(1))
    with pytest.raises(UsageError, match="clock"):
        policy.update(one_round(pool, int(policy.select(context(pool))[0]), 2))
    with pytest.raises(UsageError, match=r"stay 0\.5"):
        make(f"{name}:stay=0.5")


def timed_rounds(pool, seed, count=120):
    """Random (arm, accepted, seconds of draft and pass, seconds of catch-up, context for the next round)."""
    rng = random.Random(seed)
    for t in range(count):
        arm = t % 3 if t < 3 else rng.randrange(3)
        accepted = sum(1 for _ in range(4) if rng.random() < (0.3, 0.6, 0.8)[arm])
        expected = [0.5 + 2 * rng.random() for _ in range(3)]
        yield arm, accepted, 0.5 + rng.random(), rng.random() * (arm > 0), expected


def scalar_cost(work, expected, stay):
    """Mean work so far and the expected catch-up over ``stay``; before the first round, what is expected."""
    if not work:
        return expected
    mean = sum(work) / len(work)
    return mean + max(expected - mean, 0) / stay


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_ratio_ucb_index_equals_the_formula(bench, beta):
    pool, stay = bench.pool(3, plain=False), 5
    policy = bench.bound(make(f"ratio-ucb:beta={beta},stay={stay}"), pool, bench.keys(1))
    tokens, work, gained, spent = [[], [], []], [[], [], []], 0, 0.0
    for t, (arm, accepted, seconds, catch_up, expected) in enumerate(timed_rounds(pool, 6), 1):
        policy.update(one_round(pool, arm, accepted, seconds=seconds, catch_up_seconds=catch_up))
        tokens[arm].append(accepted + 1)
        work[arm].append(seconds)
        gained, spent = gained + accepted + 1, spent + seconds + catch_up
        if t < 3:
            continue
        wanted = [
            sum(y) / len(y)
            + beta * (4 + 1) * math.sqrt(2 * math.log(t) / len(y))
            - gained / spent * scalar_cost(w, now, stay)
            for y, w, now in zip(tokens, work, expected, strict=True)
        ]
        found = policy.index(context(pool, cost=np.array([expected])))[0]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_goodput_index_equals_the_formula(bench):
    """The acceptance rate is a ratio of sums that fade by ``decay`` with each round of their drafter."""
    pool, stay, decay, prior, weight = bench.pool(3, plain=False), 5, 0.9, 0.7, 3
    spec = f"goodput:decay={decay},prior={prior},weight={weight},stay={stay}"
    policy = bench.bound(make(spec), pool, bench.keys(1))
    right, wrong, work = [[], [], []], [[], [], []], [[], [], []]

    def faded(x):
        return sum(v * decay**age for age, v in enumerate(reversed(x)))

    def index(k, expected):
        a = (faded(right[k]) + prior * weight) / (faded(right[k]) + faded(wrong[k]) + weight)
        return sum(a**j for j in range(5)) / scalar_cost(work[k], expected, stay)

    for arm, accepted, seconds, catch_up, expected in timed_rounds(pool, 7):
        policy.update(one_round(pool, arm, accepted, seconds=seconds, catch_up_seconds=catch_up))
        right[arm].append(accepted)
        wrong[arm].append(accepted < 4)
        work[arm].append(seconds)
        found = policy.index(context(pool, cost=np.array([expected])))[0]
        np.testing.assert_allclose(found, [index(k, expected[k]) for k in range(3)], rtol=0, atol=1e-9)
