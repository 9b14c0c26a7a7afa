"""What the best possible choices would have reached. The environment's side only: no policy may import or reach it.

At temperature 0 all of it is exact. Above it, "under a seed" means with that seed's luck frozen, the luck that
``TraceSession`` gives a policy under the same seed: the optimum then also knows the luck, and is an upper bound that no
policy can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.records import Ints
from metasd.core.pool import Pool
from metasd.sim.oracle.board import Board, Boards, fixed, optimum
from metasd.traces.trace import Trace


def episodes(trace: Trace, prompts: Any, seeds: Any, judge: Any = None) -> tuple[Ints, noise.Keys | None]:
    """Texts [E] and, above temperature 0, the streams that judge them."""
    texts = np.arange(len(trace)) if prompts is None else np.asarray(prompts, np.int64).reshape(-1)
    if not trace.sampled or judge is not None:
        return texts, judge
    of = np.broadcast_to(np.asarray(seeds, np.int64), texts.shape).tolist()
    keys = [noise.judge_key(s, trace.ids[p]) for s, p in zip(of, texts.tolist(), strict=True)]
    return texts, np.array(keys, np.uint64)


def fixed_arm_rounds(
    trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None, judge: Any = None
) -> Ints:
    """[E, K] rounds each arm takes for each text when it is always chosen; a round without a proposal emits one token.

    Args:
        prompts: [E] indices of texts, all by default.
        seeds: one seed or [E]; without meaning at temperature 0. ``judge`` [E] gives the streams themselves.
    """
    return _columns(trace, pool, prompts, seeds, budget, judge, lambda board: board.emitted, len(pool))


def greedy_rounds(trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None) -> Ints:
    """[E] rounds of the one-step best: always the arm that emits most now. Not optimal where reach can fall."""
    best = _columns(trace, pool, prompts, seeds, budget, None, lambda b: b.emitted.max(axis=1, keepdims=True), 1)
    return best[:, 0]


def _columns(
    trace: Trace, pool: Pool, prompts: Any, seeds: Any, budget: int | None, judge: Any, pick: Any, width: int
) -> Ints:
    boards = Boards(trace, pool, budget)
    texts, judge = episodes(trace, prompts, seeds, judge)
    out = np.zeros((len(texts), width), np.int64)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        out[part] = fixed(board, pick(board))
    return out


def best_fixed(rounds: NDArray[Any], domains: Sequence[str] | None = None) -> tuple[NDArray[Any], Ints]:
    """[E] cost of the best fixed arm and which it was, given ``rounds`` [E, K] (or seconds).

    domains: None picks the best arm of each text. [E] names pick one arm for all texts of a name (the ideal router);
    give the same name for all to get the best arm overall.
    """
    if domains is None:
        arm = rounds.argmin(axis=1)
    else:
        group = np.unique(np.asarray(domains, dtype=str), return_inverse=True)[1]
        total = np.zeros((group.max(initial=-1) + 1, rounds.shape[1]))
        np.add.at(total, group, rounds)
        arm = total.argmin(axis=1)[group]
    return rounds[np.arange(len(rounds)), arm], arm


def clairvoyant_rounds(
    trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None, judge: Any = None
) -> Ints:
    """[E] the fewest rounds that can decode each text: V(t) = 1 + min over arms of V(t + emitted).

    Arguments as for ``fixed_arm_rounds``.
    """
    boards = Boards(trace, pool, budget)
    texts, judge = episodes(trace, prompts, seeds, judge)
    out = np.zeros(len(texts), np.int64)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        out[part] = np.rint(optimum(board)[0])
    return out


def oracle_policy_arms(
    trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None
) -> list[Ints]:
    """For each text the arms, round by round, of one optimal schedule in rounds (ties: first in pool order)."""
    boards = Boards(trace, pool, budget)
    texts, judge = episodes(trace, prompts, seeds)
    out: list[Ints] = [np.zeros(0, np.int64)] * len(texts)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        arm = optimum(board)[1]
        starts = np.cumsum(board.lengths) - board.lengths
        for e, which in enumerate(part):
            out[which] = _walk(arm[:, e], board, int(starts[e]), int(board.lengths[e]))
    return out


def _walk(arm: Ints, board: Board, first: int, length: int) -> Ints:
    """The optimal arms of one episode, whose rows begin at ``first``."""
    chosen, at = [], 0
    while at < length:
        chosen.append(int(arm[length - at]))
        at += int(board.emitted[first + at, chosen[-1]])
    return np.array(chosen, np.int64)
