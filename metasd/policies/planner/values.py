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


class Logistic:
    """B regressions of the same width. All state is arrays with the lane first."""

    def __init__(self, lanes: int, cold: Floats, patience: int = PATIENCE) -> None:
        width = len(cold)
        self._cold, self._patience = cold, patience
        self.weights = np.zeros((lanes, width))
        self.moments = np.zeros((lanes, width, width))
        self.gradient = np.zeros((lanes, width))
        self.waiting = np.zeros(lanes, np.int64)
        self.clear(np.arange(lanes))

    def clear(self, lanes: Ints) -> None:
        """Forget what was learned on ``lanes``."""
        self.weights[lanes] = self._cold
        self.moments[lanes] = np.eye(len(self._cold))
        self.gradient[lanes], self.waiting[lanes] = 0.0, 0

    def learn(self, lane: int, x: Floats, y: Floats, p: Floats) -> bool:
        """Learn rows ``x`` [r, W] with outcomes ``y`` [r] that had chances ``p`` [r]; whether weights changed."""
        self.moments[lane] += x.T @ (x * (p * (1 - p) + STEADY)[:, None])
        self.gradient[lane] += (y - p) @ x
        self.waiting[lane] += 1
        if self.waiting[lane] < self._patience:
            return False
        self.weights[lane] += np.linalg.solve(self.moments[lane], self.gradient[lane])
        self.gradient[lane], self.waiting[lane] = 0.0, 0
        return True


def one_hot(cells: Sequence[Sequence[int]], width: int) -> Floats:
    """[r, width] rows with ones at ``cells``."""
    x = np.zeros((len(cells), width))
    x[np.arange(len(cells))[:, None], np.array(cells)] = 1.0
    return x
