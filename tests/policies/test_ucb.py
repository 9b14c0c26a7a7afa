"""Index values over 200 random rounds against scalar code written from the papers alone, and against pymab."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from handmade import context, one_round, stream

from metasd.policies import IndexPolicy, make

K, G, ROUNDS = 4, 4, 200


def indices(policy, pool):
    with np.errstate(divide="ignore", invalid="ignore"):
        return policy.index(context(pool))


class Arm:
    """All that the scalar formulas need of one arm's past."""

    def __init__(self):
        self.x = []

    n = property(lambda self: len(self.x))
    mean = property(lambda self: sum(self.x) / len(self.x))
    variance = property(lambda self: sum(v * v for v in self.x) / len(self.x) - self.mean**2)


def ucb1(arm, t):
    return arm.mean + math.sqrt(2 * math.log(t) / arm.n)


def metasd_ucb(arm, t):
    return arm.mean + 0.1 * math.sqrt(2 * math.log(t) / arm.n)


def ucb_tuned(arm, t):
    v = arm.variance + math.sqrt(2 * math.log(t) / arm.n)
    return arm.mean + math.sqrt(math.log(t) / arm.n * min(0.25, v))


def ucb_v(arm, t):
    e = 1.2 * math.log(t)
    return arm.mean + math.sqrt(2 * max(arm.variance, 0) * e / arm.n) + 3 * e / arm.n


def moss(arm, t):
    return arm.mean + math.sqrt(max(math.log(t / (K * arm.n)), 0) / arm.n)


def kl_ucb(arm, t):
    def kl(p, q):
        def part(a, b):
            return 0.0 if a == 0 else a * math.log(a / b)

        return part(p, q) + part(1 - p, 1 - q)

    low, high, p = arm.mean, 1.0 - 1e-16, arm.mean
    if p == 1:
        return 1.0
    for _ in range(100):
        q = (low + high) / 2
        low, high = (q, high) if arm.n * kl(p, q) <= math.log(t) else (low, q)
    return low


def ucbspec(arm, t):
    mean = 1 + G * arm.mean  # Y = accepted + 1
    radius = (1 + arm.n) / arm.n**2 * (1 + 2 * math.log(K * t**2 * math.sqrt(1 + arm.n) / 0.5))
    return mean + G / 2 * math.sqrt(radius)


STATIONARY = {
    "metasd-ucb": metasd_ucb,
    "ucb1": ucb1,
    "ucb-tuned": ucb_tuned,
    "ucb-v": ucb_v,
    "moss": moss,
    "kl-ucb": kl_ucb,
    "ucbspec": ucbspec,
}


@pytest.mark.parametrize("name", STATIONARY)
def test_index_sequence_equals_the_formula(bench, name):
    """Two lanes with different pasts; every index of every round."""
    pool, plays = bench.pool(K, plain=False), [stream(1), stream(2)]
    policy = bench.bound(
        make(f"{name}:reward=tokens" if name == "ucbspec" else f"{name}:reward=block_efficiency"), pool, bench.keys(2)
    )
    pasts = [[Arm() for _ in range(K)] for _ in range(2)]
    for t in range(1, ROUNDS + 1):
        now = [p[t - 1] for p in plays]
        policy.update(one_round(pool, *np.array(now).T, lanes=2))
        for past, (arm, accepted) in zip(pasts, now, strict=True):
            past[arm].x.append(accepted / G)
        if t >= K:
            wanted = [[STATIONARY[name](arm, t) for arm in past] for past in pasts]
            np.testing.assert_allclose(indices(policy, pool), wanted, rtol=0, atol=1e-9)


def test_bonus_falls_with_an_arms_own_count(bench):
    """An exploration bonus computed from the total count would be the same for all arms."""
    names = [*STATIONARY, "sliding-window-ucb", "discounted-ucb", "glr-ucb", "ratio-ucb"]
    pool = bench.pool(2, plain=False)
    for name in names:
        policy = bench.bound(make(name), pool, bench.keys(1), overlap=False)
        for t in range(40):
            play = one_round(pool, 0 if t % 4 == 0 else 1, 2)
            play.draft_seconds = play.verify_seconds = play.catch_up_seconds = np.ones(1)
            policy.update(play)
        few, many = indices(policy, pool)[0]
        assert few > many, name


def test_moss_with_a_horizon(bench):
    pool = bench.pool(K, plain=False)
    policy = bench.bound(make("moss:horizon=500,reward=block_efficiency"), pool, bench.keys(1))
    for play in stream(6)[:50]:
        policy.update(one_round(pool, *play))
    n = policy.n[0]
    np.testing.assert_allclose(
        indices(policy, pool)[0], policy.mean[0] + np.sqrt(np.log(500 / (K * n)) / n), atol=1e-12
    )


@pytest.mark.parametrize("name", ["ucb1", "kl-ucb", "moss", "sliding-window-ucb", "discounted-ucb"])
def test_index_sequence_equals_pymabs(bench, name):
    """pymab 2.0.1 counts the round to come in ln t where UCB1's paper counts those played; it is set to the latter."""
    ucb = pytest.importorskip("pymab._reference.policies.ucb", reason="pymab is not installed")
    drift = pytest.importorskip("pymab._reference.policies.nonstationary", reason="pymab is not installed")
    spec, other = {
        "ucb1": ("ucb1:", ucb.UCBPolicy(n_arms=K, c=2.0)),
        "kl-ucb": ("kl-ucb:c=3,", ucb.KLUCBPolicy(n_arms=K, c=3.0, tolerance=1e-12, max_iterations=60)),
        "moss": ("moss:horizon=300,", ucb.MOSSPolicy(n_arms=K, horizon=300)),
        "sliding-window-ucb": (
            "sliding-window-ucb:window=60,beta=1,",
            drift.SlidingWindowUCBPolicy(n_arms=K, window_size=60),
        ),
        "discounted-ucb": (
            "discounted-ucb:gamma=0.9,beta=1,",
            drift.DiscountedUCBPolicy(n_arms=K, discount_factor=0.9),
        ),
    }[name]
    pool, rng = bench.pool(K, plain=False), random.Random(7)
    policy = bench.bound(make(spec + "reward=block_efficiency"), pool, bench.keys(1))
    assert isinstance(policy, IndexPolicy)
    for t, (arm, accepted) in enumerate(stream(8), 1):
        accepted = G * (rng.random() < accepted / G) if name == "kl-ucb" else accepted  # pymab's is binary
        policy.update(one_round(pool, arm, accepted))
        other.update(action=arm, reward=accepted / G)
        if t < 6:
            continue  # it uses ln 2 or ln 3 for the very first rounds
        if name == "kl-ucb":
            theirs = other.indices()
        else:
            other.step -= name == "ucb1"
            theirs = other.estimates + other._confidence_bonus()
            other.step += name == "ucb1"
        seen = policy.n[0] > 0
        np.testing.assert_allclose(
            indices(policy, pool)[0][seen], theirs[seen], atol=1e-6 if name == "kl-ucb" else 1e-9
        )
