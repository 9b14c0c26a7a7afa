"""Requests as the lanes of one policy: who has which lane, and what a new request starts from.

Where the policy keeps what it learned, requests learn from each other. Of a policy that says what of it adds up
(``Policy.sums``) lane 0 is nobody's: it holds what all requests, past and present, taught together, and hands it out
again. Of any other policy a new request inherits from the lane that has learned most. Lanes are made as they are
needed, twice as many each time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.pool import Pool
from metasd.policies import Policy

FIRST = 8
BASE = 0

SHARE = 16
"""Steps after which all requests share what they learned; before a new one begins they do so too."""


class Lanes:
    """See the module docstring. ``taught`` [lanes]: rounds that each lane's knowledge is made of."""

    def __init__(self, policy: Policy, pool: Pool, reset: str | None, seed: int) -> None:
        self._policy, self._pool, self._reset, self._seed = policy, pool, reset, seed
        self.count = FIRST
        policy.bind(pool, FIRST, reset=reset, overlap=False)
        self.taught: NDArray[np.int64] = np.zeros(FIRST, np.int64)
        self._sharing = policy.reset == "never" and bool(policy.sums)
        self._busy: set[int] = set()
        self._free = list(range(BASE + 1 if self._sharing else 0, FIRST))
        self._known: dict[str, NDArray[np.float64]] = {}  # by sum: what of each lane lane 0 has too
        self._remember()

    @property
    def elder(self) -> int:
        """The lane that a new request starts from."""
        return BASE if self._sharing else int(self.taught.argmax())

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
        self._busy.add(lane)
        for name, known in self._known.items():
            known[lane] = getattr(self._policy, name)[lane]
        return lane

    def release(self, lane: int) -> None:
        """The request is over; what it taught stays."""
        if self._sharing:
            self._gather(np.array([lane]))
        self._busy.remove(lane)
        self._free.append(lane)
        self._free.sort()

    def share(self) -> None:
        """Every request knows from now on what any of them has learned."""
        if not (self._sharing and self._busy):
            return
        busy = np.array(sorted(self._busy))
        self._gather(busy)
        for name in (*self._policy.sums, *self._policy.derived):
            values = getattr(self._policy, name)
            values[busy] = values[BASE]
        for name, known in self._known.items():
            known[busy] = getattr(self._policy, name)[BASE]

    def _gather(self, lanes: NDArray[np.int64]) -> None:
        """Lane 0 learns what ``lanes`` have learned since they last told it."""
        told = {}
        for name, known in self._known.items():
            now = getattr(self._policy, name)[lanes]
            told[name] = (now - known[lanes]).sum(axis=0)
            known[lanes] = now
        self._policy.accumulate(BASE, told)

    def _remember(self) -> None:
        if self._sharing:
            self._known = {name: getattr(self._policy, name).copy() for name in self._policy.sums}

    def _grow(self) -> None:
        old, state, known = self.count, self._policy.state_dict(), self._known
        self.count *= 2
        self._policy.bind(self._pool, self.count, reset=self._reset, overlap=False)
        wider = self._policy.state_dict()
        for name, value in state.items():
            wider[name][:old] = value
        self._policy.load_state_dict(wider)
        self.taught = np.concatenate((self.taught, np.zeros(old, np.int64)))
        self._free += range(old, self.count)
        self._remember()
        for name, values in known.items():
            self._known[name][:old] = values
