"""What rounds of each arm cost a request now, for policies that weigh tokens against time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.serve.pace import Pace

CAUTION = 1.3
"""What a policy is told that a draft token costs, for each that it does: the draft that looks best of all requests' is
mostly one whose worth was overrated, and in a batch bound by arithmetic each such mistake costs as much as a token."""


class Prices:
    """Costs in rounds without drafts in a batch of the present size: a unit in which what a policy learned of its own
    speed holds as the batch grows.

    Attributes:
        token: what a draft token costs in the coming step, without ``CAUTION``.
    """

    def __init__(self, pace: Pace, pool: Pool) -> None:
        self._pace, self._pool = pace, pool
        self._cost = np.ones((0, len(pool)))  # [lanes, K] as each lane was last told
        self.token = 0.0

    def tell(self, count: int, lanes: Ints, offered: NDArray[np.float32]) -> Floats:
        """[count, K] what a round of each arm costs, for the n ``lanes`` of the coming step.

        offered [n, D]: tokens that each drafter proposes, NaN for none.
        """
        if len(self._cost) < count:
            self._cost = np.concatenate((self._cost, np.ones((count - len(self._cost), len(self._pool)))))
        self.token = self._pace.price(len(lanes))
        drafted = np.zeros((len(lanes), len(self._pool)))
        arms = np.flatnonzero(~self._pool.plain)
        drafted[:, arms] = np.fmin(offered[:, self._pool.drafter_of[arms]], self._pool.draft_length[arms])
        self._cost[lanes] = 1.0 + CAUTION * self.token * drafted
        return self._cost

    def told(self, lanes: Ints, arms: Ints) -> Floats:
        """[n] what the round of an arm on a lane was said to cost."""
        return np.asarray(self._cost[lanes, arms])
