"""Seconds of a round: measured and modelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.runtime.load import Target
from metasd.runtime.session import LiveSession

from .sessions import ARMS, LONG, LOOKUP, PLAIN, PROMPTS, SKIP, cycle, drafters_for, play_all


def costs(pool: Pool) -> CostModel:
    names = tuple(d.name for d in pool.drafters)
    four = np.arange(1.0, 5.0)
    return CostModel(
        names[::-1],
        widths=np.array([1.0, 9.0]),
        verify_seconds=np.array([10.0, 18.0]),
        draft_fixed=four,
        draft_per_token=four / 4,
        catch_up_fixed=four * 2,
        catch_up_per_token=four / 8,
        context=10.0,
        verify_per_context=0.5,
        overhead=0.25,
    )


def test_the_cost_models_clock(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    model = costs(pool)
    session = LiveSession(
        target, made, pool, PROMPTS, max_new_tokens=20, costs=model, clock="model", reads=frozenset({"cost"})
    )
    for arm in cycle(LONG, SKIP, PLAIN, LOOKUP):
        if session.done:
            break
        context, at = session.context, session.at[0]
        r = session.play(np.array([arm]))
        column = 3 - max(ARMS[arm][0], 0)
        drafted, caught = int(r.drafted[0]), int(r.catch_up[0])
        where = len(PROMPTS[at][1]) + int(r.position[0])
        assert r.verify_seconds == pytest.approx([10.0 + drafted + 0.5 * (where - 10) + 0.25])
        assert r.draft_seconds == pytest.approx([(column + 1) * (1 + drafted / 4) if drafted else 0.0])
        assert r.catch_up_seconds == pytest.approx([(column + 1) * (2 + caught / 8) if caught else 0.0])
        assert r.seconds is not None
        assert context.cost is not None
        if drafted == ARMS[arm][1]:
            assert context.cost[0, arm] == pytest.approx(r.seconds[0]), "what was expected is what was charged"


def test_measured_time_adds_up(target: Target, tiny_drafter: Any) -> None:
    made, pool = drafters_for(target, tiny_drafter)
    session = LiveSession(target, made, pool, PROMPTS, max_new_tokens=20)
    rounds = play_all(session, cycle(LONG, LOOKUP))
    assert rounds.seconds is not None
    assert rounds.seconds.sum() == pytest.approx(session.seconds)
    assert session.forward_share is not None
    assert 0 < session.forward_share < 1
    assert session.prefill_seconds > 0
    drew = rounds.arm == LONG
    assert (rounds.draft_seconds[drew & (rounds.drafted > 0)] > 0).all()  # type: ignore[index]
