import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metasd.sim.compare.bootstrap import (
    Clusters,
    Estimate,
    Values,
    holm,
    mean_of_ratios,
    ratio,
    ratio_difference,
    total,
)

RNG = np.random.default_rng(7)
TOKENS = RNG.gamma(4.0, 30.0, 60)
ROUNDS = TOKENS / RNG.uniform(1.5, 3.5, 60)


def test_ratio_of_sums_matches_scipy_bca() -> None:
    clusters = Clusters(np.zeros(60), resamples=20_000, seed=1)
    ours = clusters.estimate(np.stack([TOKENS, ROUNDS], 1), ratio)
    theirs = stats.bootstrap(
        (TOKENS, ROUNDS),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    # Two independent runs of 20,000: each end has a standard error near 0.8 % of the width.
    assert ours.value == pytest.approx(TOKENS.sum() / ROUNDS.sum(), rel=1e-12)
    assert abs(ours.low - theirs.low) < 0.06 * width
    assert abs(ours.high - theirs.high) < 0.06 * width


def test_bca_equals_scalar_code_where_the_bootstrap_is_biased() -> None:
    """A skewed statistic, the square of a small mean over another: its resamples lie above its value more often."""
    rng = np.random.default_rng(5)
    data = np.stack([rng.exponential(1.0, 12) - 0.8, rng.exponential(2.0, 12)], axis=1)
    clusters, normal = Clusters(np.zeros(12), resamples=500), NormalDist()

    def statistic(sums: Values) -> Values:
        return sums[..., 0] ** 2 / sums[..., 1]

    found = clusters.estimate(data, statistic)
    x, y = data.T.tolist()

    def at(weights: list[float]) -> float:
        return sum(w * v for w, v in zip(weights, x, strict=True)) ** 2 / sum(
            w * v for w, v in zip(weights, y, strict=True)
        )

    value, resampled = at([1.0] * 12), sorted(at(w) for w in clusters.weights.tolist())
    below = sum(0.5 if math.isclose(r, value) else float(r < value) for r in resampled)  # ties count half
    bias = normal.inv_cdf(below / 500)
    left_out = [at([float(i != j) for i in range(12)]) for j in range(12)]
    pulls = [sum(left_out) / 12 - v for v in left_out]
    acceleration = sum(p**3 for p in pulls) / (6 * sum(p**2 for p in pulls) ** 1.5)

    def end(z: float) -> float:
        level = normal.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        place = level * 499
        low = int(place)
        return resampled[low] + (place - low) * (resampled[low + 1] - resampled[low])

    assert abs(bias) > 0.2
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((end(normal.inv_cdf(0.025)), end(normal.inv_cdf(0.975))))


def test_interval_covers_at_its_stated_rate() -> None:
    """400 samples: outside 0.86..0.995 has binomial probability < 1e-6 for any true coverage from 0.93 to 0.955."""
    rng, truth, hits = np.random.default_rng(3), 0.5, 0
    for run in range(400):
        x = rng.exponential(1.0, 50)
        y = rng.exponential(2.0, 50)
        found = Clusters(np.zeros(50), resamples=600, seed=run).estimate(np.stack([x, y], 1), ratio)
        hits += found.low <= truth <= found.high
    assert 0.86 <= hits / 400 <= 0.995


def test_paired_difference_is_sharper_than_two_intervals() -> None:
    other = ROUNDS * 0.97
    clusters = Clusters(np.zeros(60))
    a = clusters.estimate(np.stack([TOKENS, other], 1), ratio)
    b = clusters.estimate(np.stack([TOKENS, ROUNDS], 1), ratio)
    paired = clusters.estimate(np.stack([TOKENS, other, TOKENS, ROUNDS], 1), ratio_difference)
    assert a.low < b.high  # side by side they overlap
    assert paired.low > 0  # paired they do not
    np.testing.assert_allclose(paired.replicates, a.replicates - b.replicates)


def test_a_policy_does_not_differ_from_itself() -> None:
    same = Clusters(np.zeros(60)).estimate(np.stack([TOKENS, ROUNDS, TOKENS, ROUNDS], 1), ratio_difference)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert same.p_value() == 1


def test_strata_keep_their_size() -> None:
    clusters = Clusters(["a"] * 5 + ["b"] * 20 + ["a"] * 2, resamples=50)
    of_a = [0, 1, 2, 3, 4, 25, 26]
    assert (clusters.weights[:, of_a].sum(axis=1) == 7).all()
    assert (clusters.weights.sum(axis=1) == 27).all()


def test_one_prompt_has_no_interval() -> None:
    alone = Clusters(["a"]).estimate(np.array([[6.0, 2.0]]), ratio)
    assert (alone.value, alone.interval, alone.p_value()) == (3.0, None, None)


def test_no_rounds_is_no_number() -> None:
    empty = Clusters(["a", "a"]).estimate(np.zeros((2, 2)), lambda s: np.where(s[..., 1] > 0, s[..., 0], np.nan))
    assert np.isnan(empty.value)
    assert empty.interval is None


def test_band_ends_at_the_mean_and_is_ordered() -> None:
    curves = np.cumsum(np.random.default_rng(0).normal(1, 2, (40, 12)), axis=1)
    mean, low, high = Clusters(np.zeros(40)).band(curves)
    np.testing.assert_allclose(mean, curves.mean(axis=0))
    assert (low <= mean).all()
    assert (mean <= high).all()


def test_mean_of_ratios_takes_pairs_of_columns() -> None:
    assert mean_of_ratios(np.array([1.0, 2.0, 3.0, 4.0])) == (0.5 + 0.75) / 2
    assert total(np.array([5.0])) == 5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03]) == [0.03, 0.06, None, 0.06]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_p_value_counts_resamples_beyond_zero() -> None:
    """Both tails count, whichever the effect's sign."""
    data = RNG.normal(5, 1, (30, 1))
    for sign in (1, -1):
        clear = Clusters(np.zeros(30), resamples=999).estimate(sign * data, total)
        assert clear.p_value() == pytest.approx(2 / 1000)
    for replicates in ([-1.0, 1, 2, 3], [1.0, -1, -2, -3]):
        assert Estimate(1.0, -1.0, 3.0, np.array(replicates)).p_value() == pytest.approx(2 * (1 + 1) / (4 + 1))
