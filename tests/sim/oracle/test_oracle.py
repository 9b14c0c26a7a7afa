"""Oracles against search by hand, and against what TraceSession plays."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import fixed_arm_seconds, greedy_rounds, oracle_policy_arms

from metasd.core.errors import UsageError
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.pool import Pool
from metasd.policies.ucb import MetaSDUCB
from metasd.sim.oracle import seconds
from metasd.sim.oracle.regret import rows
from metasd.sim.oracle.rounds import (
    best_fixed,
    clairvoyant_rounds,
    expected_arm_rounds,
    fixed_arm_rounds,
)
from metasd.sim.oracle.seconds import clairvoyant_seconds
from metasd.sim.replay.run import replay
from metasd.sim.replay.session import TraceSession
from metasd.sim.theory.bounds import kl_inf, lai_robbins_constant, length_law
from metasd.traces import synthetic

ARMS = [(0, 4), (1, 2), (2, 4), (-1, 0)]


def run(trace, pool, p, seed, arms, **kwargs):
    """Rounds and seconds of playing ``arms`` (the last one for ever) on one text."""
    session = TraceSession(trace, pool, episodes=[[p]], seeds=[seed], **kwargs)
    n, seconds = 0, 0.0
    while not session.done:
        rounds = session.play(np.array([arms[min(n, len(arms) - 1)]]))
        n, seconds = n + 1, seconds + (0.0 if rounds.seconds is None else float(rounds.seconds[0]))
    return n, seconds


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans(), st.none() | st.integers(1, 9))
def test_replaying_the_optimum_takes_exactly_so_many_rounds(make_trace, seed, sampled, budget):
    trace = make_trace(seed, lengths=(9, 1, 23, 12), sampled=sampled)
    pool = Pool(trace.drafters, ARMS)
    best = clairvoyant_rounds(trace, pool, seeds=3, budget=budget)
    for p, arms in enumerate(oracle_policy_arms(trace, pool, seeds=3, budget=budget)):
        assert run(trace, pool, p, 3, arms, budget=budget)[0] == best[p] == len(arms)


@pytest.mark.parametrize("sampled", [False, True])
def test_fixed_arms_take_what_playing_them_takes(make_trace, sampled):
    trace = make_trace(7, sampled=sampled)
    pool = Pool(trace.drafters, ARMS)
    rounds, seconds = fixed_arm_rounds(trace, pool, seeds=5), fixed_arm_seconds(trace, pool, seeds=5)
    for p, k in itertools.product(range(len(trace)), range(len(pool))):
        n, spent = run(trace, pool, p, 5, [k])
        assert rounds[p, k] == n
        assert seconds[p, k] == pytest.approx(spent)


def test_no_choice_beats_the_optimum_and_the_greedy_lies_between(make_trace):
    for seed in range(8):
        trace = make_trace(seed, lengths=(7, 6, 8))
        pool = Pool(trace.drafters, ARMS[:3])
        best, greedy = clairvoyant_rounds(trace, pool), greedy_rounds(trace, pool)
        fixed = fixed_arm_rounds(trace, pool)
        assert (best <= greedy).all()
        assert (best <= fixed.min(axis=1)).all()
        for p in range(3):
            tried = {run(trace, pool, p, 0, arms)[0] for arms in itertools.product(range(3), repeat=int(best[p]))}
            assert min(tried) == best[p]


def test_greedy_is_not_always_optimal(make_trace):
    gaps = sum(
        int((greedy_rounds(t, t.pool()) - clairvoyant_rounds(t, t.pool())).sum()) for t in map(make_trace, range(10))
    )
    assert gaps > 0


def test_policies_never_beat_the_oracle_under_their_own_luck():
    for temperature in (0.0, 1.0):
        trace = synthetic("two-language", prompts=6, length=60, temperature=temperature)
        session = TraceSession.per_prompt(trace, seeds=range(3))
        policy, ledger = MetaSDUCB(reward="tokens"), Ledger(session.pool, 18)
        policy.bind(session.pool, session.lanes)
        decode(session, policy, ledger)
        best = clairvoyant_rounds(trace, session.pool, prompts=session.episode_prompt, seeds=session.episode_seed)
        assert (ledger.rounds_of() >= best).all()
        assert (ledger.rounds_of() > best).any()


def test_best_fixed_by_text_by_domain_and_overall():
    rounds = np.array([[5, 3], [1, 9], [4, 5]])
    assert best_fixed(rounds)[0].tolist() == [3, 1, 4]
    value, arm = best_fixed(rounds, ["a", "b", "a"])
    assert (value.tolist(), arm.tolist()) == ([3, 1, 5], [1, 0, 1])
    assert best_fixed(rounds, ["all"] * 3)[1].tolist() == [0, 0, 0]


def seconds_by_search(trace, pool, p):
    """Least seconds of a text by trying all, the caches of every drafter in the state."""
    lo, hi = int(trace.offsets[p]), int(trace.offsets[p + 1])
    prompt = int(trace.prompt_lengths[p])

    @cache
    def value(t, caches):
        if lo + t >= hi:
            return 0.0
        found = []
        for arm in pool.arms:
            d, remaining = max(arm.drafter, 0), hi - lo - t + (100 if trace.ended[p] else 0)
            m = min(int(trace.proposed[lo + t, d]), arm.draft_length, remaining - 1)
            a = min(int(trace.accepted[lo + t, d]), m)
            emitted = min(a + 1, hi - lo - t)
            cost = float(trace.costs.verify(np.array(m), np.array(prompt + t)))
            cost += float(trace.costs.draft(np.array(d), np.array(m)))
            after = list(caches)
            if m and not pool.drafters[d].free:
                cost += float(trace.costs.catch_up(np.array(d), np.array(max(prompt + t - 1 - caches[d], 0))))
                after[d] = prompt + t + min(m - 1, a)
            found.append(cost + value(t + emitted, tuple(after)))
        return min(found)

    return value(0, (0,) * len(pool.drafters))


def test_seconds_with_one_lagging_drafter_are_exact(make_trace):
    for seed in range(3):
        trace = make_trace(seed, lengths=(12, 1, 9))
        pool = Pool(trace.drafters, [(0, 4), (2, 3), (2, 1), (-1, 0)])
        found = clairvoyant_seconds(trace, pool)
        assert found.exact
        np.testing.assert_allclose(found.least, [seconds_by_search(trace, pool, p) for p in range(3)])


def test_seconds_without_lag_are_exact_and_with_two_a_lower_bound(make_trace):
    trace = make_trace(1, lengths=(12, 5))
    free = Pool(trace.drafters, [(0, 4), (1, 4), (-1, 0)])
    found = clairvoyant_seconds(trace, free)
    assert found.exact
    np.testing.assert_allclose(found.least, [seconds_by_search(trace, free, p) for p in range(2)])
    with pytest.raises(UsageError, match="clock"):
        clairvoyant_seconds(make_trace(1, costs=False), trace.pool())


@pytest.mark.parametrize("closer", [0, 10**9])
def test_with_two_lagging_drafters_the_optimum_lies_between_two_bounds(make_trace, monkeypatch, closer):
    monkeypatch.setattr(seconds, "_TIGHTENED", closer)
    gaps = []
    for seed in range(4):
        two = make_trace(seed, lengths=(10, 5), kinds=(("a", False, False), ("b", False, False), ("c", True, True)))
        found = clairvoyant_seconds(two, two.pool())
        truth = np.array([seconds_by_search(two, two.pool(), p) for p in range(2)])
        assert (found.least <= truth + 1e-12).all()
        assert (found.reached >= truth - 1e-12).all()
        assert (found.least > 0.5 * truth).all()
        gaps += (found.reached / found.least - 1).tolist()
        assert found.exact == (found.reached <= found.least * (1 + 1e-12)).all()
    assert max(gaps) > 0.01
    assert sum(gaps) < (0.5 if closer else 1.5) * len(gaps)


def test_expected_rounds_are_the_mean_over_luck(make_trace):
    """Within 5 standard errors of 600 seeds, for each of 15 numbers: a false alarm in 1e-5."""
    trace = make_trace(3, sampled=True)
    found = expected_arm_rounds(trace, trace.pool())
    played = np.stack([fixed_arm_rounds(trace, trace.pool(), seeds=s) for s in range(600)])
    error = played.std(axis=0) / np.sqrt(600)
    assert (np.abs(played.mean(axis=0) - found) <= 5 * error + 1e-9).all()
    assert (error > 0).any()
    np.testing.assert_array_equal(
        expected_arm_rounds(make_trace(3), trace.pool()), fixed_arm_rounds(make_trace(3), trace.pool())
    )


def test_hindsight_regret_does_not_charge_luck(make_trace):
    """Its mean over seeds is the difference of expectations (5 standard errors); the luckiest arm a seed would add
    more."""
    trace = make_trace(5, sampled=True, lengths=(40,) * 12)
    pool, seeds = trace.pool(), range(20)
    expected = expected_arm_rounds(trace, pool)
    lucky = np.mean([fixed_arm_rounds(trace, pool, seeds=s).min(axis=1).sum() for s in seeds])
    for k, arm in enumerate(pool.names[:3]):
        wanted = (expected[:, k] - expected.min(axis=1)).sum()
        found = [rows(replay(trace, f"fixed:arm={arm}", first_seed=s))[-1]["regret_rounds"] for s in seeds]
        slack = 5 * np.std(found, ddof=1) / np.sqrt(len(seeds)) + 1e-9
        assert abs(np.mean(found) - wanted) < slack
    assert expected.min(axis=1).sum() - lucky > 2


def test_the_lower_bounds_constant():
    # two points: KL_inf is the Bernoulli divergence
    law = np.array([[0.7, 0.3], [0.4, 0.6]])
    divergence = 0.3 * np.log(0.3 / 0.6) + 0.7 * np.log(0.7 / 0.4)
    assert kl_inf(law[0], np.array([0.0, 1.0]), 0.6) == pytest.approx(divergence, rel=1e-6)
    assert lai_robbins_constant(law) == pytest.approx(0.3 / divergence, rel=1e-6)
    assert kl_inf(law[1], np.array([0.0, 1.0]), 0.5) == 0
    assert kl_inf(law[1], np.array([0.0, 1.0]), 1.0) == np.inf
    trace = synthetic("iid", prompts=8, length=200, arms=3)
    found = length_law(trace, trace.pool())
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert 0 < lai_robbins_constant(found) < np.inf


def test_a_large_trace_in_chunks_is_its_texts_one_by_one():
    trace = synthetic("iid", prompts=500, length=200, overlap=False)
    best, fixed = clairvoyant_rounds(trace, trace.pool()), fixed_arm_rounds(trace, trace.pool())
    assert (best <= fixed.min(axis=1)).all()
    for p in (0, 250, 499):
        assert clairvoyant_rounds(trace, trace.pool(), prompts=[p])[0] == best[p]
        assert (fixed_arm_rounds(trace, trace.pool(), prompts=[p])[0] == fixed[p]).all()
