"""Whether an interval called 95 % covers 95 %, by simulation on skewed prompts, from the fewest prompts that get one.

A construction is right where its coverage lies between 93 and 97 %. 2,000 samples a size: a right one is refused with a
probability below 1e-6 a size, and constructions that are wrong at 8 prompts are shown to be refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from metasd.sim.compare.bootstrap import LARGE, LEAST, Clusters, Values, ratio, ratio_difference, total

SAMPLES = 500  # of each kind
KINDS = 4
FALSE_ALARM = 1e-6
LOWEST = stats.binom.ppf(FALSE_ALARM / 2, KINDS * SAMPLES, 0.93) / (KINDS * SAMPLES)
HIGHEST = stats.binom.isf(FALSE_ALARM / 2, KINDS * SAMPLES, 0.97) / (KINDS * SAMPLES)

Interval = Callable[[Clusters, Values, int], tuple[float, float] | None]


def worlds(size: int, seed: int) -> list[tuple[Values, float]]:
    """Samples [SAMPLES, size, m] of four kinds, and the truth of each.

    Answers of any length with log-normal tokens a round; a policy against one that is a little better; a share of the
    optimum close to 1, so skewed to the left; a regret whose prompts are exponential.
    """
    rng, shape = np.random.default_rng(seed), (SAMPLES, size)
    tokens = rng.gamma(3.0, 50.0, shape)
    one = 1 + rng.lognormal(-0.3, 0.7, shape)
    other = one * rng.lognormal(0.02, 0.12, shape)
    rounds = tokens / (1 + rng.lognormal(-0.3, 0.7, shape))
    far = np.random.default_rng(1)  # the truth, from tokens that are independent of rounds a token
    inverse = (1 / (1 + far.lognormal(-0.3, 0.7, 4_000_000))).mean()
    better = np.exp(-0.02 + 0.12**2 / 2)
    return [
        (np.stack([tokens, tokens / one], axis=2), 1 / inverse),
        (np.stack([tokens, tokens / one, tokens, tokens / other], axis=2), 1 / inverse - 1 / (inverse * better)),
        (np.stack([rng.beta(12, 1.5, shape) * rounds, rounds], axis=2), 12 / 13.5),
        (rng.exponential(1.0, (*shape, 1)), float(size)),
    ]


def coverage(size: int, interval: Interval, seed: int = 0) -> float:
    """Share of samples whose interval holds the truth, over all kinds."""
    clusters, hits = Clusters(np.zeros(size), resamples=399), 0
    for samples, truth in worlds(size, seed):
        for sample in samples:
            low, high = interval(clusters, sample, sample.shape[1])
            hits += low <= truth <= high
    return hits / (KINDS * SAMPLES)


def ours(clusters: Clusters, sample: Values, width: int) -> tuple[float, float] | None:
    return clusters.estimate(sample, {1: total, 2: ratio, 4: ratio_difference}[width]).ends()


def drawn(clusters: Clusters, sample: Values, width: int) -> tuple[float, Values]:
    """The statistic, and on every resample."""
    statistic = {1: total, 2: ratio, 4: ratio_difference}[width]
    return float(statistic(sample.sum(axis=0))[0]), statistic(clusters._weights @ sample)[0]


def percentile(clusters: Clusters, sample: Values, width: int) -> tuple[float, float]:
    low, high = np.quantile(drawn(clusters, sample, width)[1], [0.025, 0.975])
    return low, high


def bca(clusters: Clusters, sample: Values, width: int) -> tuple[float, float]:
    """Efron 1987, the construction used before."""
    statistic = {1: total, 2: ratio, 4: ratio_difference}[width]
    value, values = drawn(clusters, sample, width)
    bias = stats.norm.ppf(np.clip((values < value).mean(), 1e-3, 1 - 1e-3))
    left_out = statistic(sample.sum(axis=0) - sample)[0]
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(values, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return low, high


def normal(clusters: Clusters, sample: Values, width: int) -> tuple[float, float]:
    found = clusters.estimate(sample, {1: total, 2: ratio, 4: ratio_difference}[width])
    return found.value - 1.96 * found.error, found.value + 1.96 * found.error


@pytest.mark.parametrize("size", [LEAST, 12, 48])
def test_intervals_hold_their_level(size: int) -> None:
    assert LOWEST <= coverage(size, ours) <= HIGHEST


def test_students_law_holds_its_level_from_where_it_is_used() -> None:
    clusters = Clusters(np.zeros(LARGE), resamples=399)
    assert not len(clusters._weights)
    assert LOWEST <= coverage(LARGE, ours) <= HIGHEST


@pytest.mark.parametrize("wrong", [percentile, bca, normal])
def test_a_construction_that_does_not_is_refused(wrong: Interval) -> None:
    assert coverage(LEAST, wrong) < LOWEST
