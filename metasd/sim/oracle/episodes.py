"""What an episode is compared with once it is over: the best fixed arm and the clairvoyant optimum, worked out late.

The environment's side only. At temperature 0 both depend on the text alone and are kept, block by block of texts.
"""

from __future__ import annotations

import numpy as np

from metasd.core.noise import Keys
from metasd.core.pool import Pool
from metasd.core.records import Ints
from metasd.sim.oracle.board import Boards, fixed, optimum
from metasd.traces.trace import Trace

_BLOCK = 256


class Comparators:
    """Rounds of the best fixed arm and of the optimum, by text."""

    def __init__(self, trace: Trace, pool: Pool, budget: int | None) -> None:
        self._sampled = trace.sampled
        self._boards = Boards(trace, pool, budget)
        self._known = np.full((2, len(trace)), -1, np.int64)

    def rounds(self, texts: Ints, judge: Keys | None) -> Ints:
        """[2, n] rounds of the best fixed arm and of the optimum; above temperature 0 with the luck ``judge`` [n]."""
        if self._sampled:
            return self._work_out(texts, judge)
        known = self._known.take(texts, axis=1)
        if (known[0] < 0).any():
            for block in np.unique(texts[known[0] < 0] // _BLOCK):
                members = np.arange(block * _BLOCK, min((block + 1) * _BLOCK, self._known.shape[1]))
                members = members[self._boards.lengths[members] > 0]
                self._known[:, members] = self._work_out(members, None)
            known = self._known.take(texts, axis=1)
        return known

    def _work_out(self, texts: Ints, judge: Keys | None) -> Ints:
        out = np.zeros((2, len(texts)), np.int64)
        for part in self._boards.chunks(texts):
            board = self._boards.board(texts[part], None if judge is None else judge[part])
            out[0, part] = fixed(board, board.emitted).min(axis=1)
            out[1, part] = np.rint(optimum(board)[0])
        return out
