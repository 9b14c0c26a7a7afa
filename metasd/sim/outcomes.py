"""What a trace says of a draft, as the arguments and results of ``settle``.

Knows the trace's arrays and the pool; knows nothing of lanes, texts in progress or clocks. Nothing here walks the
trace: a memory-mapped one of 1e7 rows costs only the rows that are asked for.

In the middle of a text (further than the longest draft from its end and from its budget) a round's outcome depends
on three small numbers alone: the arm, the length of the proposal and how much of it the text agrees with. ``settle``
is therefore called once for every such triple and its answers are looked up; near an end it is called itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import NO_END, Floats, Ints, Rounds, settle
from metasd.errors import TraceError, UsageError
from metasd.noise import Keys, uniform_at
from metasd.pool import Pool
from metasd.traces.trace import Trace

_FAR = np.int64(1 << 40)  # a budget that is not in sight
_DRAFTED, _ACCEPTED, _EMITTED, _BYTE = 8, 16, 24, 255


def budgets(trace: Trace, budget: int | None) -> Ints:
    """[P] the token budget of each text: ``budget``, or the one it was recorded under.

    A text that ended by itself keeps the whole budget: ``remaining`` must not tell how long the text will be.
    Raises UsageError for a budget below 1 or above the length of a text that the recorder's budget cut.
    """
    lengths = trace.lengths
    if budget is None:
        recorded = trace.manifest.get("config", trace.manifest).get("max_new_tokens")
        longest = int(lengths.max()) if len(lengths) else 0
        return np.where(trace.ended, max(longest, int(recorded or 0)), lengths)
    if budget < 1:
        raise UsageError(f"a budget of {budget} tokens; give 1 or more")
    short = np.flatnonzero(~np.asarray(trace.ended) & (lengths < budget))
    if len(short):
        p = int(short[0])
        raise UsageError(
            f"a budget of {budget} tokens, but text {trace.ids[p]!r} was cut by the recorder after {lengths[p]}; "
            f"give at most {int(lengths[short].min())} or record again with a larger one"
        )
    return np.full(len(trace), budget, np.int64)


def check_pool(trace: Trace, pool: Pool) -> None:
    """Raises UsageError unless ``pool`` is over the trace's drafters, within the draft lengths it records."""
    if [d.name for d in pool.drafters] != [d.name for d in trace.drafters]:
        names = ", ".join(d.name for d in trace.drafters)
        raise UsageError(f"the pool's drafters are not the trace's ({names}); use trace.pool()")
    for arm in pool.arms:
        if arm.drafter >= 0 and arm.draft_length > trace.draft_lengths[arm.drafter]:
            raise UsageError(f"arm {arm.name} drafts more than the recorded {trace.draft_lengths[arm.drafter]}")


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """The same memory without the ``memmap`` class, whose indexing is slower."""
    return np.asarray(array).view(np.ndarray)


class Outcomes:
    """Tabulated ``settle`` over a trace and a pool.

    Args of its methods are [n] int64 unless said: ``row`` the trace row a draft starts at, ``drafter``, ``arm``.
    """

    def __init__(self, trace: Trace, pool: Pool) -> None:
        check_pool(trace, pool)
        self.pool = pool
        self.D = len(trace.drafters)
        self.depth = trace.depth
        self.proposed = plain(trace.proposed)
        self._accepted = plain(trace.accepted).reshape(-1)
        self._proposed = self.proposed.reshape(-1)
        deep = (-1, self.depth)
        self._accept = None if trace.accept is None else plain(trace.accept).reshape(deep)
        self._overlap = None if trace.overlap is None else plain(trace.overlap).reshape(deep)
        self._side = self.depth + 1
        self._table = self._tabulate()

    def _tabulate(self) -> Ints:
        """[K * (depth + 1)^2] packed answers of ``settle`` in the middle of a text."""
        cells = np.indices((len(self.pool), self._side, self._side)).reshape(3, -1)
        arm, proposed, agreed = (c.astype(np.int64) for c in cells)
        zero, far = np.zeros(len(arm), np.int64), np.full(len(arm), _FAR)
        made = settle(
            lane=zero,
            prompt=zero,
            arm=arm,
            draft_length=self.pool.draft_length[arm],
            position=zero,
            remaining=far,
            proposed=proposed,
            agreed=agreed,
            ends_in=np.full(len(arm), NO_END),
            catch_up=zero,
        )
        return pack(made)

    def proposal(self, row: Ints, drafter: Ints) -> NDArray[np.uint8]:
        """[n] tokens the drafter offers at the row."""
        if not self.D:
            return np.zeros(len(row), np.uint8)
        return np.minimum(self._proposed.take(row * self.D + drafter), np.uint8(self.depth))

    def leading(self, row: Ints, drafter: Ints) -> NDArray[np.uint8]:
        """[n] leading draft tokens equal to the text's; above temperature 0 a length for one-hot proposals only."""
        return self._accepted.take(row * self.D + drafter)

    def agreed(self, row: Ints, drafter: Ints, judge: Keys | None, position: Ints) -> NDArray[Any]:
        """[n] leading draft tokens the text agrees with.

        Above temperature 0 each is accepted with the recorded probability, decided by the uniform of its text
        position in the stream ``judge`` [n]: one uniform a position, whichever drafter is judged there (every
        position is judged at most once in a run, and policies compared on one text share the luck).
        """
        if not self.D:
            return np.zeros(len(row), np.uint8)
        if self._accept is None:
            return self._accepted.take(row * self.D + drafter)
        if judge is None:
            raise TraceError("this trace was sampled: replaying it needs a stream to judge drafts with")
        chance = self._accept.take(row * self.D + drafter, axis=0)
        u = uniform_at(judge[:, None], position[:, None] + np.arange(self.depth))
        return np.minimum.accumulate(u < chance, axis=1).sum(axis=1)

    def overlap(self, row: Ints, drafter: Ints, drafted: Ints) -> Floats:
        """[n, G] overlap at each drafted position of the drafter's own chain, NaN beyond.

        Raises UsageError when the trace did not record it.
        """
        if self._overlap is None:
            raise UsageError("this trace records no overlap; use reward=block_efficiency")
        width = self.pool.max_draft_length
        values = self._overlap.take(row * self.D + drafter, axis=0)[:, :width].astype(np.float32)
        values[np.arange(width) >= drafted[:, None]] = np.nan
        return values

    def packed(self, arm: Ints, proposed: NDArray[Any], agreed: NDArray[Any]) -> Ints:
        """[n] outcomes far from any end, see ``unpack``."""
        cell = (arm * self._side + proposed) * self._side + agreed
        return self._table.take(cell)


def pack(rounds: Rounds) -> Ints:
    """[n] stop reason, drafted, accepted and emitted of each round in one integer."""
    return rounds.stop + (rounds.drafted << _DRAFTED) + (rounds.accepted << _ACCEPTED) + (rounds.emitted << _EMITTED)


def unpack(packed: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Drafted, accepted, emitted and stop reason, each [n]."""
    return (packed >> _DRAFTED) & _BYTE, (packed >> _ACCEPTED) & _BYTE, packed >> _EMITTED, packed & _BYTE
