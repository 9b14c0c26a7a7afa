"""Policies that explore apart from exploiting."""

from __future__ import annotations

import math
import random

from handmade import context, one_round, uniforms

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


def test_sequential_halving_drops_by_the_mean_not_by_the_total(bench):
    """A phase of 16 rounds in which arm 3, always right, has a proposal in the last one only: it stays.

    Arms 0, 1 and 2 have 4 rounds each; the 3 rounds that wait for arm 3 go to the best of them, arm 2.
    """
    pool = bench.pool(4, plain=False)
    policy = bench.bound(make("sequential-halving:share=1,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for t in range(16):
        arm = int(policy.select(context(pool, remaining=32, available=[True, True, True, t == 15]))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 2, 3, 4)[arm]))
    assert played == [0] * 4 + [1] * 4 + [2] * 7 + [3]
    assert policy.alive.tolist() == [[False, False, True, True]]


def test_sequential_halving_takes_the_mean_over_all_phases(bench):
    """Arm 1: 4 rounds of 4 accepted, then 8 of 1 or 2, mean 28 / 12; arm 3: 2, more in the last phase."""
    pool = bench.pool(4, plain=False)
    policy = bench.bound(make("sequential-halving:share=0.4,reward=block_efficiency"), pool, bench.keys(1))
    for t in range(32):
        arm = int(policy.select(context(pool, remaining=80))[0])
        assert arm == ([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [1] * 8 + [3] * 8)[t]
        policy.update(one_round(pool, arm, (0, 4 if t < 16 else 1 + t % 2, 0, 2)[arm]))
    assert policy.alive.tolist() == [[False, True, False, False]]


def test_epsilon_greedy_equals_scalar_code(bench):
    """Two uniforms a round: the first decides whether to explore, the second which arm; means else."""
    pool, keys, rng, epsilon = bench.pool(3, plain=False), bench.keys(1), random.Random(8), 0.3
    policy = bench.bound(make(f"epsilon-greedy:epsilon={epsilon},reward=block_efficiency"), pool, keys)
    seen, u = [[], [], []], uniforms(keys[0])
    for _ in range(200):
        first, second = next(u), next(u)
        means = [sum(x) / len(x) if x else math.inf for x in seen]
        wanted = math.ceil(3 * second) - 1 if first < epsilon else means.index(max(means))
        assert policy.select(context(pool)).tolist() == [wanted]
        accepted = sum(1 for _ in range(4) if rng.random() < (0.5, 0.6, 0.55)[wanted])
        seen[wanted].append(accepted / 4)
        policy.update(one_round(pool, wanted, accepted))
