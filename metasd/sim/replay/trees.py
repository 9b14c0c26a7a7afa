"""Plans on a replayed text: the tree against the recorded tokens, its sources remade from prompt and text.

Suggestions are functions of the tokens and of tables whose hashes the manifest holds, so a trace that keeps its
prompts' tokens replays every plan exactly, with no column of its own. A model drafter's chain is the recorded one.
Knows the state of ``lanes`` and moves it on; one lane after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metasd.core.cache_rule import behind, read_after
from metasd.core.errors import UsageError
from metasd.core.plan_costs import PlanCosts
from metasd.core.plan_rounds import settle_plans, stood
from metasd.core.plans import Judged, Plan, Source, Tree, asked_lengths, tree_of
from metasd.core.records import NO_END, Context, Ints, Rounds
from metasd.drafters.sources import LaneSources, rebuilt
from metasd.sim.replay.lanes import Lanes
from metasd.traces.trace import Trace


def sourceless(trace: Trace) -> list[str]:
    """Free drafters of ``trace`` that no tree has branches of: none of their suggestions can be remade."""
    return [d.name for d in trace.drafters if d.free and rebuilt(d) is None]


class Trees:
    """Plays plans on ``lanes``.

    Attributes:
        suggest: [B] the sources of each lane.
        judged: what the last play said, one a round.

    Raises UsageError for a trace without its prompts' tokens.
    """

    def __init__(self, lanes: Lanes) -> None:
        trace = lanes.trace
        self._prompts = trace.prompt_tokens
        if self._prompts is None or len(self._prompts) != int(np.sum(trace.prompt_lengths)):
            raise UsageError(
                f"trace {trace.name} does not keep its prompts' tokens, which plans are made from; record it again, "
                "or choose a policy that plays arms"
            )
        self._lanes, self._ends = lanes, np.cumsum(trace.prompt_lengths)
        self.suggest = [LaneSources(self._sources()) for _ in range(lanes.lanes)]
        self.judged: list[Judged] = []
        costs = None if lanes.clock is None else lanes.clock.costs
        self.costs = None if costs is None else PlanCosts(costs, lanes.pool)
        # Above temperature 0 whether a sampled chain stands is drawn, which trees of one-hot nodes do not need.
        self._chains = None if trace.sampled else trace.draft_tokens
        self._asked = asked_lengths(lanes.pool) * (self._chains is not None)

    def _sources(self) -> list[tuple[int, Source]]:
        made = enumerate(map(rebuilt, self._lanes.trace.drafters))
        return [(d, source) for d, source in made if source is not None]

    def begin(self, lanes: Ints) -> None:
        """``lanes`` have started the texts they are at."""
        trace = self._lanes.trace
        assert self._prompts is not None
        for lane in lanes.tolist():
            text = int(self._lanes.text[lane])
            end = int(self._ends[text])
            self.suggest[lane].begin(self._prompts[end - int(trace.prompt_lengths[text]) : end].tolist())

    def fill(self, context: Context) -> None:
        """Add what a planner reads of time: expected seconds of passes and of asking model drafters.

        Without a clock asking costs 0, and where a chain is not recorded infinitely much.
        """
        lanes = self._lanes
        lengths = np.arange(lanes.pool.max_draft_length + 1)
        context.drafting = np.zeros((lanes.lanes, len(lanes.pool.drafters), len(lengths)))
        if self.costs is not None:
            context.passes = self.costs.verify(lanes.row + lanes.shift)
            lag = behind(lanes.row[:, None], lanes.valid) * lanes.models
            context.drafting = self.costs.drafting(lag)
        if lanes.outcomes.D:
            offered = np.minimum(lanes.offered(lanes.row), self._asked)[:, :, None]
            context.drafting = np.where(lengths <= offered, context.drafting, np.inf)

    def play(self, plans: Sequence[Plan], lanes: Ints) -> Rounds:
        """One round with the plan of each of ``lanes``; rows and caches move on behind what was emitted."""
        trees = [self._tree(plans[lane], lane) for lane in lanes.tolist()]
        pairs = list(zip(lanes.tolist(), trees, strict=True))
        paths = [tree.standing(self._ahead(lane, tree.depth)) for lane, tree in pairs]
        rounds = self._settle(lanes, trees, paths)
        row = self._lanes.row[lanes]
        self.judged = []
        spent = []
        for i, (lane, tree) in enumerate(pairs):
            emitted = self._ahead(lane, int(rounds.emitted[i]))
            chain = [tree.tokens[node] for node in tree.chain]
            self.judged.append(Judged(emitted, chain))
            spent.append(self._read(rounds, i, lane, tree, plans[lane].model, emitted))
            self.suggest[lane].extend(emitted)
        if self.costs is not None:
            rounds.draft_seconds, rounds.verify_seconds, rounds.catch_up_seconds = np.array(spent).T
        self._lanes.row[lanes] = row + rounds.emitted
        return rounds

    def _ahead(self, lane: int, count: int) -> list[int]:
        """The next ``count`` tokens of the lane's text, fewer at its end."""
        row, text = int(self._lanes.row[lane]), int(self._lanes.text[lane])
        return self._lanes.trace.tokens[row : min(row + count, int(self._lanes.offsets[text + 1]))].tolist()

    def _tree(self, plan: Plan, lane: int) -> Tree:
        lanes, chain = self._lanes, list[int]()
        row = int(lanes.row[lane])
        if plan.depth:
            if not (plan.model < len(lanes.models) and lanes.models[plan.model]):
                raise UsageError(f"a plan asks drafter {plan.model}, which is no model drafter of this pool")
            if self._chains is None:
                raise UsageError(
                    f"a plan asks {lanes.pool.drafters[plan.model].name} for a chain, which trace {lanes.trace.name} "
                    "does not hold for trees; plan without a model drafter"
                )
            length = min(plan.depth, int(lanes.offered(np.array([row]))[0, plan.model]))
            chain = self._chains[row, plan.model, :length].tolist()
        tree = tree_of(plan, chain, int(lanes.limit[lane]) - row - 1)
        return tree if self.costs is None else self.costs.check(tree)

    def _settle(self, lanes: Ints, trees: Sequence[Tree], paths: Sequence[Sequence[int]]) -> Rounds:
        state = self._lanes
        row, end = state.row[lanes], state.end_of[state.text[lanes]]
        return settle_plans(
            state.pool,
            trees,
            paths,
            lane=lanes.copy(),
            prompt=state.episode[lanes],
            position=row - state.start[lanes],
            remaining=state.limit[lanes] - row,
            ends_in=np.where(end == NO_END, NO_END, end - row),
        )

    def _read(
        self, rounds: Rounds, i: int, lane: int, tree: Tree, model: int, emitted: Sequence[int]
    ) -> tuple[float, float, float]:
        """Seconds of the round; the model drafter that was asked has read on: its nodes off the path are dropped."""
        state = self._lanes
        row = int(state.row[lane])
        if tree.chain and state.lagging:
            rounds.catch_up[i] = behind(row, int(state.valid[lane, model]))
            state.valid[lane, model] = read_after(
                row, len(tree.chain), stood(tree, emitted), state.pool.committed[model]
            )
        if self.costs is None:
            return 0.0, 0.0, 0.0
        return self.costs.spent(tree, model, row + int(state.shift[lane]), int(rounds.catch_up[i]))
