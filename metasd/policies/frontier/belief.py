"""What the default policy keeps of a pool, and what it believes before it has seen a round.

Knows the pool and the prior; numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metasd.core.pool import Pool
from metasd.core.records import Bools, Floats, Ints
from metasd.policies.frontier.features import FROM_TABLE, W
from metasd.policies.frontier.prior import Prior

COLD_FREE, COLD_TABLE, COLD_MODEL = 6.0, 3.0, 3.0
"""Tokens a round expected, before anything is known, of a copy from the text, of an offline table, of a model."""
STIFF = 30.0
"""Rows of a free drafter that say "no effect" of every signal, where time is pursued: the largest of several indices is
one whose coefficients err upwards, which costs seconds. In rounds it costs nothing where a draft is as good as none."""


@dataclass(frozen=True, slots=True)
class PoolLayout:
    """What of the pool is needed at every step."""

    free: Bools  # [D]
    foretold: Bools  # [D] free drafters that starts are sure to teach; of one that samples not above temperature 0
    drafts: Bools  # [D] drafters that have an arm
    models: Ints  # drafters that are not free
    drafter_of: Ints  # [K]
    draft_length: Ints  # [K]
    plain: Bools  # [K]
    some_plain: bool
    arms: Ints  # [D, M] drafting arms of each drafter, by ascending draft length, the last repeated
    ladder: tuple[tuple[int, int], ...]  # (shorter, longer) neighbours among the arms of one drafter

    @classmethod
    def of(cls, pool: Pool) -> PoolLayout:
        count = max(len(pool.drafters), 1)
        free = pool.free if len(pool.drafters) else np.ones(1, bool)
        own = [np.flatnonzero(~pool.plain & (pool.drafter_of == d)) for d in range(count)]
        sorted_ = [a[np.argsort(pool.draft_length[a], kind="stable")].tolist() for a in own]
        longest = max(map(len, sorted_))
        return cls(
            free=free,
            foretold=free & np.array([d.deterministic for d in pool.drafters] or [True]),
            drafts=np.array([len(a) > 0 for a in own]),
            models=np.flatnonzero(~free),
            drafter_of=pool.drafter_of,
            draft_length=pool.draft_length,
            plain=pool.plain,
            some_plain=bool(pool.plain.any()),
            arms=np.array([a + (a[-1:] or [0]) * (longest - len(a)) for a in sorted_], np.int64),
            ladder=tuple((s, t) for a in sorted_ for s, t in pairwise(a)),
        )

    def level(self, value: Floats, offered: Floats) -> Floats:
        """[B, K] ``value``, made consistent: a longer draft of the same drafter never yields less than a shorter one,
        and the same where the proposal, ``offered`` [B, D] tokens (NaN: unknown), ends before."""
        value = value.copy()
        for short, long in self.ladder:
            value[:, long] = np.maximum(value[:, long], value[:, short])
            same = offered[:, self.drafter_of[short]] <= self.draft_length[short]  # False for NaN
            value[same, long] = value[same, short]
        return value


def geometric(rate: Floats | float, length: Ints | int) -> Floats:
    """Mean accepted of ``length`` draft tokens if each is accepted with chance ``rate`` < 1: r (1 - r^g) / (1 - r)."""
    return np.asarray(rate * (1.0 - rate**length) / (1.0 - rate))


def gather(lane: Ints, drafter: Ints, rows: Floats) -> tuple[Ints, Ints, Floats]:
    """Rows [r, C], those of one lane and drafter together, as one block for each of the g (lane, drafter).

    Returns ([g] its first row, [g] how many, [g, most, C] the blocks, padded with rows of 0).
    """
    new = np.ones(len(lane), bool)
    np.not_equal(lane[1:], lane[:-1], out=new[1:])
    new[1:] |= drafter[1:] != drafter[:-1]
    first = np.flatnonzero(new)
    if len(first) == len(lane):
        return first, np.ones(len(first), np.int64), rows[:, None]
    count = np.concatenate((first[1:], [len(lane)])) - first
    block = np.cumsum(new) - 1
    padded = np.zeros((len(first), int(count.max()), rows.shape[1]))
    padded[block, np.arange(len(lane)) - first[block]] = rows
    return first, count, padded


@dataclass(frozen=True, slots=True)
class Start:
    """Where every lane begins: regressions moments [D, W, W], b [K, W]."""

    moments: Floats
    b: Floats


def cold_start(layout: PoolLayout, stiff: float = 1.0) -> Start:
    """One row's worth of belief in the constants above, cut geometrically to each arm's draft length; that a signal
    says nothing is believed by ``stiff`` rows of free drafters, which every start teaches, and by one of models."""
    expected = np.where(layout.free, COLD_FREE, COLD_MODEL)
    rate = (expected - 1.0) / expected
    mean = 1.0 + geometric(rate[layout.drafter_of], layout.draft_length)
    b = np.zeros((len(mean), W))
    b[:, 0] = mean
    b[:, FROM_TABLE] = np.where(layout.free[layout.drafter_of], np.minimum(COLD_TABLE - mean, 0.0), 0.0)
    held = np.diag([1.0] + [stiff] * (W - 1))
    moments = np.where(layout.free[:, None, None], held, np.eye(W))
    return Start(moments, b)


def warm_start(layout: PoolLayout, prior: Prior, rows: float, cold: Start) -> Start:
    """``cold`` with the prior's beliefs, worth ``rows`` rows, for the drafters it knows."""
    moments = np.where(prior.known[:, None, None], rows * prior.moments, cold.moments)
    b = np.einsum("kvw,kw->kv", moments[layout.drafter_of], prior.theta)
    known = prior.known[layout.drafter_of] & ~layout.plain
    return Start(moments, np.where(known[:, None], b, cold.b))
