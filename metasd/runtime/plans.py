"""Plans on a text being decoded: the sources kept up with it, the model drafter's chain, the target's judgement.

The live twin of ``metasd.sim.replay.trees``. Knows lane, models and costs; ``session`` knows rounds and texts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.plan_costs import PlanCosts
from metasd.core.plan_rounds import settle_plans
from metasd.core.plans import Judged, Plan, Tree, asked_lengths, tree_of
from metasd.core.pool import Pool
from metasd.core.records import Context, Ints, Rounds
from metasd.drafters.base import Draft
from metasd.drafters.sources import LaneSources, source_of
from metasd.runtime.engine.tree import can_branch
from metasd.runtime.lane import Lane
from metasd.runtime.verify import TreeVerdict


@dataclass(slots=True)
class Checked:
    """A plan that the target has judged: what it was, what stands, the model drafter's draft, seconds of drafting."""

    plan: Plan
    tree: Tree
    verdict: TreeVerdict
    draft: Draft
    drafting: float

    @property
    def tokens(self) -> list[int]:
        """What the target says comes next, as far as it is known."""
        return [*(self.tree.tokens[node] for node in self.verdict.path), self.verdict.next_token]


class LanePlans:
    """Plays plans on ``lane``.

    Attributes:
        suggest: the lane's sources, in a list. judged: what the last round said, in a list.
        branches: whether the target can be told what to attend to; else it checks chains only.
    """

    def __init__(self, lane: Lane, pool: Pool, *, greedy: bool) -> None:
        self.pool, self._lane = pool, lane
        made = ((d, source_of(drafter)) for d, drafter in enumerate(lane.drafters))
        self.suggest = [LaneSources([(d, source) for d, source in made if source is not None])]
        self.judged: list[Judged] = []
        self.branches = can_branch(lane.target)
        # Above temperature 0 a sampled chain would need a rule of its own beside the nodes that the target draws.
        self._asked = asked_lengths(pool) if greedy else np.zeros(len(pool.drafters), np.int64)
        self._priced: tuple[CostModel, PlanCosts] | None = None

    def begin(self) -> None:
        """The lane has started a text."""
        self.suggest[0].begin(self._lane.text.tolist())

    def costs(self, known: CostModel | None) -> PlanCosts | None:
        """What plans cost by ``known``."""
        if known is None:
            return None
        if self._priced is None or self._priced[0] is not known:
            self._priced = known, PlanCosts(known, self.pool)
        return self._priced[1]

    def fill(self, context: Context, known: CostModel | None) -> None:
        """Add what a planner reads: expected seconds of passes and of asking model drafters, and whether to branch."""
        priced, lengths = self.costs(known), np.arange(self.pool.max_draft_length + 1)
        context.drafting = np.zeros((1, len(self.pool.drafters), len(lengths)))
        if priced is not None:
            context.passes = priced.verify(np.array([len(self._lane.text)]))
            context.drafting = priced.drafting(self._lane.lags()[None])
        nothing = self.pool.committed & (len(self._lane.text) < 2)  # a head has no state of a text of one token
        offered = np.where(nothing, 0, self._asked)[None, :, None]
        context.drafting = np.where(lengths <= offered, context.drafting, np.inf)
        context.branches = self.branches

    def check(self, plan: Plan, remaining: int, known: CostModel | None) -> Checked:
        """Draft what ``plan`` asks a model for, and let the target judge the tree.

        Raises UsageError for a plan that this lane cannot play.
        """
        if plan.depth and (plan.model >= len(self._asked) or plan.depth > self._asked[plan.model]):
            raise UsageError(f"a plan asks drafter {plan.model} for {plan.depth} tokens, which cannot be had here")
        started, draft = time.perf_counter(), Draft([], [])
        if plan.depth:
            draft = self._lane.draft(plan.model, min(plan.depth, remaining - 1))
        drafting = time.perf_counter() - started - draft.catch_up_seconds
        tree = tree_of(plan, draft.tokens, remaining - 1)
        if not self.branches and tree.parents != list(range(-1, len(tree.parents) - 1)):
            raise UsageError("this target cannot be told what to attend to, so it checks chains only")
        priced = self.costs(known)
        if priced is not None:
            priced.check(tree)
        return Checked(plan, tree, self._lane.verify_tree(tree), draft, drafting)

    def settle(self, checked: Checked, prompt: int, position: int, remaining: int, end: int) -> Rounds:
        """The round of a judged plan; ``end``: emitted tokens after which the text is over."""

        def one(value: int) -> Ints:
            return np.array([value], np.int64)

        rounds = settle_plans(
            self.pool,
            [checked.tree],
            [checked.verdict.path],
            lane=one(0),
            prompt=one(prompt),
            position=one(position),
            remaining=one(remaining),
            ends_in=one(end),
        )
        rounds.catch_up += checked.draft.catch_up
        return rounds

    def commit(self, checked: Checked, emitted: list[int]) -> None:
        """The lane has committed ``emitted``."""
        self.judged = [Judged(emitted, [checked.tree.tokens[node] for node in checked.tree.chain])]
        self.suggest[0].extend(emitted)
