"""Thompson sampling against scalar code: the same uniforms, quantiles by hand, the same arms for 200 rounds."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from handmade import context, one_round, uniforms

from metasd.policies import make

K, G, ROUNDS = 4, 4, 200
CHANCES = (0.4, 0.5, 0.6, 0.55)  # near each other, so that the spread decides


def accepted(rng, arm):
    return sum(1 for _ in range(G) if rng.random() < CHANCES[arm])


def beta_share(x, a, b):
    """The share of Beta(a, b) below x, by the continued fraction of Numerical Recipes, section 6.4."""
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_share(1 - x, b, a)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, 200):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + step / c, 1 / (1 + step * d)
            h *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    front = a * math.log(x) + b * math.log(1 - x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) * h / a


def beta_quantile(u, a, b):
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_share(middle, a, b) < u else (low, middle)
    return (low + high) / 2


def test_the_scalar_quantile_knows_closed_forms():
    assert beta_quantile(0.3, 1, 1) == pytest.approx(0.3)
    assert beta_quantile(0.3, 2.5, 1) == pytest.approx(0.3 ** (1 / 2.5))
    assert beta_quantile(0.3, 1, 4.5) == pytest.approx(1 - 0.7 ** (1 / 4.5))


@pytest.mark.parametrize("sigma", [0.2, 0.6])
def test_gaussian_plays_mean_plus_sigma_over_the_root_of_n(bench, sigma):
    pool, keys, rng = bench.pool(K, plain=False), bench.keys(1), random.Random(1)
    policy = bench.bound(make(f"thompson-gaussian:sigma={sigma},reward=block_efficiency"), pool, keys)
    seen = [[] for _ in range(K)]
    u = uniforms(keys[0])
    for _ in range(ROUNDS):
        drawn = [NormalDist().inv_cdf(next(u)) for _ in range(K)]
        sample = [
            sum(x) / len(x) + sigma / len(x) ** 0.5 * z if x else math.inf for x, z in zip(seen, drawn, strict=True)
        ]
        wanted = sample.index(max(sample))
        assert policy.select(context(pool)).tolist() == [wanted]
        a = accepted(rng, wanted)
        policy.update(one_round(pool, wanted, a))
        seen[wanted].append(a / G)
    assert min(map(len, seen)) > 1


def test_beta_plays_from_one_and_one_plus_what_was_won_and_lost(bench):
    pool, keys, rng = bench.pool(K, plain=False), bench.keys(1), random.Random(2)
    policy = bench.bound(make("thompson-beta:reward=block_efficiency"), pool, keys)
    won, lost = [0.0] * K, [0.0] * K
    u = uniforms(keys[0])
    for _ in range(ROUNDS):
        sample = [beta_quantile(next(u), 1 + won[k], 1 + lost[k]) for k in range(K)]
        wanted = sample.index(max(sample))
        assert policy.select(context(pool)).tolist() == [wanted]
        a = accepted(rng, wanted)
        policy.update(one_round(pool, wanted, a))
        won[wanted] += a / G
        lost[wanted] += 1 - a / G
