"""The seconds of live rounds: as measured, as the cost model says, and as they are expected to be.

Where wall time is the clock, what rounds take corrects what the next ones are expected to take
(``metasd.core.correction``). Where the cost model is the clock, a replay can reproduce every number, and nothing is
corrected; wall time is kept beside it. Knows the pool and the costs; no models, no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from metasd.core.correction import Corrections
from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.plan_costs import PlanCosts
from metasd.core.plans import Tree
from metasd.core.pool import Pool
from metasd.core.records import Bools, Floats, Ints, Rounds
from metasd.core.worth import Worth


@dataclass(frozen=True, slots=True)
class Took:
    """Wall seconds of one round: the draft, the check with all that is left, and catching up, ``reading`` of it to let
    every model drafter read on for full information. Lanes that are checked together share that time equally."""

    draft: float
    verify: float
    catch_up: float
    reading: float


class LiveClock:
    """Charges rounds and says what the next will cost.

    Args:
        kind: "measured" or "model".
        corrections: learned before, of the same costs; new ones by default.

    Raises UsageError for an unknown ``kind``, and for "model" without costs.
    """

    def __init__(self, pool: Pool, costs: CostModel | None, kind: str, corrections: Corrections | None = None) -> None:
        if kind not in ("measured", "model"):
            raise UsageError(f"clock {kind!r} is unknown; use measured or model")
        if kind == "model" and costs is None:
            raise UsageError("clock 'model' needs costs; give the costs.json of a trace")
        self.pool, self.kind, self._costs = pool, kind, costs
        self._columns: Ints = np.zeros(0, np.int64) if costs is None else costs.columns(pool)
        self.corrections: Corrections | None = None
        if costs is not None and kind == "measured":
            self.corrections = corrections or Corrections(costs)
        self._took: list[Took] = []
        self._plans: PlanCosts | None = None
        self._worth: tuple[CostModel, Worth] | None = None

    @property
    def costs(self) -> CostModel | None:
        """What is expected now; None where nothing is known."""
        return self._costs if self.corrections is None else self.corrections.now

    def expected(self, remaining: Ints, context: Ints, lag: Ints) -> Floats:
        """[B, K] expected seconds of a round with each arm, NaN without a cost model."""
        costs = self.costs
        if costs is None:
            return np.full((len(context), len(self.pool)), np.nan)
        return costs.expected(self.pool, remaining, context, lag)

    def pays(self, context: Ints) -> Bools:
        """[B, K] see ``Worth.pays``; True for all where no cost is known."""
        costs = self.costs
        if costs is None:
            return np.ones((len(context), len(self.pool)), bool)
        if self._worth is None or self._worth[0] is not costs:
            self._worth = costs, Worth(costs, self.pool)
        return self._worth[1].pays(context)

    def begin_play(self) -> None:
        """The rounds of a play, one a lane, are about to be charged."""
        self._took = []

    def charge(self, rounds: Rounds, context: int, read: Ints, took: Took) -> None:
        """Fill in the seconds of the one round of ``rounds``, whose ``catch_up`` is its own drafter's.

        context: tokens before the round. read: [D] tokens that model drafters read for the revealer.
        """
        self._took.append(took)
        if self.kind == "measured":
            _fill(rounds, [took])
        if self._costs is None:
            return
        arm = int(rounds.arm[0])
        column = -1 if self.pool.plain[arm] else int(self._columns[self.pool.drafter_of[arm]])
        verify = self._costs.verify(rounds.drafted, np.array([context]))
        draft = self._costs.draft(np.array([column]), rounds.drafted) if column >= 0 else np.zeros(1)
        own = self._costs.catch_up(np.array([column]), rounds.catch_up) if column >= 0 else np.zeros(1)
        if self.corrections is None:
            everyone = own + self._costs.catch_up(self._columns, read).sum()
            rounds.draft_seconds, rounds.verify_seconds, rounds.catch_up_seconds = draft, verify, everyone
            return
        drafting = took.draft + took.catch_up - took.reading, float((draft + own)[0])
        self.corrections.see(column, drafting, (took.verify, float(verify[0])))

    def charge_plan(self, rounds: Rounds, tree: Tree, model: int, context: int, took: Took) -> None:
        """As ``charge``, for the round of a plan that asked the drafter ``model``, -1 for none."""
        self._took.append(took)
        if self.kind == "measured":
            _fill(rounds, [took])
        if self._costs is None:
            return
        if self._plans is None:
            self._plans = PlanCosts(self._costs, self.pool)
        draft, verify, caught = self._plans.spent(tree, model, context, int(rounds.catch_up[0]))
        if self.corrections is None:
            _fill(rounds, [Took(draft, verify, caught, 0.0)])
            return
        column = int(self._columns[model]) if tree.chain else -1
        self.corrections.see(column, (took.draft + took.catch_up, draft + caught), (took.verify, verify))

    def measured(self, rounds: Rounds) -> Rounds:
        """The rounds of the last play, with their wall seconds whatever the clock."""
        if self.kind == "measured" or not self._took:
            return rounds
        copy = replace(rounds)
        _fill(copy, self._took)
        return copy


def _fill(rounds: Rounds, took: Sequence[Took]) -> None:
    rounds.draft_seconds, rounds.verify_seconds = np.array([t.draft for t in took]), np.array([t.verify for t in took])
    rounds.catch_up_seconds = np.array([t.catch_up for t in took])
