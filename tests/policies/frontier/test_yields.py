"""What the default policy makes of a round's overlap: expected yields on the scale of the tokens that came."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from metasd.core.pool import Pool
from metasd.core.records import StopReason
from metasd.policies import make
from metasd.policies.frontier.yields import chain, counted, expected, scale
from metasd.sim.oracle.rounds import fixed_arm_rounds
from metasd.sim.replay.run import replay
from metasd.traces import synthetic

from .handed import BIG, LOOKUP, SMALL, bound, context, played

LENGTHS = np.array([[1, 2, 3]])


def test_expected_yields_are_those_of_independent_coins():
    odds = (0.5, 0.8, 0.25)
    means = np.zeros(3)
    for heads in itertools.product((0, 1), repeat=3):
        chance = np.prod([p if h else 1 - p for p, h in zip(odds, heads, strict=True)])
        run = next((i for i, h in enumerate(heads) if not h), 3)
        means += chance * (1.0 + np.minimum(run, LENGTHS[0]))
    told = expected(chain(np.array([odds])), np.array([3]), LENGTHS, np.array([0.5]), np.ones(1))
    np.testing.assert_allclose(told[0], means)


def test_what_was_not_drafted_is_continued_at_the_running_rate():
    chances = chain(np.array([[0.5, 0.8, np.nan]]))
    np.testing.assert_allclose(chances, [[0.5, 0.4, 0.0]])
    told = expected(chances, np.array([2]), LENGTHS, np.array([0.25]), np.array([2.0]))
    np.testing.assert_allclose(told, [[1 + 2 * 0.5, 1 + 2 * 0.9, 1 + 2 * (0.9 + 0.4 * 0.25)]])
    certain = expected(np.ones((1, 1)), np.array([1]), LENGTHS, np.array([1.0]), np.ones(1))
    assert np.isfinite(certain).all()


def test_a_scale_is_ones_own_where_there_is_enough_and_that_of_all_before():
    said = np.array([[[0.0, 0.0], [500.0, 1000.0], [0.0, 0.0]]])
    both = scale(np.repeat(said, 2, axis=0), np.array([0, 1]))
    shared = 520 / 1020
    np.testing.assert_allclose(both, [shared, (500 + 100 * shared) / 1100])
    np.testing.assert_allclose(scale(np.zeros((1, 2, 2)), np.array([1])), [1.0])


def test_expected_yields_scatter_less_than_counted_ones_around_the_same_mean():
    rng = np.random.default_rng(5)
    n, pool = 4000, Pool([SMALL], [(0, 4)])
    odds = rng.beta(6, 3, (n, 4))
    agreed = np.minimum.accumulate(rng.random((n, 4)) < odds, axis=1).sum(axis=1)
    rounds, lengths = played(pool, 0, agreed, lanes=n), np.full((n, 1), 4)
    thrown = counted(rounds, lengths, np.full(n, 0.5))
    told = expected(chain(odds), rounds.drafted, lengths, np.full(n, 0.5), np.ones(n))
    assert abs(thrown.mean() - told.mean()) < 4 * thrown.std() / np.sqrt(n)
    assert told.std() < 0.7 * thrown.std()


def _with(rounds, *overlap):
    return replace(rounds, overlap=np.array([overlap], np.float32))


def test_of_two_models_that_fared_alike_the_one_with_more_overlap_is_played():
    pool = Pool([SMALL, BIG], [(0, 2), (1, 2)])
    policy = bound("default:watch=free,alpha=0", pool)
    for _ in range(20):
        for arm, overlap in ((0, 0.4), (1, 0.6)):
            policy.select(context(pool))
            policy.update(_with(played(pool, arm, 1), overlap, overlap))
    assert policy.select(context(pool)).tolist() == [1]
    assert policy.said[0, :, 0].tolist() == [20.0, 20.0]
    np.testing.assert_allclose(policy.said[0, :, 1], [20 * 0.56, 20 * 0.96], rtol=1e-6)


@pytest.mark.parametrize("overlap", [(np.nan, np.nan), (0.9, np.nan)])
def test_a_round_whose_overlap_is_not_all_known_is_counted(overlap):
    pool = Pool([SMALL], [(0, 1), (0, 2)])
    without, partly = bound("default:watch=free", pool), bound("default:watch=free", pool)
    for policy, rounds in ((without, played(pool, 1, 1)), (partly, _with(played(pool, 1, 1), *overlap))):
        policy.select(context(pool))
        policy.update(rounds)
    kept = without.state_dict()
    assert all(np.array_equal(value, partly.state_dict()[name]) for name, value in kept.items())


def test_rounds_with_and_without_overlap_may_come_together():
    pool = Pool([SMALL], [(0, 2)])
    policy = bound("default:watch=free", pool, lanes=2)
    policy.select(context(pool, 2))
    both = replace(played(pool, 0, 1, lanes=2), overlap=np.array([[np.nan, np.nan], [0.5, 0.5]], np.float32))
    policy.update(both)
    assert policy.said[:, 0].tolist() == [[0.0, 0.0], [1.0, 0.75]]
    assert policy.b[0, 0, 0] - policy._start.b[0, 0] == pytest.approx(2.0)
    assert policy.b[1, 0, 0] - policy._start.b[0, 0] == pytest.approx(
        1 + 0.75 * scale(policy.said[1:], np.array([0]))[0]
    )


def test_free_drafters_are_counted_although_their_overlap_is_told():
    pool = Pool([LOOKUP, SMALL], [(0, 2), (1, 2)])
    policy = bound("default:watch=free", pool)
    policy.select(context(pool, match=3))
    policy.update(_with(played(pool, 0, 1), 0.1, 0.1))
    assert not policy.said.any()


def test_a_text_that_begins_keeps_the_scale_and_clearing_forgets_it():
    pool = Pool([SMALL], [(0, 2)])
    policy = bound("default:watch=free", pool)
    policy.select(context(pool))
    policy.update(_with(played(pool, 0, 1), 0.5, 0.5))
    policy.begin(np.arange(1), np.arange(1).astype(np.uint64))
    assert policy.said.any()
    policy.clear(np.arange(1))
    assert not policy.said.any()


def test_overlap_is_asked_for_only_where_there_are_models_and_it_is_told():
    for spec in ("default", "default:objective=time"):
        policy = make(spec)
        assert policy.wants(overlap=True)["overlap"]
        assert not policy.wants(overlap=True, models=False)["overlap"]
        assert not policy.wants(overlap=False)["overlap"]


@pytest.mark.parametrize(("free", "told"), [(0, True), (2, False)])
def test_a_replay_hands_overlap_to_the_default_where_the_pool_has_models(free, told):
    trace = synthetic("iid", arms=2, alphas=(0.4, 0.6), prompts=2, length=32, free=free)
    assert trace.overlap is not None
    seen = []
    replay(trace, "default:watch=free", on_rounds=lambda rounds: seen.append(rounds.overlap is not None))
    assert seen
    assert all(each is told for each in seen)


def test_rounds_that_the_text_ended_are_left_out_of_the_scale():
    pool = Pool([SMALL], [(0, 2)])
    policy = bound("default:watch=free", pool)
    policy.select(context(pool))
    cut = _with(played(pool, 0, 1), 0.5, 0.5)
    cut.stop[:] = StopReason.TEXT_ENDED
    policy.update(cut)
    assert not policy.said.any()


@pytest.mark.parametrize("spec", ["default", "default:watch=free"])
def test_free_drafters_that_sample_learn_from_their_own_rounds_where_no_start_teaches_them(spec):
    trace = synthetic("iid", arms=3, alphas=(0.1, 0.1, 0.8), prompts=8, length=128, seed=3, free=2, temperature=1.0)
    outcome = replay(trace, spec, reset="never")
    best = fixed_arm_rounds(trace, outcome.pool).sum(axis=0).min()
    assert outcome.ledger.rounds_of().sum() < 1.2 * best  # believing in them for ever took 2.7 times as many
