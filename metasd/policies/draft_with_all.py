"""All drafters at once: the baseline that checks every drafter's chain in every round and never chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.plans import ROOT, Judged, Plan, Run, Source, Suggest, asked_lengths
from metasd.core.records import Bools, Context, Ints, Rounds
from metasd.policies.rules import Rule


class DraftWithAll(Rule):
    """Every round checks the chains of all free drafters, and of one model drafter, as one tree (draft-with-all).

    No choice among them emits more tokens a round; verification grows with the pool instead. A free drafter's chain is
    as long as its longest arm; equal beginnings are shared. A table's is its own draft; of lookup it is what followed
    the newest occurrence of the longest run, token after token. It falls short of all drafters where a free one has no
    source (``metasd.drafters.sources``), where there are several models, since a plan asks one (the first, or the one
    called ``model``; none above temperature 0), and where the costs of so wide a pass are not known: all chains are
    then cut to one length.

    Raises UsageError where the target cannot check branches, or ``model`` is no model drafter of the pool.
    """

    plans: ClassVar[bool] = True

    def __init__(self, model: str | None = None) -> None:
        super().__init__(mask=False)
        self.model = model

    def allocate(self, lanes: int, arms: int) -> None:
        pool = self.pool
        self._lengths: list[int] = pool.longest
        self._asked: list[int] = asked_lengths(pool).tolist()
        models = {pool.drafters[d].name: d for d, asked in enumerate(self._asked) if asked}
        if self.model is not None and self.model not in models:
            known = ", ".join(models) or "none"
            raise UsageError(f"model {self.model!r} is no model drafter of this pool; it has {known}")
        self._ask = next(iter(models.values()), -1) if self.model is None else models[self.model]

    def choose(self, context: Context, allowed: Bools) -> Ints:
        raise UsageError("draft-with-all returns plans, not arms; use a session with plans, or another policy")

    def plan(self, context: Context, suggest: Sequence[Suggest]) -> list[Plan]:
        """[B] the tree of all chains."""
        if not context.branches:
            raise UsageError("draft-with-all checks trees, which this target cannot; use another policy")
        return [self._plan(context, lane, suggest[lane]) for lane in range(len(suggest))]

    def judge(self, rounds: Rounds, judged: Sequence[Judged]) -> None:
        """Nothing is learned."""

    def _plan(self, context: Context, lane: int, suggest: Suggest) -> Plan:
        left = int(context.remaining[lane]) - 1
        text = suggest.text
        chains = [
            (d, chain(source, suggest.tail, min(self._lengths[d], left), text if source.fixed else None))
            for d, source in suggest.sources
        ]
        depth, nodes = 0, None if context.passes is None else context.passes.shape[1] - 1
        if self._ask >= 0:
            assert context.drafting is not None  # as sessions with plans fill it
            offered = int(np.isfinite(context.drafting[lane, self._ask, 1:]).sum())
            depth = max(min(offered, left, self._asked[self._ask]), 0)
        if nodes is not None:
            longest = max(fitting([tokens for _, tokens in chains], depth, nodes), 1)
            chains, depth = [(d, tokens[:longest]) for d, tokens in chains], min(depth, longest, nodes)
        tokens, parents, sources = list[int](), list[int](), list[int]()
        child: dict[tuple[int, int], int] = {}
        for drafter, drafted in chains:
            at = ROOT
            for token in drafted:
                if (at, token) not in child:
                    if nodes is not None and len(tokens) + depth >= nodes:
                        break
                    child[at, token] = len(tokens)
                    tokens.append(token)
                    parents.append(at)
                    sources.append(drafter)
                at = child[at, token]
        return Plan(tuple(tokens), tuple(parents), tuple(sources), self._ask if depth else -1, depth)


def fitting(chains: Sequence[Sequence[int]], depth: int, nodes: int) -> int:
    """The greatest length to cut all chains and ``depth`` to so that the tree has at most ``nodes`` nodes; 0: none."""
    longest = max([depth, *map(len, chains)])
    for length in range(longest, 0, -1):
        runs = {tuple(tokens[:n]) for tokens in chains for n in range(1, min(length, len(tokens)) + 1)}
        if len(runs) + min(depth, length) <= nodes:
            return length
    return 0


def chain(source: Source, tail: Run, length: int, text: Source | None = None) -> list[int]:
    """At most ``length`` tokens behind ``tail``: what ``source`` suggests first, and so on from there.

    Of what follows the longest run the newest comes first, as lookup copies the latest occurrence. text: for a table,
    the source of the text's own runs, which goes before it where its run is as long (``metasd.drafters.table``).
    """
    drafted, context = list[int](), tail
    while len(drafted) < length:
        suggested = source.suggest(context)
        if text is not None:
            own = text.suggest(context[-source.reach :])
            if own and (not suggested or own[0][1] >= suggested[0][1]):
                suggested = own
        if not suggested:
            break
        longest = [s for s in suggested if s[1] == suggested[0][1]]
        token = next((s[0] for s in longest if s[3]), longest[0][0])
        drafted.append(token)
        context = (*context, token)
    return drafted
