"""Rewards: the paper's two, and their scale over draft lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metasd.core import rewards
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds

POOL = Pool([DrafterInfo("a", "lookup", True, True)], [(0, 1), (0, 4)])


def one(**changed: object) -> Rounds:
    z = np.zeros(2, np.int64)
    base = Rounds(
        lane=np.arange(2),
        prompt=np.arange(2),
        arm=np.array([0, 1]),
        position=z,
        drafted=np.array([1, 4]),
        accepted=np.array([1, 2]),
        emitted=np.array([2, 3]),
        stop=z,
        finished=z.astype(bool),
        catch_up=z,
        overlap=np.array([[0.5, np.nan, np.nan, np.nan], [0.5, 0.25, 0.25, 1.0]]),
        draft_seconds=np.array([0.0, 1.0]),
        verify_seconds=np.array([1.0, 1.0]),
        catch_up_seconds=np.array([0.0, 1.0]),
    )
    return dataclasses.replace(base, **changed)


def test_every_arm_is_scaled_by_the_longest_draft_length() -> None:
    assert rewards.block_efficiency(one(), POOL).tolist() == [0.25, 0.5]
    assert rewards.block_divergence(one(), POOL).tolist() == [0.125, 0.5]
    assert rewards.tokens(one(), POOL).tolist() == [0.4, 0.6]
    assert rewards.tokens_per_second(one(), POOL).tolist() == [2.0, 1.0]


def test_what_a_reward_needs_and_does_not_get_is_named() -> None:
    with pytest.raises(UsageError, match="needs overlap"):
        rewards.block_divergence(one(overlap=None), POOL)
    with pytest.raises(UsageError, match="needs a clock"):
        rewards.tokens_per_second(one(draft_seconds=None), POOL)


def test_auto_is_resolved_and_said() -> None:
    assert rewards.resolve("auto", overlap=True) == "block_divergence"
    assert rewards.resolve("auto", overlap=False) == "block_efficiency"
    with pytest.raises(UsageError, match="'speed'"):
        rewards.resolve("speed", overlap=True)
