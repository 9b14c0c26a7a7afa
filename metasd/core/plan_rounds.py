"""Rounds of plans, from trees and the paths that stand: one account for live decoding and replay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metasd.core.plans import ROOT, Tree, arm_of
from metasd.core.pool import Pool
from metasd.core.records import Ints, Rounds, settle


def settle_plans(
    pool: Pool,
    trees: Sequence[Tree],
    paths: Sequence[Sequence[int]],
    *,
    lane: Ints,
    prompt: Ints,
    position: Ints,
    remaining: Ints,
    ends_in: Ints,
) -> Rounds:
    """``settle`` for n trees, ``paths`` being the nodes of each that the target agrees with, from the root on."""
    rounds = settle(
        lane=lane,
        prompt=prompt,
        arm=np.array([arm_of(pool, tree) for tree in trees], np.int64),
        draft_length=remaining,  # no limit of an arm's: a tree ends by what was proposed, or by the budget
        position=position,
        remaining=remaining,
        proposed=np.array([tree.depth for tree in trees], np.int64),
        agreed=np.array([len(path) for path in paths], np.int64),
        ends_in=ends_in,
        catch_up=np.zeros(len(trees), np.int64),
        checked=np.array([len(tree.tokens) for tree in trees], np.int64),
        rejected=np.array([_rejects(tree, path) for tree, path in zip(trees, paths, strict=True)], bool),
    )
    rounds.credit = np.zeros((len(trees), len(pool.drafters) + 1), np.int64)
    for i, (tree, path) in enumerate(zip(trees, paths, strict=True)):
        for node in path[: int(rounds.accepted[i])]:
            rounds.credit[i, tree.sources[node]] += 1
    return rounds


def _rejects(tree: Tree, path: Sequence[int]) -> bool:
    """Whether the target was offered something behind the last standing node."""
    return tree.has_children(path[-1] if path else ROOT)


def stood(tree: Tree, emitted: Sequence[int]) -> int:
    """Leading tokens of the model drafter's chain that were committed: what its cache keeps of them."""
    same = [tree.tokens[node] == token for node, token in zip(tree.chain, emitted, strict=False)]
    return same.index(False) if False in same else len(same)
