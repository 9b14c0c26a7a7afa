"""What tests ask of the oracles and the product does not: whole schedules, and playing every arm by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.sim.oracle.board import Board, Boards, fixed, optimum
from metasd.sim.oracle.rounds import episodes
from metasd.sim.replay.lanes import Lanes
from metasd.traces.trace import Trace


def greedy_rounds(trace: Trace, pool: Pool) -> Ints:
    """[E] rounds of the one-step best at temperature 0: always the arm that emits most now; not optimal."""
    boards = Boards(trace, pool)
    out = np.zeros(len(trace), np.int64)
    for part in boards.chunks(np.arange(len(trace))):
        board = boards.board(part, None)
        out[part] = fixed(board, board.emitted.max(axis=1, keepdims=True))[:, 0]
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


def fixed_arm_seconds(trace: Trace, pool: Pool, *, seeds: Any = 0, budget: int | None = None) -> Floats:
    """[P, K] modelled seconds of each text under each fixed arm, catch-up included, by playing them."""
    texts, judge = episodes(trace, None, seeds)
    out = np.zeros((len(texts), len(pool)))
    for k in range(len(pool)):
        lanes = Lanes(trace, pool, len(texts), budget=budget, costs=trace.costs)
        lanes.begin(lanes.index, texts, texts, judge)
        going = lanes.index
        while len(going):
            rounds = lanes.play(np.full(len(going), k), going)
            out[rounds.lane, k] += rounds.seconds
            going = going[~rounds.finished]
    return out
