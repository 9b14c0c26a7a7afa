"""The planner: what a round checks is a tree grown best first, cut where a node costs more than it brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.noise import Keys
from metasd.core.plans import ROOT, Judged, Plan, Suggest
from metasd.core.pool import Pool
from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import STALL, Policy, within
from metasd.policies.planner import asking
from metasd.policies.planner.candidates import Candidates
from metasd.policies.planner.cells import cold_weights
from metasd.policies.planner.grown import ORDER, Grown
from metasd.policies.planner.growth import Growth, best_prefix, grow, least
from metasd.policies.planner.values import Logistic

REACH = 8
"""Tokens of context that candidates depend on."""
BEFORE = 5
"""Rounds before which a second is worth ``HOPED`` tokens a plain pass."""
HOPED = 1.3


@dataclass(slots=True)
class Asked:
    """What was planned on a lane, until the round has judged it."""

    growth: Growth
    plan: Plan
    expected: float  # seconds of the round, 0 without a clock
    x: Floats | None  # rows of the model drafter's regression
    chances: Floats | None


class Planner(Policy):
    """Checks a tree grown from all free sources: the prefix whose expected tokens less rho times seconds is largest.

    A node's value is the product of learned chances along its path; every candidate whose parent stands is judged by
    the round and learned from. Often that is nothing or a short chain on a CPU, a tree of 15 to 25 nodes on a GPU at
    batch 1. A model drafter's chain joins where it pays beside the free tree. ``docs/planner.md`` explains it.

    Args:
        objective: ``rounds`` (as many tokens a round as ``nodes`` can bring), ``time`` (rho is the running rate) or
            ``auto``: time where the session knows what passes cost, else rounds.
        nodes: most nodes of a tree; where a clock is known also bound by the widest pass that was measured.
        depth: most nodes on a path.
        grown: tokens of the target's earlier texts that are kept as a table of their own; 0 for none. It is emptied
            where ``reset`` is "prompt".
        reward: only ``tokens``.
    """

    plans: ClassVar[bool] = True
    default_reset: ClassVar[Any] = "never"

    def __init__(
        self,
        objective: str = "auto",
        nodes: int = 32,
        depth: int = 16,
        grown: int = 20_000,
        reward: str = "tokens",
        mask: bool = True,
    ) -> None:
        super().__init__(reward, mask)
        if objective not in ("auto", "rounds", "time"):
            raise UsageError(f"objective {objective!r} is unknown; use auto, rounds or time")
        if reward != "tokens":
            raise UsageError(f"the planner counts emitted tokens, reward {reward!r} does not fit; leave reward out")
        self.objective, self.nodes = objective, within("nodes", nodes, 1, 256)
        self.depth, self.grown = within("depth", depth, 1, 63), within("grown", grown, 0)
        self.pursues = "time" if objective == "time" else "rounds"
        self.widest = 0  # nodes that plans were bound to by the costs, 0 where no clock was known

    def wants(self, overlap: bool, timed: bool = False, models: bool = True) -> dict[str, Any]:
        """As ``Policy.wants``; whether it pursues time is settled here."""
        if self.objective == "auto":
            self.pursues = "time" if timed else "rounds"
        return super().wants(overlap, timed, models)

    # -- state --------------------------------------------------------------------------------------------------

    def bind(self, pool: Pool, lanes: int, *, reset: str | None = None, overlap: bool = True) -> None:
        """As ``Policy.bind``."""
        self._asked: list[Asked | None] = [None] * lanes
        self._candidates: list[Candidates | None] = [None] * lanes
        self._lists: list[list[float] | None] = [None] * lanes
        self._new = np.zeros(lanes, bool)
        super().bind(pool, lanes, reset=reset, overlap=overlap)

    def allocate(self, lanes: int, arms: int) -> None:
        drafters = len(self.pool.drafters)
        self._asking: list[int] = np.flatnonzero(~self.pool.free).tolist()
        self._values = Logistic(lanes, cold_weights())
        self._models = [Logistic(lanes, asking.cold_weights(), 1) for _ in range(drafters)]
        self.rate = np.zeros((lanes, 3))  # tokens emitted, seconds spent, rounds
        room = self.grown if self.reset == "never" else 0
        self.ring = np.zeros((lanes, room + ORDER if room else 0), np.int64)
        self.told = np.zeros((lanes, 2), np.int64)
        self._grown = [Grown(self.ring[lane], self.told[lane]) for lane in range(lanes)] if room else []

    def clear(self, lanes: Ints) -> None:
        self._values.clear(lanes)
        for model in self._models:
            model.clear(lanes)
        self.rate[lanes] = 0.0
        for lane in lanes.tolist():
            self._lists[lane] = None
            if self._grown:
                self._grown[lane].forget()

    def begin(self, lanes: Ints, keys: Keys) -> None:
        super().begin(lanes, keys)
        self._new[lanes] = True

    def state_dict(self) -> dict[str, NDArray[Any]]:
        return super().state_dict() | {k: v.copy() for k, v in self._inner().items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        inner = self._inner()
        super().load_state_dict({k: v for k, v in state.items() if k not in inner})
        for name, value in inner.items():
            value[...] = state[name]
        self._lists = [None] * self.lanes
        for grown in self._grown:
            grown.reload()

    def _inner(self) -> dict[str, NDArray[Any]]:
        """The arrays of the regressions, by name."""
        self._values.fold()
        parts = {"values": self._values} | {f"model{d}": m for d, m in enumerate(self._models)}
        return {
            f"{part}.{name}": array
            for part, regression in parts.items()
            for name, array in vars(regression).items()
            if name[0] != "_"
        }

    # -- planning -----------------------------------------------------------------------------------------------

    def choose(self, context: Context, allowed: Bools) -> Ints:
        raise UsageError("the planner returns plans, not arms; use a session with plans, or another policy")

    def plan(self, context: Context, suggest: Sequence[Suggest]) -> list[Plan]:
        """[B] the tree that each lane checks next."""
        if self.pursues == "time" and context.passes is None:
            raise UsageError(
                "objective=time needs to know what passes cost, which is not known here; "
                "give --costs or use objective=rounds"
            )
        return [
            self._plan(lane, context, suggest[lane], left) if left > 0 else Plan()
            for lane, left in enumerate(context.remaining.tolist())
        ]

    def _plan(self, lane: int, context: Context, suggest: Suggest, left: int) -> Plan:
        cost = None if context.passes is None else context.passes[lane].tolist()
        nodes = self.nodes if cost is None else min(self.nodes, len(cost) - 1)
        self.widest = 0 if cost is None else nodes
        rho = self._rho(lane, cost)
        priced = None if rho == 0 else cost
        candidates, weights = self._ready(lane, suggest)

        def expand(run: tuple[int, ...], depth: int) -> list[Any]:
            return candidates.after(run, depth, weights)

        floor, price = least(priced, rho, nodes)
        depth, tail = min(self.depth, left - 1), suggest.tail[-REACH:]
        how: dict[str, Any] = {"nodes": nodes, "depth": depth, "reach": REACH, "branches": context.branches}
        made = grow(expand, tail, floor=floor, price=price, **how)
        n, _ = best_prefix(made.values, priced, rho, nodes)
        model, deep, x, chances = self._ask(lane, context, made, n, nodes, rho, priced, left)
        if deep and not context.branches:
            n = 0  # two chains are a tree
        plan = Plan(tuple(made.tokens[:n]), tuple(made.parents[:n]), tuple(made.sources[:n]), model, deep)
        expected = 0.0 if cost is None else cost[min(n + deep, len(cost) - 1)]
        if deep and context.drafting is not None:
            expected += float(context.drafting[lane, model, deep])
        self._asked[lane] = Asked(made, plan, expected, x, chances)
        return plan

    def _rho(self, lane: int, cost: Sequence[float] | None) -> float:
        """Tokens that a second is worth: the running rate; 0 where rounds are counted."""
        if self.pursues != "time" or cost is None:
            return 0.0
        tokens, seconds, rounds = self.rate[lane].tolist()
        return HOPED / cost[0] if rounds < BEFORE else tokens / seconds

    def _ready(self, lane: int, suggest: Suggest) -> tuple[Candidates, list[float]]:
        """Candidates and weights of a lane; what it said before is known once a text begins."""
        found = self._candidates[lane]
        if found is None:
            found = self._candidates[lane] = Candidates(suggest.sources, self._grown[lane] if self._grown else None)
        if self._new[lane]:
            self._new[lane] = False
            if self._grown:
                self._grown[lane].begin(suggest.tail)
        weights = self._lists[lane]
        if weights is None:
            weights = self._lists[lane] = self._values.weights[lane].tolist()
        return found, weights

    def _ask(
        self,
        lane: int,
        context: Context,
        made: Growth,
        n: int,
        nodes: int,
        rho: float,
        cost: Sequence[float] | None,
        left: int,
    ) -> tuple[int, int, Floats | None, Floats | None]:
        """Model drafter, tokens to ask it for (-1 and 0 for none), and the rows and chances it is judged by."""
        best: tuple[float, int, int, Floats | None, Floats | None] = (0.0, -1, 0, None, None)
        if context.drafting is None or not self._asking:
            return best[1:]
        for d in self._asking:
            price = context.drafting[lane, d, 1:]
            longest = min(int(np.isfinite(price).sum()), left - 1, nodes - n)
            if longest < 1:
                continue
            paid = rho * price[:longest]
            if cost is not None:
                paid = paid + rho * (np.asarray(cost[n + 1 : n + longest + 1]) - cost[n])
            free = asking.alive(made.values[:n], made.depths[:n], longest)
            x, model = asking.rows(free), self._models[d]
            hoped, _ = asking.gains(x, free, model.weights[lane], model.moments[lane])
            if float((hoped - paid).max()) <= 0:
                continue
            gain, chances = asking.gains(x, free, model.weights[lane], None)
            worth = gain - paid
            deep = int(worth.argmax()) + 1
            if best[2] == 0 or float(worth[deep - 1]) > best[0]:
                best = (float(worth[deep - 1]), d, deep, x, chances)
        return best[1:]

    # -- learning -----------------------------------------------------------------------------------------------

    def judge(self, rounds: Rounds, judged: Sequence[Judged]) -> None:
        """Learn from what each round said of all candidates whose parent stands, and of the model drafter's chain."""
        seconds = rounds.seconds
        for i, (lane, said) in enumerate(zip(rounds.lane.tolist(), judged, strict=True)):
            asked = self._asked[lane]
            assert asked is not None, "a round was judged that was not planned here"
            spent = 0.0 if seconds is None else float(seconds[i])
            if asked.expected and spent > STALL * asked.expected:
                spent = asked.expected  # a machine that stops says nothing of its plan
            self.rate[lane] += (len(said.tokens), spent, 1.0)
            self._learn(lane, asked.growth, said.tokens)
            if asked.x is not None and asked.chances is not None:
                self._learn_model(lane, asked, said)
            if self._grown:
                self._grown[lane].say(said.tokens)
            self._asked[lane] = None

    def _learn(self, lane: int, growth: Growth, tokens: Sequence[int]) -> None:
        cells: list[tuple[int, ...]] = []
        right: list[bool] = []
        chances: list[float] = []
        child = dict(zip(zip(growth.parents, growth.tokens, strict=True), range(len(growth.tokens)), strict=True))
        at = ROOT
        for token in tokens:
            for candidate, _, _, own, chance in growth.candidates[at]:
                cells.append(own)
                right.append(candidate == token)
                chances.append(chance)
            if (at, token) not in child:
                break
            at = child[at, token]
        if cells and self._values.note(lane, cells, right, chances):
            self._lists[lane] = None

    def _learn_model(self, lane: int, asked: Asked, said: Judged) -> None:
        """Its tokens up to the first that was wrong, as far as the round went."""
        same = [a == b for a, b in zip(said.chain, said.tokens, strict=False)]
        count = same.index(False) + 1 if False in same else len(same)
        if count and asked.x is not None and asked.chances is not None:
            y = np.array(same[:count], float)
            self._models[asked.plan.model].learn(lane, asked.x[:count], y, asked.chances[:count])
