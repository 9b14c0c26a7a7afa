"""Index values over 200 random rounds against scalar code written from the papers alone, and against pymab."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from metasd.core.records import NO_END, Context, settle
from metasd.policies import IndexPolicy, make

K, G, ROUNDS = 4, 4, 200


def stream(seed):
    """[(arm, accepted)] of 200 rounds; every arm comes first once, then any, with different chances."""
    rng = random.Random(seed)
    arms = list(range(K)) + [rng.randrange(K) for _ in range(ROUNDS - K)]
    return [(a, sum(1 for _ in range(G) if rng.random() < (0.2, 0.5, 0.7, 0.9)[a])) for a in arms]


def rounds_of(pool, plays, position):
    """One round on each lane: ``plays`` holds (arm, accepted)."""
    n, arms = len(plays), np.array([a for a, _ in plays])
    return settle(
        lane=np.arange(n),
        prompt=np.arange(n),
        arm=arms,
        draft_length=pool.draft_length[arms],
        position=np.full(n, position),
        remaining=np.full(n, 10_000),
        proposed=np.full(n, G),
        agreed=np.array([a for _, a in plays]),
        ends_in=np.full(n, NO_END),
        catch_up=np.zeros(n, np.int64),
    )


def context(lanes):
    return Context(np.zeros(lanes, np.int64), np.full(lanes, 10_000), np.ones((lanes, K), bool))


def indices(policy):
    with np.errstate(divide="ignore", invalid="ignore"):
        return policy.index(context(policy.lanes))


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
        policy.update(rounds_of(pool, now, t))
        for past, (arm, accepted) in zip(pasts, now, strict=True):
            past[arm].x.append(accepted / G)
        if t >= K:
            wanted = [[STATIONARY[name](arm, t) for arm in past] for past in pasts]
            np.testing.assert_allclose(indices(policy), wanted, rtol=0, atol=1e-9)


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
        policy.update(rounds_of(pool, [play], t))
        history.append((play[0], play[1] / G))
        if t >= K:
            wanted = formula(history)
            np.testing.assert_array_equal(policy.n[0] == 0, np.isnan(wanted))
            np.testing.assert_allclose(np.where(np.isnan(wanted), np.nan, indices(policy)[0]), wanted, atol=1e-9)


def test_exp3_and_exp3spec_probabilities(bench):
    """p ~ exp(-eta_t sum of losses / p) with eta_t = sqrt(ln K / (t K)), step by step."""
    pool, plays = bench.pool(K, plain=False), stream(4)
    for name, loss_of in (
        ("exp3:reward=block_efficiency", lambda a: 1 - a / G),
        ("exp3spec", lambda a: (G + 1 - (a + 1)) / G),
    ):
        policy, sums = bench.bound(make(name), pool, bench.keys(1)), [0.0] * K
        for t, (_, accepted) in enumerate(plays, 1):
            arm = int(policy.select(context(1))[0])
            eta = math.sqrt(math.log(K) / (t * K))
            weights = [math.exp(-eta * s) for s in sums]
            p = [w / sum(weights) for w in weights]
            np.testing.assert_allclose(policy.p[0], p, atol=1e-12)
            policy.update(rounds_of(pool, [(arm, accepted)], t))
            sums[arm] += loss_of(accepted) / p[arm]


def test_exp3s_probabilities(bench):
    pool, plays, horizon, changes = bench.pool(K, plain=False), stream(5), 256, 2
    policy = bench.bound(make("exp3s:reward=block_efficiency"), pool, bench.keys(1))
    gamma = min(1, math.sqrt(K * (changes * math.log(K * horizon) + math.e) / ((math.e - 1) * horizon)))
    w = [1.0] * K
    for t, (_, accepted) in enumerate(plays, 1):
        arm = int(policy.select(context(1))[0])
        p = [(1 - gamma) * v / sum(w) + gamma / K for v in w]
        np.testing.assert_allclose(policy.p[0], p, atol=1e-12)
        policy.update(rounds_of(pool, [(arm, accepted)], t))
        estimate = [accepted / G / p[arm] if i == arm else 0.0 for i in range(K)]
        total = sum(w)
        w = [v * math.exp(gamma * x / K) + math.e / horizon / K * total for v, x in zip(w, estimate, strict=True)]


def test_bonus_falls_with_an_arms_own_count(bench):
    """An exploration bonus computed from the total count would be the same for all arms."""
    names = [*STATIONARY, "sliding-window-ucb", "discounted-ucb", "glr-ucb", "ratio-ucb"]
    pool = bench.pool(2, plain=False)
    for name in names:
        policy = bench.bound(make(name), pool, bench.keys(1), overlap=False)
        for t in range(40):
            play = rounds_of(pool, [(0 if t % 4 == 0 else 1, 2)], t)
            play.draft_seconds = play.verify_seconds = play.catch_up_seconds = np.ones(1)
            policy.update(play)
        with np.errstate(divide="ignore", invalid="ignore"):
            few, many = policy.index(Context(np.zeros(1, np.int64), np.array([99]), np.ones((1, 2), bool)))[0]
        assert few > many, name


def test_moss_with_a_horizon(bench):
    pool = bench.pool(K, plain=False)
    policy = bench.bound(make("moss:horizon=500,reward=block_efficiency"), pool, bench.keys(1))
    for t, play in enumerate(stream(6)[:50]):
        policy.update(rounds_of(pool, [play], t))
    n = policy.n[0]
    np.testing.assert_allclose(indices(policy)[0], policy.mean[0] + np.sqrt(np.log(500 / (K * n)) / n), atol=1e-12)


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
        policy.update(rounds_of(pool, [(arm, accepted)], t))
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
        np.testing.assert_allclose(indices(policy)[0][seen], theirs[seen], atol=1e-6 if name == "kl-ucb" else 1e-9)
