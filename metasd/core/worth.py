"""Whether drafting can pay at all: arms that are slower than plain decoding even where every draft token is accepted.

Knows the cost model and the pool; nothing of acceptance. Catching up is left out, so an arm is never given up wrongly.
"""

from __future__ import annotations

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.records import Bools, Floats, Ints

DENT = 0.1
"""By what share a pass has to take longer than a wider one before that is said."""


class Worth:
    """What ``pays`` needs of a cost model and a pool, worked out once.

    A round of m accepted draft tokens emits m + 1 tokens, for which plain decoding makes m + 1 passes. With c seconds
    of context more than the costs were measured at, each pass takes c longer, so it is faster where

        (m + 1) (verify(0) + c) > verify(m) + c + draft(m), that is c > (verify(m) + draft(m) - (m + 1) verify(0)) / m.

    Attributes:
        needed: [K] the least c from which some draft length up to the arm's own pays; -inf for plain arms.
    """

    def __init__(self, costs: CostModel, pool: Pool) -> None:
        self._context, self._slope = costs.context, costs.verify_per_context
        lengths = np.arange(1, pool.max_draft_length + 1)
        self.needed: Floats = np.full(len(pool), -np.inf)
        if not len(lengths) or not pool.drafters:
            return
        drafter = costs.columns(pool)[pool.drafter_of]
        here = np.array(costs.context)
        one, many = costs.verify(np.array(0), here), costs.verify(lengths, here)
        many = many + costs.draft(drafter[:, None], lengths[None])
        needed = (many - (lengths + 1) * one) / lengths
        needed = np.where(lengths <= pool.draft_length[:, None], needed, np.inf).min(axis=1)
        self.needed = np.where(pool.plain, -np.inf, needed)

    def pays(self, context: Ints) -> Bools:
        """[B, K] whether the arm could be faster than plain decoding at ``context`` [B] tokens; plain is True."""
        longer = self._slope * (np.asarray(context) - self._context)
        return longer[:, None] > self.needed


def dents(costs: CostModel, pool: Pool) -> list[tuple[int, int]]:
    """Widths (narrow, wide) of measured passes that an arm's draft can need, of which the wider one takes less time.

    By more than ``DENT``: less is noise of a measurement. Where several wider ones do, the fastest of them is named.
    """
    fit = costs.widths <= pool.max_draft_length + 1
    widths, seconds = costs.widths[fit].astype(int), costs.verify_seconds[fit]
    found = []
    for i, width in enumerate(widths[:-1]):
        best = i + 1 + int(np.argmin(seconds[i + 1 :]))
        if seconds[best] * (1 + DENT) < seconds[i]:
            found.append((int(width), int(widths[best])))
    return found


def hopeless(costs: CostModel, pool: Pool, context: int) -> list[str]:
    """Names of the drafters none of whose arms could pay at ``context`` tokens, in pool order."""
    pays = Worth(costs, pool).pays(np.array([context]))[0]
    return [
        drafter.name
        for d, drafter in enumerate(pool.drafters)
        if (~pool.plain & (pool.drafter_of == d)).any() and not pays[~pool.plain & (pool.drafter_of == d)].any()
    ]
