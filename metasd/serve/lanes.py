"""Requests as the lanes of one policy: who has which lane, and what a new request starts from.

Where the policy keeps what it learned, a new request inherits from the lane that has learned most. Lanes are made as
they are needed, twice as many each time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.pool import Pool
from metasd.policies import Policy

FIRST = 8


class Lanes:
    """See the module docstring. ``taught`` [lanes]: rounds that each lane's knowledge is made of."""

    def __init__(self, policy: Policy, pool: Pool, reset: str | None, seed: int) -> None:
        self._policy, self._pool, self._reset, self._seed = policy, pool, reset, seed
        self.count = FIRST
        policy.bind(pool, FIRST, reset=reset, overlap=False)
        self.taught: NDArray[np.int64] = np.zeros(FIRST, np.int64)
        self._free = list(range(FIRST))

    @property
    def elder(self) -> int:
        """The lane that has learned most."""
        return int(self.taught.argmax())

    def take(self, number: int) -> int:
        """A lane for the request of that ``number``, its text begun."""
        if not self._free:
            self._grow()
        lane = self._free.pop(0)
        lanes = np.array([lane])
        if self._policy.reset == "never" and self.elder != lane:
            self._policy.inherit(lanes, self.elder)
            self.taught[lane] = self.taught[self.elder]
        self._policy.begin(lanes, np.array([noise.key(self._seed, number)]))
        return lane

    def release(self, lane: int) -> None:
        self._free.append(lane)
        self._free.sort()

    def _grow(self) -> None:
        old, state = self.count, self._policy.state_dict()
        self.count *= 2
        self._policy.bind(self._pool, self.count, reset=self._reset, overlap=False)
        wider = self._policy.state_dict()
        for name, value in state.items():
            wider[name][:old] = value
        self._policy.load_state_dict(wider)
        self.taught = np.concatenate((self.taught, np.zeros(old, np.int64)))
        self._free += range(old, self.count)
