"""Rewards: what a policy learns from. Each maps Rounds to one number a round.

N_max of the paper is the pool's longest draft length G, the same for all arms, so that arms with different draft
lengths stay comparable. Positions that were not drafted count as zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Floats, Rounds

Reward = Callable[[Rounds, Pool], Floats]


def block_efficiency(rounds: Rounds, pool: Pool) -> Floats:
    """[n] accepted / G, in [0, 1] (MetaSD, arXiv 2604.05417: r^BE)."""
    return rounds.accepted / max(pool.max_draft_length, 1)


def block_divergence(rounds: Rounds, pool: Pool) -> Floats:
    """[n] sum of 1 - TV(p, q) over the drafted positions, over G, in [0, 1] (arXiv 2604.05417, Definition 1: r^BD)."""
    if rounds.overlap is None:
        raise UsageError("reward block_divergence needs overlap, which is not recorded; use reward=block_efficiency")
    return np.asarray(np.nansum(rounds.overlap, axis=1, dtype=np.float64) / max(pool.max_draft_length, 1))


def tokens(rounds: Rounds, pool: Pool) -> Floats:
    """[n] emitted / (G + 1), in (0, 1] (BanditSpec, arXiv 2505.15141, scaled)."""
    return rounds.emitted / (pool.max_draft_length + 1)


def tokens_per_second(rounds: Rounds, pool: Pool) -> Floats:
    """[n] emitted / seconds, unbounded. Its mean is not throughput; the ratio policies use sums instead."""
    seconds = rounds.seconds
    if seconds is None:
        raise UsageError("reward tokens_per_second needs a clock, and this trace has no costs.json; use reward=tokens")
    return rounds.emitted / seconds


REWARDS: dict[str, Reward] = {
    "block_divergence": block_divergence,
    "block_efficiency": block_efficiency,
    "tokens": tokens,
    "tokens_per_second": tokens_per_second,
}

UNBOUNDED = ("tokens_per_second",)
"""Rewards that may exceed 1."""


def resolve(name: str, *, overlap: bool) -> str:
    """The reward called ``name``; ``auto`` is block_divergence where overlap is recorded, else block_efficiency."""
    if name == "auto":
        return "block_divergence" if overlap else "block_efficiency"
    if name not in REWARDS:
        raise UsageError(f"unknown reward {name!r}; choose one of auto, {', '.join(REWARDS)}")
    return name
