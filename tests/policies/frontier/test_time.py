"""The default policy where seconds count: costs, what cannot pay, stalls, doubt of signals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.policies import make
from metasd.policies.frontier.afford import LOSS, SLACK

from .handed import BIG, LOOKUP, SMALL, bound, context, played, revealed


def test_time_prefers_the_cheap_arm_and_needs_costs():
    pool = Pool([SMALL], [(0, 2), (0, 20)])
    policy = bound("default:objective=time", pool)
    with pytest.raises(UsageError, match="objective=rounds"):
        policy.select(context(pool))
    assert policy.select(context(pool, cost=np.array([1.0, 5.0]))).tolist() == [0]
    assert bound("default:objective=time", pool).select(context(pool, cost=np.array([1.0, 1.01]))).tolist() == [1]
    assert bound("default", pool).select(context(pool)).tolist() == [1]


def test_what_cannot_pay_is_not_played_however_good_it_looks():
    pool = Pool([SMALL, BIG], [(0, 3), (1, 3), (-1, 0)])
    policy, cost = bound("default:objective=time", pool), np.array([1.0, 0.1, 1.0])
    assert "pays" in policy.wants(overlap=True)["reads"]
    now = context(pool, cost=cost)
    assert policy.select(now).tolist() == [1]
    now.pays = np.array([[True, False, True]])
    assert policy.select(now).tolist() == [0]
    now.pays = np.array([[False, False, True]])
    assert policy.select(now).tolist() == [2]
    now.available[:] = [[True, True, False]]
    assert policy.select(now).tolist() == [1], "where nothing that pays is left"
    assert "pays" not in make("default:objective=rounds").wants(overlap=True)["reads"]


def test_a_stall_leaves_the_running_rate_alone():
    """Of 20 rounds of 1 s that emit 4 tokens one takes 10 s: 4 tokens a second all the same."""
    pool = Pool([SMALL], [(0, 3), (-1, 0)])
    policy = bound("default:objective=time", pool)
    for t in range(20):
        policy.select(context(pool, cost=np.array([1.0, 1.0])))
        rounds = played(pool, 0, 3)
        zero, took = np.zeros(1), np.array([10.0 if t == 7 else 1.0])
        rounds.draft_seconds, rounds.catch_up_seconds, rounds.verify_seconds = zero, zero, took
        policy.update(rounds)
    assert policy.rate.tolist() == [[80.0, 20.0]]


def test_one_lucky_start_makes_less_of_a_signal_where_seconds_count():
    pool = Pool([LOOKUP, SMALL], [(0, 20), (1, 20), (-1, 0)])
    hoped = {}
    for objective in ("rounds", "time"):
        policy = bound(f"default:objective={objective}", pool)
        for _ in range(20):
            policy.observe(revealed(pool, 1, match=2))
        policy.observe(revealed(pool, 20, match=60))
        now = context(pool, match=60, cost=np.ones(3))
        policy.select(now)
        hoped[objective] = policy._value(now)[0]
    assert hoped["time"][0] < 0.6 * hoped["rounds"][0]
    assert hoped["time"][1] == hoped["rounds"][1], "models have no rows but their own: their bound does not shrink"


MODELS = [replace(SMALL, name=f"small{i}") for i in range(8)]


def _spent(cost, accepted, rounds=150):
    """(tokens, seconds, rounds with models) of eight models and plain, of which models accept so many tokens of 3."""
    pool = Pool(MODELS, [(d, 3) for d in range(8)] + [(-1, 0)])
    policy, tokens, seconds, drafted = bound("default:objective=time", pool), 0.0, 0.0, 0
    for _ in range(rounds):
        arm = int(policy.select(context(pool, cost=cost))[0])
        made = played(pool, arm, 0 if arm == 8 else accepted)
        policy.update(made)
        tokens, seconds, drafted = tokens + int(made.emitted[0]), seconds + cost[arm], drafted + (arm != 8)
        yield tokens, seconds, drafted


def test_trying_models_costs_no_more_than_its_budget_at_any_time():
    cost = np.array([3.0] * 8 + [1.0])
    for tokens, seconds, _ in _spent(cost, accepted=0):
        assert tokens + SLACK >= (1 - LOSS) * seconds - 1e-9
    assert tokens < seconds - 1, "some were tried"


def test_models_that_pay_are_played_all_the_same_and_their_gains_spent():
    *_, (tokens, seconds, drafted) = _spent(np.array([2.0] * 8 + [1.0]), accepted=3)
    assert drafted > 140
    assert tokens > 1.8 * seconds


def test_without_a_plain_arm_there_is_nothing_to_fall_back_on():
    pool = Pool([SMALL], [(0, 3)])
    policy = bound("default:objective=time", pool)
    for _ in range(50):
        assert policy.select(context(pool, cost=np.array([3.0]))).tolist() == [0]
        policy.update(played(pool, 0, 0))
