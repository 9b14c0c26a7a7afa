"""The seconds of replayed rounds, from a cost model. Knows no trace and no text."""

from __future__ import annotations

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.records import Bools, Floats, Ints
from metasd.core.worth import Worth


class Clock:
    """``CostModel`` tabulated by drafter and drafted length, so that a play is a few look-ups.

    The numbers are the model's own: ``CostModel.draft`` and ``CostModel.verify`` are linear in everything but the
    drafted length, over which they are tabulated.
    """

    def __init__(self, costs: CostModel, pool: Pool, depth: int) -> None:
        self.costs = costs
        self.pool = pool
        self.columns = costs.columns(pool) if pool.drafters else np.zeros(1, np.int64)
        lengths = np.arange(depth + 1)
        at_measured = np.full(depth + 1, costs.context)
        self._verify = costs.verify(lengths, at_measured)
        self._side = depth + 1
        self._draft = costs.draft(self.columns[:, None], lengths[None, :]).reshape(-1)
        by_drafter = self._draft.reshape(-1, self._side) + self._verify
        self._worth = Worth(costs, pool)
        self._whole = by_drafter[pool.drafter_of].reshape(-1)

    def seconds(self, drafter: Ints, drafted: Ints, context: Ints) -> tuple[Floats, Floats]:
        """[n] seconds of drafting and of verification; ``context`` counts prompt and committed tokens."""
        verify = self._verify.take(drafted)
        if self.costs.verify_per_context:
            verify += self.costs.verify_per_context * (context - self.costs.context)
        return self._draft.take(drafter * self._side + drafted), verify

    def whole(self, arm: Ints, drafted: Ints) -> Floats:
        """[n] seconds of drafting and verification at the context the costs were measured at."""
        return self._whole.take(arm * self._side + drafted)

    def further(self, context: Ints, rounds: Ints) -> Floats:
        """Seconds that ``rounds`` rounds took beyond ``whole``, given the sum of their contexts."""
        return self.costs.verify_per_context * (context - rounds * self.costs.context)

    def catch_up(self, drafter: Ints, tokens: Ints) -> Floats:
        """Seconds to re-read ``tokens``, elementwise."""
        return self.costs.catch_up(self.columns[drafter], tokens)

    def pays(self, context: Ints) -> Bools:
        """[B, K] see ``Worth.pays``."""
        return self._worth.pays(context)

    def expected(self, remaining: Ints, context: Ints, lag: Ints) -> Floats:
        """[B, K] see ``CostModel.expected``."""
        return self.costs.expected(self.pool, remaining, context, lag)
