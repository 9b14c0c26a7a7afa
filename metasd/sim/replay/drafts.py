"""What a trace says of a draft, as arguments of ``settle``.

Knows the trace's arrays and the pool; knows nothing of lanes, texts in progress or clocks. Nothing here walks the
trace: a memory-mapped one of 1e7 rows costs only the rows that are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import TraceError, UsageError
from metasd.core.noise import Keys, uniform_at
from metasd.core.pool import Pool
from metasd.core.records import UNKNOWN_BUDGET, Floats, Ints, StopReason
from metasd.traces.trace import Trace


def budgets(trace: Trace, budget: int | None) -> Ints:
    """[P] the token budget of each text: ``budget``, or the one it was recorded under.

    A text that ended by itself keeps the whole budget: ``remaining`` must not tell how long the text will be. Where
    none is recorded (imports) it is UNKNOWN_BUDGET, which says nothing of any text either; ``left`` keeps it so.
    Raises UsageError for a budget below 1 or above the length of a text that the recorder's budget cut.
    """
    lengths = trace.lengths
    if budget is None:
        recorded = trace.manifest.get("config", trace.manifest).get("max_new_tokens")
        return np.where(trace.ended, max(int(lengths.max(initial=0)), int(recorded or UNKNOWN_BUDGET)), lengths)
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


def left(limit: Ints, row: Ints) -> Ints:
    """``Context.remaining`` at trace rows whose budgets end at ``limit``: what is unknown stays unknown."""
    tokens = limit - row
    return np.where(tokens > UNKNOWN_BUDGET >> 1, UNKNOWN_BUDGET, tokens)


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
    """What the drafters of a trace offered and what became of it, by ``cell`` [n] int64 = row * D + drafter."""

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
        branches = trace.sampled and trace.manifest.get("config", {}).get("chains") == "rejected"
        self._branches = np.array([not d.deterministic for d in trace.drafters]) if branches else None

    def proposal(self, cell: Ints) -> NDArray[np.uint8]:
        """[n] tokens the drafter offers at the row."""
        if not self.D:
            return np.zeros(len(cell), np.uint8)
        return np.minimum(self._proposed.take(cell), np.uint8(self.depth))

    def leading(self, cell: Ints) -> NDArray[np.uint8]:
        """[n] leading draft tokens equal to the text's; above temperature 0 a length for one-hot proposals only."""
        return self._accepted.take(cell)

    def agreed(self, cell: Ints, judge: Keys | None, position: Ints) -> NDArray[Any]:
        """[n] leading draft tokens the text agrees with.

        Above temperature 0 each is accepted with the recorded probability, decided by the uniform of its text
        position in the stream ``judge`` [n]: one uniform a position, whichever drafter is judged there (every
        position is judged at most once in a run, and policies compared on one text share the luck).
        """
        if not self.D:
            return np.zeros(len(cell), np.uint8)
        if self._accept is None:
            return np.minimum(self._accepted.take(cell), np.uint8(self.depth))
        if judge is None:
            raise TraceError("this trace was sampled: replaying it needs a stream to judge drafts with")
        u = uniform_at(judge[:, None], position[:, None] + np.arange(self.depth))
        return np.minimum.accumulate(u < self._accept.take(cell, axis=0), axis=1).sum(axis=1)

    def overlap(self, cell: Ints, drafted: Ints, accepted: Ints, stop: Ints) -> Floats:
        """[n, G] overlap at each drafted position of the drafter's own chain, NaN beyond.

        A sampled trace of the recorder's holds, for a drafter that samples, the chain that a rejection at its first
        token leads to (config ``chains`` "rejected"). A round that accepts k tokens is on the text up to depth k and
        on the branch of start t + k behind it: together with the text and the drawn bits that is the law of live
        decoding. Where the text ended inside the draft nothing is known behind its end: NaN.

        Raises UsageError when the trace did not record it.
        """
        if self._overlap is None:
            raise UsageError("this trace records no overlap; use reward=block_efficiency")
        width = self.pool.max_draft_length
        if self._branches is None:
            values = self._overlap.take(cell, axis=0)[:, :width].astype(np.float32)
        else:
            depth = np.arange(width)[None, :]
            on_text = np.where(self._branches[cell % self.D, None], np.minimum(depth, accepted[:, None]), 0)
            rows = np.minimum(cell[:, None] + on_text * self.D, len(self._overlap) - 1)
            values = self._overlap[rows, depth - on_text].astype(np.float32)
            over = self._branches[cell % self.D] & (stop == StopReason.TEXT_ENDED)
            values[over[:, None] & (depth >= accepted[:, None])] = np.nan
        values[np.arange(width) >= drafted[:, None]] = np.nan
        return values
