"""Rules that learn nothing: one arm, any arm, lookup where it matches."""

from __future__ import annotations

import numpy as np
import pytest
from handmade import context

from metasd.core.errors import UsageError
from metasd.core.records import Context
from metasd.core.signals import INDEX, F
from metasd.policies import make


def test_fixed_plays_its_arm_without_a_proposal_and_knows_names(bench):
    pool = bench.pool(2, lengths=(2, 4))
    for arm, name in enumerate(["lookup@2", "lookup@4", "small@2", "small@4", "plain"]):
        policy = bench.bound(make(f"fixed:arm={name}"), pool, bench.keys(1))
        assert policy.select(context(pool, available=[False] * 5)).tolist() == [arm]
    with pytest.raises(UsageError, match="nobody"):
        bench.bound(make("fixed:arm=nobody"), pool, bench.keys(1))
    with pytest.raises(UsageError, match="reward"):
        make("fixed:arm=plain,reward=tokens")


def test_random_is_uniform_over_the_allowed(bench):
    """6,000 draws over 2 of 4 arms: a share outside 0.5 +- 0.04 has probability below 1e-9."""
    pool = bench.pool()
    policy = bench.bound(make("random"), pool, bench.keys(6000))
    available = np.tile([True, False, True, False], (6000, 1))
    arms = policy.select(Context(np.zeros(6000, np.int64), np.ones(6000, np.int64), available))
    assert set(arms.tolist()) == {0, 2}
    assert abs((arms == 0).mean() - 0.5) < 0.04


def test_lookup_first_follows_the_match(bench):
    pool = bench.pool(3)
    policy = bench.bound(make("lookup-first:threshold=3"), pool, bench.keys(1))

    def arm(match, available=(True, True, True, True), rule=policy):
        signals = np.full((1, 3, F), np.nan)
        signals[0, 0, INDEX["match_length"]] = match
        return int(rule.select(context(pool, available=available, signals=signals))[0])

    assert [arm(3), arm(8), arm(2.5), arm(np.nan)] == [0, 0, 1, 1]
    assert arm(np.nan, (False, False, True, True)) == 2  # neither: the first arm allowed
    assert arm(1, (True, False, True, True)) == 0  # a short match is better than nothing
    other = bench.bound(make("lookup-first:otherwise=plain"), pool, bench.keys(1))
    assert arm(1, rule=other) == 3
    with pytest.raises(UsageError, match="match_length"):
        policy.select(context(pool))
