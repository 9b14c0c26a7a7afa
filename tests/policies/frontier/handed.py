"""What a policy is handed, made by hand: contexts, rounds, what was revealed."""

from __future__ import annotations

import numpy as np

from metasd.core.pool import DrafterInfo
from metasd.core.records import NO_END, Context, Revealed, settle
from metasd.core.signals import INDEX, F
from metasd.policies import make

LOOKUP = DrafterInfo("lookup", "lookup", free=True, deterministic=True)
SMALL = DrafterInfo("small", "model", free=False, deterministic=False)
BIG = DrafterInfo("big", "model", free=False, deterministic=False)


def bound(spec, pool, lanes=1):
    policy = make(spec)
    policy.bind(pool, lanes, overlap=False)
    policy.begin(np.arange(lanes), np.arange(lanes).astype(np.uint64))
    return policy


def context(pool, lanes=1, match=None, cost=None, remaining=1000, proposal=20):
    signals = np.full((lanes, len(pool.drafters), F), np.nan, np.float32)
    available = np.ones((lanes, len(pool)), bool)
    if match is None:
        available[:, pool.free[pool.drafter_of] & ~pool.plain] = False
    else:
        signals[:, pool.free, INDEX["match_length"]] = match
        signals[:, pool.free, INDEX["proposal_length"]] = proposal
    return Context(
        position=np.zeros(lanes, np.int64),
        remaining=np.full(lanes, remaining),
        available=available,
        signals=signals,
        cost=None if cost is None else np.tile(cost, (lanes, 1)),
    )


def played(pool, arm, agreed, lanes=1):
    n = np.arange(lanes)
    return settle(
        lane=n,
        prompt=n,
        arm=np.full(lanes, arm),
        draft_length=np.full(lanes, pool.draft_length[arm]),
        position=np.zeros(lanes, np.int64),
        remaining=np.full(lanes, 1000),
        proposed=np.full(lanes, pool.draft_length[arm]),
        agreed=np.full(lanes, agreed),
        ends_in=np.full(lanes, NO_END),
        catch_up=np.zeros(lanes, np.int64),
    )


def revealed(pool, accepted, *, censored=False, ended=False, match=5):
    signals = np.full((1, len(pool.drafters), F), np.nan, np.float32)
    signals[:, 0, INDEX["match_length"]] = match
    none = np.zeros(0, np.int64)
    return Revealed(
        none,
        none,
        np.zeros((0, len(pool.drafters))),
        start_lane=np.array([0]),
        start=np.array([0]),
        drafter=np.array([0]),
        proposed=np.array([20]),
        accepted=np.array([accepted]),
        ended=np.array([ended]),
        censored=np.array([censored]),
        signals=signals,
    )
