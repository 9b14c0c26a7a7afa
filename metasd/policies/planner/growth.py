"""A tree grown best first, and how much of it to check.

A node's value is the chance that it stands: the product of the chances along its path. Values only fall behind a node,
so every prefix of the order in which nodes are taken is a tree, and the best one of its size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import pairwise

from metasd.core.plans import ROOT, Run
from metasd.policies.planner.candidates import Candidate

Expand = Callable[[Run, int], list[Candidate]]


class Growth:
    """The nodes of one round in the order they were taken.

    Attributes:
        tokens, parents, sources, values, depths: of each node; depths begin with 0.
        candidates: what may follow each node; those of the root last (``candidates[ROOT]``).
    """

    __slots__ = ("candidates", "depths", "parents", "sources", "tokens", "values")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.sources: list[int] = []
        self.values: list[float] = []
        self.depths: list[int] = []
        self.candidates: list[list[Candidate]] = []


def grow(
    expand: Expand,
    tail: Run,
    *,
    floor: float,
    nodes: int,
    depth: int,
    reach: int,
    price: Sequence[float] | None = None,
    branches: bool = True,
) -> Growth:
    """Take the most valuable node until none is worth more than ``floor``, ``nodes`` are taken, or none is left.

    Args:
        expand: candidates behind a context, at a depth.
        tail: the text's last tokens. reach: as many as ``expand`` looks at.
        depth: nodes on a path, at most.
        branches: whether nodes may have siblings; else the tree is a chain of the likeliest.
        price: tokens that a pass of 0, 1, .. nodes costs; given, growth also stops where no larger tree can pay.
    """
    made = Growth()
    tokens, parents, sources, values, depths = made.tokens, made.parents, made.sources, made.values, made.depths
    heap: list[tuple[float, int, int, int, int, int, Run]] = []
    serial = 0
    root = expand(tail, 0) if nodes > 0 and depth > 0 else []
    for token, chance, source, _, _ in root if branches else root[:1]:
        if chance > floor:
            heappush(heap, (-chance, serial, token, ROOT, 0, source, tail))
            serial += 1
    total, best = 1.0, 1.0 - price[0] if price else 0.0
    while heap and len(tokens) < nodes:
        value, _, token, parent, at, source, before = heappop(heap)
        value = -value
        node = len(tokens)
        if price is not None:
            for m in range(node + 1, nodes + 1):
                if total + value * (m - node) - price[m] > best:
                    break
            else:
                break  # were all further nodes as likely as this one, none of them would pay
            total += value
            best = max(best, total - price[node + 1])
        tokens.append(token)
        parents.append(parent)
        sources.append(source)
        values.append(value)
        depths.append(at)
        context = (*before, token)[-reach:]
        at += 1
        following = expand(context, at)
        made.candidates.append(following)
        if at < depth:
            for next_token, chance, its_source, _, _ in following if branches else following[:1]:
                if value * chance > floor:
                    heappush(heap, (-value * chance, serial, next_token, node, at, its_source, context))
                    serial += 1
    made.candidates.append(root)
    return made


def best_prefix(values: Sequence[float], cost: Sequence[float] | None, rho: float, most: int) -> tuple[int, float]:
    """How many of the first ``most`` nodes to check, and what the round is then worth, in tokens.

    cost: seconds of a pass of 0, 1, .. nodes; None: they cost nothing. Costs need not be convex (a CPU's are not), so
    all prefixes are tried, not the first node that does not pay.
    """
    total, best, at = 1.0, 1.0 - (rho * cost[0] if cost is not None else 0.0), 0
    for n in range(1, min(len(values), most) + 1):
        total += values[n - 1]
        worth = total - (rho * cost[n] if cost is not None else 0.0)
        if worth > best:
            best, at = worth, n
    return at, best


def least(cost: Sequence[float] | None, rho: float, nodes: int) -> tuple[float, list[float] | None]:
    """The value below which no node can pay, and where there is none the price of each number of nodes, in tokens.

    Of convex costs the first step is the cheapest; of others nothing can be said of a node alone.
    """
    if cost is None:
        return 0.0, None
    if len(cost) < 2:
        return 0.0, None
    first = before = cost[1] - cost[0]
    for a, b in pairwise(cost[1:]):
        step = b - a
        if step < before - 1e-12:
            return 0.0, [rho * c for c in cost[: nodes + 1]]
        before = step
    return rho * max(first, 0.0), None
