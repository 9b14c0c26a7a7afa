"""Intervals and differences, against the jackknife, Student's law and each other."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metasd.sim.compare.bootstrap import (
    LARGE,
    LEAST,
    Clusters,
    Estimate,
    holm,
    mean_of_ratios,
    ratio,
    ratio_difference,
    total,
)

RNG = np.random.default_rng(7)
TOKENS = RNG.gamma(4.0, 30.0, 60)
ROUNDS = TOKENS / RNG.uniform(1.5, 3.5, 60)


def test_the_error_is_the_jackknifes() -> None:
    found = Clusters(np.zeros(60)).estimate(np.stack([TOKENS, ROUNDS], 1), ratio)
    left_out = [np.delete(TOKENS, i).sum() / np.delete(ROUNDS, i).sum() for i in range(60)]
    assert found.value == pytest.approx(TOKENS.sum() / ROUNDS.sum(), rel=1e-12)
    assert found.error == pytest.approx(np.sqrt(59 * np.var(left_out)))


@pytest.mark.parametrize("statistic", [ratio, ratio_difference, mean_of_ratios, total])
def test_derivatives_are_the_slopes(statistic: Any) -> None:
    sums = np.array([3.0, 2.0, 5.0, 7.0])[: 1 if statistic is total else 2 if statistic is ratio else 4]
    slope = statistic(sums)[1]
    for i in range(len(sums)):
        step = np.zeros(len(sums))
        step[i] = 1e-6
        rise = statistic(sums + step)[0] - statistic(sums - step)[0]
        assert slope[i] == pytest.approx(rise / 2e-6, abs=1e-7)


def test_a_sum_of_ordinary_numbers_has_students_interval() -> None:
    """The studentised bootstrap of normal data is close to Student's law, and from LARGE prompts on it is that law."""
    data = np.random.default_rng(1).normal(5, 1, (LARGE, 1))
    theirs = stats.t.interval(0.95, LARGE - 1, data.sum(), data.std(ddof=1) * np.sqrt(LARGE))
    assert Clusters(np.zeros(LARGE)).estimate(data, total).ends() == pytest.approx(theirs)
    few = data[:20]
    low, high = Clusters(np.zeros(20), resamples=9999).estimate(few, total).ends()
    theirs = stats.t.interval(0.95, 19, few.sum(), few.std(ddof=1) * np.sqrt(20))
    # 10,000 resamples: the limit has a standard error near 1 % of its distance; 20 numbers are normal to some 5 %.
    assert (high - low) == pytest.approx(theirs[1] - theirs[0], rel=0.1)


