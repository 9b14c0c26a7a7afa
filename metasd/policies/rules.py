"""Rules that learn nothing, what every bandit is held against: one fixed arm, a random arm, lookup where it matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.pool import DRAFT_LENGTH
from metasd.core.records import Bools, Context, Ints, Rounds
from metasd.core.signals import INDEX
from metasd.policies.base import Policy, best
from metasd.policies.drawing import draw


class Rule(Policy):
    """A policy without memory. It needs no reward, so it names one that costs nothing to compute."""

    def __init__(self, mask: bool) -> None:
        super().__init__("block_efficiency", mask)

    def update(self, rounds: Rounds) -> None:
        """Nothing is learned."""


class Fixed(Rule):
    """Always the arm called ``arm``, whether it has a proposal or not (without one it is a plain round)."""

    def __init__(self, arm: str) -> None:
        super().__init__(False)
        self.arm = arm

    def allocate(self, lanes: int, arms: int) -> None:
        self._arm = self.pool.index(self.arm)

    def choose(self, context: Context, allowed: Bools) -> Ints:
        return np.full(len(allowed), self._arm, np.int64)


class Random(Rule):
    """Any allowed arm, each with the same probability."""

    def __init__(self, mask: bool = True) -> None:
        super().__init__(mask)

    def choose(self, context: Context, allowed: Bools) -> Ints:
        return draw(allowed.astype(np.float64), self.noise.uniform()[:, 0])


class LookupFirst(Rule):
    """Lookup where the text's end matches at least ``threshold`` tokens, else the arm called ``otherwise``.

    The rule that vLLM, llama.cpp and others ship as a fixed priority. ``drafter`` names the lookup drafter, or its arm
    where it has several; of those the one nearest to the usual draft length is taken. ``otherwise`` is by default the
    first other drafter, at the length nearest to that, and plain decoding without one.
    Where the wanted arm is not allowed, the other of the two is played, then the first arm allowed.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"signals"})

    def __init__(
        self, threshold: float = 3, drafter: str = "lookup", otherwise: str | None = None, mask: bool = True
    ) -> None:
        super().__init__(mask)
        self.threshold, self.drafter, self.otherwise = threshold, drafter, otherwise

    def allocate(self, lanes: int, arms: int) -> None:
        of = [i for i, a in enumerate(self.pool.arms) if a.drafter >= 0 and self._name(a.drafter) == self.drafter]
        self._lookup = self._nearest(of, DRAFT_LENGTH) if of else self.pool.index(self.drafter)
        self._otherwise = self._default() if self.otherwise is None else self.pool.index(self.otherwise)

    def _default(self) -> int:
        arms, lookup = self.pool.arms, self.pool.arms[self._lookup]
        others = [i for i, a in enumerate(arms) if a.drafter not in (-1, lookup.drafter)]
        if others:
            return self._nearest([i for i in others if arms[i].drafter == arms[others[0]].drafter], lookup.draft_length)
        return next((i for i, a in enumerate(arms) if a.drafter == -1), self._lookup)

    def _name(self, drafter: int) -> str:
        return self.pool.drafters[drafter].name

    def _nearest(self, arms: Sequence[int], length: int) -> int:
        """The first of ``arms`` whose draft length is nearest to ``length``."""
        return min(arms, key=lambda i: abs(self.pool.arms[i].draft_length - length))

    def choose(self, context: Context, allowed: Bools) -> Ints:
        if context.signals is None:
            raise UsageError("lookup-first needs the match_length signal, which is not recorded; use another policy")
        matched = context.signals[:, self.pool.drafter_of[self._lookup], INDEX["match_length"]]
        rank = np.zeros(allowed.shape)
        rank[:, [self._lookup, self._otherwise]] = 1.0
        wanted = np.where(matched >= self.threshold, self._lookup, self._otherwise)  # NaN, no match, compares false
        rank[np.arange(len(rank)), wanted] = 2.0
        return best(rank, allowed)
