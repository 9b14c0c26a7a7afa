"""Policies that explore apart from exploiting."""

from __future__ import annotations

from handmade import context, one_round

from metasd.policies import make


def test_sequential_halving_plays_blocks_and_keeps_one(bench):
    """4 arms, 80 tokens, share 0.4: 32 rounds in 2 phases, 4 each of 4 arms and then 8 each of 2."""
    pool = bench.pool(4, plain=False)
    policy = bench.bound(make("sequential-halving:share=0.4,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for _ in range(40):
        arm = int(policy.select(context(pool, remaining=80))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 3, 0, 4)[arm]))
    assert played == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [1] * 8 + [3] * 8 + [3] * 8
    assert policy.alive.tolist() == [[False, False, False, True]]


def test_explore_then_commit_never_looks_back(bench):
    pool = bench.pool(3, plain=False)
    policy = bench.bound(make("explore-then-commit:pulls=2,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for t in range(20):
        arm = int(policy.select(context(pool))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 4, 2)[arm] if t < 6 else 0))
    assert played == [0, 0, 1, 1, 2, 2] + [1] * 14
