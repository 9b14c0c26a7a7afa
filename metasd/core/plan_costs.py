"""What plans cost, tabulated once from a cost model: the same numbers for live sessions and replays."""

from __future__ import annotations

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.plans import Tree
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints


class PlanCosts:
    """``costs`` for plans over ``pool``, whose model drafters draft as many tokens as its longest arm.

    nodes: most that can be priced: the widest pass that was measured, less the last token. Behind it nothing is known.
    """

    def __init__(self, costs: CostModel, pool: Pool) -> None:
        self.costs = costs
        self.nodes = costs.widest - 1
        self._columns = costs.columns(pool) if pool.drafters else np.zeros(0, np.int64)
        self._verify = costs.verify(np.arange(self.nodes + 1), np.full(self.nodes + 1, costs.context))
        lengths = np.arange(pool.max_draft_length + 1)[None, :]
        self._draft = costs.draft(self._columns[:, None], lengths) * ~pool.free[:, None]
        self._some = lengths[None] > 0

    def verify(self, context: Ints) -> Floats:
        """[B, nodes + 1] expected seconds of a pass of 0.. nodes; ``context`` [B]: prompt and committed tokens."""
        return self._verify + (self.costs.verify_per_context * (context - self.costs.context))[:, None]

    def drafting(self, lag: Ints) -> Floats:
        """[B, D, G + 1] expected seconds of asking each model drafter for 0.. tokens, ``lag`` [B, D] behind."""
        behind = self.costs.catch_up(self._columns, lag)
        return self._draft + np.where(self._some, behind[:, :, None], 0.0)

    def check(self, tree: Tree) -> Tree:
        """``tree``. Raises UsageError for more nodes than a pass of them was measured."""
        if len(tree.tokens) > self.nodes:
            raise UsageError(
                f"a plan of {len(tree.tokens)} nodes needs a pass {len(tree.tokens) + 1} wide, but costs were measured "
                f"up to {self.nodes + 1}; measure wider ones, or plan at most {self.nodes} nodes"
            )
        return tree

    def spent(self, tree: Tree, model: int, context: int, catch_up: int) -> tuple[float, float, float]:
        """Seconds of drafting, verification and catching up in the round of ``tree``."""
        verify = float(self.costs.verify(np.array(len(tree.tokens)), np.array(context)))
        if model < 0 or not tree.chain:
            return 0.0, verify, 0.0
        column = self._columns[[model]]
        draft = float(self.costs.draft(column, np.array([len(tree.chain)]))[0])
        return draft, verify, float(self.costs.catch_up(column, np.array([catch_up]))[0])