def test_memory_does_not_grow_with_prompts_times_resamples() -> None:
    """100,000 prompts: dense weights would take 1.6 GB."""
    clusters = Clusters(np.zeros(100_000))
    tokens = np.random.default_rng(0).gamma(4.0, 30.0, 100_000)
    tracemalloc.start()
    found = clusters.estimate(np.stack([tokens, tokens / 2 + 1, tokens, tokens / 2], 1), ratio_difference)
    clusters.band(np.stack([tokens, tokens], 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.interval is not None
    assert peak < 100e6


def test_paired_difference_is_sharper_than_two_intervals() -> None:
    other = ROUNDS * 0.97
    clusters = Clusters(np.zeros(60))
    a = clusters.estimate(np.stack([TOKENS, other], 1), ratio)
    b = clusters.estimate(np.stack([TOKENS, ROUNDS], 1), ratio)
    paired = clusters.estimate(np.stack([TOKENS, other, TOKENS, ROUNDS], 1), ratio_difference)
    assert a.ends()[0] < b.ends()[1]  # side by side they overlap
    assert paired.ends()[0] > 0  # paired they do not


def test_a_policy_does_not_differ_from_itself() -> None:
    same = Clusters(np.zeros(60)).estimate(np.stack([TOKENS, ROUNDS, TOKENS, ROUNDS], 1), ratio_difference)
    assert (same.value, same.ends()) == (0, (0, 0))
    assert same.p_value() == 1


def test_traces_are_strata() -> None:
    """A trace's own level is no spread: two traces far apart, each without spread, leave none."""
    level = np.array([[10.0]] * 6 + [[1000.0]] * 6)
    apart = Clusters(["a"] * 6 + ["b"] * 6).estimate(level, total)
    assert apart.ends() == (level.sum(), level.sum())
    assert Clusters(np.zeros(12)).estimate(level, total).ends()[1] > 8000
    assert Clusters(["a"] * 11 + ["b"]).estimate(level, total).interval is None  # what spread b has is unknown


def test_too_few_prompts_have_no_interval() -> None:
    for size in (LEAST - 1, LEAST):
        found = Clusters(np.zeros(size)).estimate(np.stack([TOKENS, ROUNDS], 1)[:size], ratio)
        assert (found.interval is None) == (found.p_value() is None) == (size < LEAST)
        assert Clusters(np.zeros(size)).missing == LEAST - size
    assert found.error is not None


def test_runs_that_differ_widen_the_interval() -> None:
    """Prompts of a run that keeps what it learned are linked: 8 of 10 runs lose nothing, 2 lose 2,000."""
    by_prompt = np.full((20, 1), 437.5 / 20) + RNG.normal(0, 1, (20, 1))
    by_run = np.array([[16.0], [2152], [3], [7], [2151], [9], [10], [11], [7], [9]])
    clusters = Clusters(np.zeros(20))
    narrow, wide = clusters.estimate(by_prompt, total), clusters.estimate(by_prompt, total, runs=by_run)
    assert np.diff(narrow.ends())[0] < 50
    half = stats.t.ppf(0.975, 9) * by_run.std(ddof=1) / np.sqrt(10)
    assert np.diff(wide.ends())[0] == pytest.approx(2 * np.hypot(half, np.diff(narrow.ends())[0] / 2))
    assert narrow.p_value() < 0.01
    assert wide.p_value() > 0.1
    assert clusters.estimate(by_prompt, total, runs=by_run[:1]).interval is None


def test_one_prompt_has_no_interval() -> None:
    alone = Clusters(["a"]).estimate(np.array([[6.0, 2.0]]), ratio)
    assert (alone.value, alone.interval, alone.p_value()) == (3.0, None, None)


def test_an_interval_is_cut_to_what_the_quantity_can_be() -> None:
    """Two prompts of eight took most of the time: a symmetric interval of tokens per second would go below 0."""
    seconds = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 15.0, 30.0]
    found = Clusters(np.zeros(8)).estimate(np.array([[100.0, s] for s in seconds]), ratio)
    low, high = found.ends()
    assert low < 0 < 1 < high
    assert found.interval == pytest.approx([low, high], rel=1e-5)
    assert found.within(0, np.inf) == [0.0, found.interval[1]]
    assert found.within(0, 1) == [0.0, 1.0]
    assert Clusters(np.zeros(2)).estimate(np.ones((2, 2)), ratio).within(0, 1) is None


def test_no_rounds_is_no_number() -> None:
    empty = Clusters(np.zeros(9)).estimate(np.zeros((9, 2)), ratio)
    assert np.isnan(empty.value)
    assert empty.interval is None


def test_a_band_is_the_interval_of_each_mean() -> None:
    curves = np.cumsum(np.random.default_rng(0).normal(1, 2, (40, 3)), axis=1)
    clusters = Clusters(np.zeros(40))
    mean, half = clusters.band(curves)
    for i in range(3):
        low, high = clusters.estimate(curves[:, i : i + 1], total).ends()
        assert (mean[i] - half[i], mean[i] + half[i]) == pytest.approx((low / 40, high / 40))
    assert (clusters.band(np.ones((40, 2)))[1] == 0).all()
    assert Clusters(np.zeros(7)).band(curves[:7])[1] is None


def test_mean_of_ratios_takes_pairs_of_columns() -> None:
    assert mean_of_ratios(np.array([1.0, 2.0, 3.0, 4.0]))[0] == (0.5 + 0.75) / 2
    assert total(np.array([5.0]))[0] == 5


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03]) == [0.03, 0.06, None, 0.06]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert [adjusted[i] for i in np.argsort(p, kind="stable")] == sorted(adjusted)


def test_p_value_inverts_the_interval() -> None:
    """p is at most 0.05 exactly where the interval excludes 0, whichever the effect's sign."""
    clusters, seen = Clusters(np.zeros(12), resamples=399), set()
    data = np.random.default_rng(3).gamma(2.0, 1.0, (12, 1))
    for shift in np.linspace(0, 4, 60):
        for sign in (1, -1):
            found = clusters.estimate(sign * (data - shift), total)
            low, high = found.ends()
            assert (found.p_value() <= 0.05) == (not low <= 0 <= high)
            seen.add(found.p_value() <= 0.05)
    assert seen == {True, False}
    assert Estimate(2.0, 1.0, np.array([3.0, 2.5, 2.0, 1.0])).p_value() == pytest.approx((1 + 3) / 5)
    assert Estimate(-9.0, 1.0, np.array([3.0, 2.5, 2.0, 1.0])).p_value() == pytest.approx(1 / 5)
