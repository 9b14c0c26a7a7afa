"""What one round checks: a tree of tokens, what suggests its nodes, and which of them stand.

A chain is the tree whose node i hangs on node i - 1; an arm of the pool is a plan in short form. Knows tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import Pool

ROOT = -1
"""Parent of the nodes that follow the last committed token."""

Run = tuple[int, ...]
Suggestion = tuple[int, int, float, bool]
"""A token, the length of the run behind which it was seen, its share of what was seen there, and whether it was the
newest; the last is False where no order in time is known."""


class Source(Protocol):
    """What can suggest next tokens for any context at no model pass: a deterministic function of tokens."""

    reach: int  # longest run it looks at
    fixed: bool  # what it suggests depends on the context alone, not on the text

    def suggest(self, context: Run) -> Sequence[Suggestion]:
        """What may follow ``context``, the last tokens of text and path: longest run first, each token once."""
        ...


@runtime_checkable
class TableSource(Protocol):
    """A source whose every run has one entry at most, which may be asked for run by run."""

    reach: int

    @property
    def get(self) -> Callable[[Run], tuple[int, float] | None]:
        """Token and share of a run; None for one that is unknown, as all longer ones then are."""
        ...


class Suggest(Protocol):
    """What a planner may ask about one lane."""

    @property
    def tail(self) -> Run:
        """The last tokens of the text, as many as the longest reach of a source."""
        ...

    @property
    def sources(self) -> Sequence[tuple[int, Source]]:
        """Each source with the index in the pool of the drafter that it is of."""
        ...

    @property
    def text(self) -> Source:
        """The text's own runs, whatever drafters the pool has: what tables look at before themselves."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A tree for one round of one lane; without nodes and depth it is plain decoding.

    Args:
        tokens: of each node; two children of one node differ.
        parents: index of each node's parent, smaller than its own; ``ROOT`` for those that follow the text.
        sources: drafter, by its index in the pool, that suggested each node, -1 for none of them; all -1 by default.
        model: index of a model drafter whose chain is hung on the root, sharing nodes that are there; -1 for none.
        depth: tokens that it is asked for.

    Raises UsageError for anything else.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    sources: tuple[int, ...] = field(default=())
    model: int = -1
    depth: int = 0

    def __post_init__(self) -> None:
        if not self.sources:
            object.__setattr__(self, "sources", (-1,) * len(self.tokens))
        if not len(self.tokens) == len(self.parents) == len(self.sources):
            raise UsageError(
                f"a plan of {len(self.tokens)} tokens, {len(self.parents)} parents and {len(self.sources)} sources; "
                "give one of each a node"
            )
        for node, parent in enumerate(self.parents):
            if not ROOT <= parent < node:
                raise UsageError(f"node {node} of a plan hangs on {parent}; parents come first, {ROOT} is the root")
        if len(set(zip(self.parents, self.tokens, strict=True))) < len(self.tokens):
            raise UsageError(f"a plan has two equal children of one node among {self.tokens}; give each token once")
        if self.depth < 0 or (self.depth > 0) != (self.model >= 0):
            raise UsageError(f"a plan asks model drafter {self.model} for {self.depth} tokens; give both or neither")

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def chain(cls, tokens: Sequence[int], source: int = -1) -> Plan:
        """The plan that checks ``tokens`` one behind the other."""
        return cls(tuple(tokens), tuple(range(-1, len(tokens) - 1)), (source,) * len(tokens))


@dataclass(slots=True)
class Judged:
    """What a round said of one lane's plan.

    tokens: committed by it, the target's own last unless the text ended before. chain: what the model drafter drafted.
    """

    tokens: list[int]
    chain: list[int]


@dataclass(slots=True)
class Tree:
    """A plan with its model drafter's chain in place: what the target checks.

    chain: nodes of the chain, in order. depths: of each node, 1 for children of the root.
    """

    tokens: list[int]
    parents: list[int]
    sources: list[int]
    depths: list[int]
    chain: list[int]

    @property
    def depth(self) -> int:
        """Depth of the deepest node."""
        return max(self.depths, default=0)

    def standing(self, text: Sequence[int]) -> list[int]:
        """Nodes on the longest path whose tokens begin ``text``."""
        child = dict(zip(zip(self.parents, self.tokens, strict=True), range(len(self.tokens)), strict=True))
        path, at = list[int](), ROOT
        for token in text:
            found = child.get((at, token))
            if found is None:
                break
            path.append(found)
            at = found
        return path

    def has_children(self, node: int) -> bool:
        """Whether the target was offered something behind ``node``."""
        return node in self.parents


def tree_of(plan: Plan, chain: Sequence[int], deepest: int) -> Tree:
    """What is checked of ``plan``: its nodes down to depth ``deepest``, then ``chain`` where it is not there yet."""
    depths, kept = list[int](), dict[int, int]()  # old node -> new
    made = Tree([], [], [], depths, [])
    for node, (token, parent) in enumerate(zip(plan.tokens, plan.parents, strict=True)):
        at = ROOT if parent == ROOT else kept.get(parent)
        depth = 1 if at is None or at == ROOT else depths[at] + 1
        if at is None or depth > deepest:
            continue
        kept[node] = len(depths)
        _add(made, token, at, plan.sources[node], depth)
    at = ROOT
    for depth, token in enumerate(chain[:deepest], 1):
        known = [n for n in range(len(depths)) if made.parents[n] == at and made.tokens[n] == token]
        if not known:
            _add(made, token, at, plan.model, depth)
        at = known[0] if known else len(depths) - 1
        made.chain.append(at)
    return made


def _add(tree: Tree, token: int, parent: int, source: int, depth: int) -> None:
    tree.tokens.append(token)
    tree.parents.append(parent)
    tree.sources.append(source)
    tree.depths.append(depth)


def arm_of(pool: Pool, tree: Tree) -> int:
    """The arm that stands for ``tree`` in counts by arm: of the drafter of its first node, the shortest as deep.

    A tree whose first node is of no drafter counts for the first; one without nodes for plain decoding.
    Raises UsageError for a pool without it.
    """
    if not tree.tokens:
        if not pool.plain.any():
            raise UsageError("a plan may be plain decoding, which this pool lacks; use Pool.with_plain()")
        return int(pool.plain.argmax())
    drafter = max(tree.sources[0], 0)
    own = [k for k, a in enumerate(pool.arms) if a.drafter == drafter]
    if not own:
        return int(pool.plain.argmax())
    deep = [k for k in own if pool.arms[k].draft_length >= tree.depth]
    length = {k: pool.arms[k].draft_length for k in own}
    return min(deep, key=length.__getitem__) if deep else max(own, key=length.__getitem__)


def asked_lengths(pool: Pool) -> NDArray[np.int64]:
    """[D] tokens that a plan may ask each drafter for: the longest arm of a model, none of others."""
    longest = np.zeros(len(pool.drafters), np.int64)
    np.maximum.at(longest, pool.drafter_of[~pool.plain], pool.draft_length[~pool.plain])
    return np.where(pool.free, 0, longest)
