"""A session that a policy of plans plays, one round at a time, on clocks that ship."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.core.plans import Plan
from metasd.core.records import Rounds
from metasd.policies import Policy
from metasd.sim.replay.session import TraceSession
from metasd.traces import Trace


def gpu(batch: int) -> CostModel:
    """The modelled clock of a GPU at that batch size."""
    return CostModel.load(clocks.CLOCKS / f"gpu-b{batch}.json")


def session_of(trace: Trace, policy: Policy, lanes: int = 1, **more: Any) -> TraceSession:
    """All texts of ``trace`` in order on each lane, bound to ``policy``."""
    made = TraceSession.in_order(
        trace, orders=[np.arange(len(trace))] * lanes, seeds=range(lanes), **policy.wants(True, True), **more
    )
    policy.bind(made.pool, made.lanes)
    return made


def round_of(session: TraceSession, policy: Policy) -> tuple[list[Plan], Rounds]:
    """One round: what was planned, and how it ended."""
    if len(session.fresh):
        policy.begin(session.fresh, session.keys[session.fresh])
    plans = list(policy.plan(session.context, session.suggest))
    rounds = session.play_plans(plans)
    policy.judge(rounds, session.judged)
    return plans, rounds


def step(session: TraceSession, policy: Policy) -> list[Plan]:
    """The plans of one round, which has been played."""
    return round_of(session, policy)[0]
