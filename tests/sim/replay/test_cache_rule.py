"""The cache rule of heads in replay: lanes, plans, the scalar walk and the optimum in seconds, counted apart."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gymnasium as gym
import numpy as np
import pytest

import metasd  # noqa: F401 - registers the environment
from metasd.core.cache_rule import COMMITTED, PREFIX
from metasd.core.plans import Plan
from metasd.core.pool import Pool
from metasd.sim.oracle.seconds import clairvoyant_seconds
from metasd.sim.replay.session import TraceSession
from metasd.traces.find import register_trace

MODEL = 2
ARMS = [(0, 4), (MODEL, 3), (MODEL, 1), (-1, 0)]


def under(make_trace, rule, seed=0, **more):
    trace = make_trace(seed, **more)
    trace.drafters = tuple(d if d.free else replace(d, cache_rule=rule) for d in trace.drafters)
    trace.manifest = {**trace.manifest, "pool": Pool(trace.drafters, ARMS).to_json()}
    return trace


def counted(trace, rounds, rule):
    """[rounds] tokens that the model drafter has to read before its rounds, told from the rounds alone."""
    found, read = [], {}
    for r in range(len(rounds.arm)):
        p, t = int(rounds.prompt[r]), int(rounds.position[r])
        n = int(trace.prompt_lengths[p]) + t
        if ARMS[rounds.arm[r]][0] != MODEL or not rounds.drafted[r]:
            found.append(0)
            continue
        found.append(n - 1 - read.get(p, 0))
        kept = min(int(rounds.drafted[r]) - 1, int(rounds.accepted[r]))
        read[p] = n - 1 if rule == COMMITTED else n + kept
    return found


def played(trace, choose, plans=False):
    session = TraceSession.in_order(trace, Pool(trace.drafters, ARMS), orders=[np.arange(5)], seeds=[0], plans=plans)
    rounds = []
    while not session.done:
        arm = choose(len(rounds))
        if plans:
            drafter, length = ARMS[arm]
            plan = Plan(model=drafter, depth=length) if drafter == MODEL else Plan()
            rounds.append(session.play_plans([plan]))
        else:
            rounds.append(session.play(np.array([arm])))
    return rounds


@pytest.mark.parametrize("rule", [PREFIX, COMMITTED])
@pytest.mark.parametrize("plans", [False, True])
def test_catch_up_of_rounds(make_trace, rule, plans):
    trace = under(make_trace, rule)
    arms = [(7 * i * i + i) % 4 for i in range(200)]
    rounds = played(trace, lambda n: arms[n], plans)
    if plans:
        for r, arm in zip(rounds, arms, strict=False):
            r.arm[:] = arm
    joined = type("Joined", (), {})()
    for name in ("arm", "prompt", "position", "drafted", "accepted", "catch_up"):
        setattr(joined, name, np.concatenate([getattr(r, name) for r in rounds]))
    wanted = counted(trace, joined, rule)
    assert joined.catch_up.tolist() == wanted
    assert sum(w > 0 for w in wanted) > 5


def test_the_two_rules_differ(make_trace):
    totals = [
        sum(int(r.catch_up.sum()) for r in played(under(make_trace, w), lambda n: 1)) for w in (PREFIX, COMMITTED)
    ]
    assert totals[0] < totals[1]


def test_the_scalar_walk_spends_what_a_session_spends(make_trace):
    trace = under(make_trace, COMMITTED)
    env = gym.make("MetaSD-v0", trace=register_trace("heads", trace))
    for p in range(5):
        env.reset(options={"prompt": p})
        over, n = False, 0
        while not over:
            *_, over, _, info = env.step((n * n + 1) % 4)
            n += 1
        session = TraceSession(trace, episodes=[[p]], seeds=[0])
        seconds = 0.0
        for k in range(n):
            seconds += float(session.play(np.array([(k * k + 1) % 4])).seconds[0])
        assert session.done
        assert info["seconds"] == pytest.approx(seconds)


def test_the_optimum_in_seconds_follows_the_rule(make_trace):
    for seed in range(2):
        trace = under(make_trace, COMMITTED, seed, lengths=(12, 1, 9))
        found = clairvoyant_seconds(trace, Pool(trace.drafters, ARMS))
        assert found.exact
        np.testing.assert_allclose(found.least, [least(trace, p) for p in range(3)])


def least(trace, p):
    """Least seconds of a text by trying all, what the model drafter has read in the state."""
    lo, hi, prompt = int(trace.offsets[p]), int(trace.offsets[p + 1]), int(trace.prompt_lengths[p])
    costs = trace.costs

    @cache
    def value(t, read):
        if lo + t >= hi:
            return 0.0
        found = []
        for d, length in ARMS:
            left = hi - lo - t + (100 if trace.ended[p] else 0)
            m = min(int(trace.proposed[lo + t, d]), length, left - 1) if length else 0
            a = min(int(trace.accepted[lo + t, d]), m)
            cost = float(costs.verify(np.array(m), np.array(prompt + t)))
            after, drafter = read, np.array(max(d, 0))
            cost += float(costs.draft(drafter, np.array(m)))
            if m and d == MODEL:
                cost += float(costs.catch_up(drafter, np.array(prompt + t - 1 - read)))
                after = prompt + t - 1
            found.append(cost + value(t + min(a + 1, hi - lo - t), after))
        return min(found)

    return value(0, 0)
