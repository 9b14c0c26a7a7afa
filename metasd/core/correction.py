"""How far real rounds are from what a cost model expects of them: factors that a stalled machine cannot spoil.

A factor is the median of the last ``WINDOW`` ratios of seconds taken to seconds expected. A median does not move with
how wrong its outer half is, so a round that took ten times its time counts as one that was slow, no more; and half a
window after the machine has really changed, the median has too. It begins with ``HEAD`` ratios of 1, so that the first
few rounds, warm-up among them, say little.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np

from metasd.core.costs import CostModel

WINDOW = 33
"""Rounds that a factor looks back on."""
HEAD = 5
"""Ratios of 1 at the beginning."""


class Factor:
    """The robust ratio of what something takes to what it was expected to take; see the module docstring."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque([1.0] * HEAD, maxlen=WINDOW)
        self.value = 1.0

    def see(self, took: float, expected: float) -> None:
        """One more round; nothing is learned where nothing was expected."""
        if expected > 0:
            self._recent.append(took / expected)
            self.value = median(self._recent)


class Corrections:
    """Factors of verification and of each drafter, and the cost model they correct.

    Attributes:
        costs: the model as measured. now: the same, corrected by all that was seen.
    """

    def __init__(self, costs: CostModel) -> None:
        self.costs = self.now = costs
        self.verify, self.drafters = Factor(), [Factor() for _ in costs.drafters]

    def see(self, column: int, drafting: tuple[float, float], verifying: tuple[float, float]) -> None:
        """A round: seconds (taken, expected by ``costs``) of drafting and catching up, and of verification.

        column: of the drafter in ``costs``; -1 where the round had none.
        """
        self.verify.see(*verifying)
        if column >= 0:
            self.drafters[column].see(*drafting)
        self.now = self.costs.scaled(self.verify.value, np.array([f.value for f in self.drafters]))

    def to_json(self) -> dict[str, float | dict[str, float]]:
        """The factors, 1 where nothing was seen."""
        by_name = {name: f.value for name, f in zip(self.costs.drafters, self.drafters, strict=True)}
        return {"verify": self.verify.value, "drafters": by_name}
