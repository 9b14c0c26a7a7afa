"""Policies that switch seldom, against scalar code written from their papers."""

from __future__ import annotations

import math

import numpy as np

from metasd.policies import make
from metasd.policies.switching import tsallis


def test_ucb2_plays_in_the_blocks_of_its_paper(bench):
    """Each block of an arm lasts tau(r + 1) - tau(r) rounds after its first trial."""
    pool, keys = bench.pool(3, plain=False), bench.keys(1)
    policy = bench.bound(make("ucb2:alpha=0.5"), pool, keys)
    played = bench.drive(policy, bench.World(pool, [0.3, 0.8, 0.6], keys), 400)[:, 0]
    cuts = np.flatnonzero(np.diff(played)) + 1
    runs = [(int(r[0]), len(r)) for r in np.split(played, cuts)]
    assert runs[:3] == [(0, 1), (1, 1), (2, 1)]
    tau = [math.ceil(1.5**r) for r in range(40)]
    at = {0: 0, 1: 0, 2: 0}
    for arm, length in runs[3:-1]:
        begin = at[arm]
        while length > 0:
            length -= max(tau[at[arm] + 1] - tau[at[arm]], 1)
            at[arm] += 1
        assert length == 0
        assert at[arm] > begin
    assert len(runs) < 60


def test_tsallis_weights_solve_their_equation():
    loss = np.array([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0], [0.0, 300.0, 9.0]])
    allowed = np.array([[True] * 3, [True] * 3, [False, True, True]])
    rate = np.array([0.5, 1.0, 0.1])
    p = tsallis(loss, allowed, rate)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p[2, 0] == 0
    np.testing.assert_allclose(p[1], 1 / 3)
    for row in range(3):
        x = [loss[row, i] - 2 / (rate[row] * math.sqrt(p[row, i])) for i in range(3) if p[row, i] > 0]
        np.testing.assert_allclose(x, x[0], rtol=1e-6, atol=1e-6)  # one x for all arms


def test_tsallis_switches_less_when_a_switch_costs_more(bench):
    pool, keys = bench.pool(3, plain=False), bench.keys(8)
    switches = []
    for price in (0, 1, 4):
        policy = bench.bound(make(f"tsallis-switch:price={price}"), pool, keys)
        played = bench.drive(policy, bench.World(pool, [0.5, 0.6, 0.4], keys), 200)
        switches.append(int((np.diff(played, axis=0) != 0).sum()))
    assert switches[0] > 2 * switches[1] > 3 * switches[2]


def test_ucb2_resumes_a_block_that_was_cut_short(bench):
    """An arm that comes and goes must not climb through its blocks without playing them."""
    pool, keys = bench.pool(), bench.keys(3)
    policy = bench.bound(make("ucb2"), pool, keys)
    bench.drive(policy, bench.World(pool, [0.7, 0.5, 0.3], keys, shows=[0.5, 1.0, 1.0]), 300)
    assert (policy.n >= policy.tau(policy.blocks) - policy.left - 1).all()
