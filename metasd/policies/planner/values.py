"""Logistic regressions learned online, one Newton step at a time, for every lane.

A += X'diag(p(1 - p) + 0.01) X, w += A^-1 X'(y - p), A beginning with 1: the online Newton step of logistic regression
(Hazan, Agarwal, Kale 2007), with unit weight a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metasd.core.records import Floats, Ints

STEADY = 0.01
PATIENCE = 4
"""Blocks of rows after which the step is taken: solving costs more than all else."""


Cells = tuple[int, ...]


class Noted:
    """Rows that wait: the cells set in each, whether it came true, and the chance that it had."""

    __slots__ = ("cells", "chances", "right")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget them."""
        self.cells: list[Cells] = []
        self.right: list[bool] = []
        self.chances: list[float] = []


class Logistic:
    """B regressions of the same width. All state is arrays with the lane first, once it is folded."""

    def __init__(self, lanes: int, cold: Floats, patience: int = PATIENCE) -> None:
        width = len(cold)
        self._cold, self._patience = cold, patience
        self._noted = [Noted() for _ in range(lanes)]
        self.weights = np.zeros((lanes, width))
        self.moments = np.zeros((lanes, width, width))
        self.gradient = np.zeros((lanes, width))
        self.waiting = np.zeros(lanes, np.int64)
        self.clear(np.arange(lanes))

    def clear(self, lanes: Ints) -> None:
        """Forget what was learned on ``lanes``."""
        for lane in lanes.tolist():
            self._noted[lane].clear()
        self.weights[lanes] = self._cold
        self.moments[lanes] = np.eye(len(self._cold))
        self.gradient[lanes], self.waiting[lanes] = 0.0, 0

    def learn(self, lane: int, x: Floats, y: Floats, p: Floats) -> bool:
        """Learn rows ``x`` [r, W] with outcomes ``y`` [r] that had chances ``p`` [r]; whether weights changed."""
        self._add(lane, x, y, p)
        return self._wait(lane)

    def note(self, lane: int, cells: Sequence[Cells], right: Sequence[bool], chances: Sequence[float]) -> bool:
        """As ``learn``, for one-hot rows by the cells that are set; arithmetic is left until the step needs it."""
        noted = self._noted[lane]
        noted.cells += cells
        noted.right += right
        noted.chances += chances
        return self._wait(lane)

    def fold(self) -> None:
        """Add what was only noted, so that the arrays hold all there is to know."""
        for lane in range(len(self._noted)):
            self._fold(lane)

    def _fold(self, lane: int) -> None:
        noted = self._noted[lane]
        if noted.cells:
            x = one_hot(noted.cells, len(self._cold))
            self._add(lane, x, np.array(noted.right, float), np.array(noted.chances))
            noted.clear()

    def _add(self, lane: int, x: Floats, y: Floats, p: Floats) -> None:
        self.moments[lane] += x.T @ (x * (p * (1 - p) + STEADY)[:, None])
        self.gradient[lane] += (y - p) @ x

    def _wait(self, lane: int) -> bool:
        """Take the step where it is time to; whether it was."""
        waiting = int(self.waiting[lane]) + 1
        self.waiting[lane] = waiting
        if waiting < self._patience:
            return False
        self._fold(lane)
        moments = self.moments[lane]
        seen = np.flatnonzero(moments.diagonal() != 1.0)  # what was never set has a 1 there alone, and no gradient
        self.weights[lane, seen] += np.linalg.solve(moments[seen[:, None], seen], self.gradient[lane, seen])
        self.gradient[lane], self.waiting[lane] = 0.0, 0
        return True


def one_hot(cells: Sequence[Sequence[int]], width: int) -> Floats:
    """[r, width] rows with ones at ``cells``."""
    x = np.zeros((len(cells), width))
    x[np.arange(len(cells))[:, None], np.array(cells)] = 1.0
    return x
