"""The optimum in seconds. The environment's side only, like all of ``oracle``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.sim.oracle.board import Board, Boards, agreeing, optimum
from metasd.sim.oracle.rounds import episodes
from metasd.sim.replay.clock import Clock
from metasd.traces.trace import Trace

_LONGEST_WITH_LAG = 4096  # tokens up to which the optimum in seconds keeps a drafter's lag in its state


def clairvoyant_seconds(
    trace: Trace,
    pool: Pool,
    *,
    prompts: Any = None,
    seeds: Any = 0,
    budget: int | None = None,
    costs: CostModel | None = None,
) -> tuple[Floats, bool]:
    """[E] the least modelled seconds that can decode each text, and whether that is exact.

    Exact when no arm's drafter lags, and with one drafter that does (its lag is then part of the state, for texts of
    at most 4,096 tokens). With several, or longer texts, catch-up is taken to cost nothing: a lower bound.
    Raises UsageError when there is no clock.
    """
    boards = Boards(trace, pool, budget)
    clock = Clock(_clock(trace, costs), pool, trace.depth)
    texts, judge = episodes(trace, prompts, seeds)
    models = np.unique(pool.drafter_of[~pool.plain & ~pool.free[pool.drafter_of]]) if pool.drafters else np.zeros(0)
    short = not len(texts) or int(boards.lengths[texts].max()) <= _LONGEST_WITH_LAG
    out = np.zeros(len(texts))
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        prompt = np.asarray(trace.prompt_lengths, np.int64)[texts[part]]
        cost = _cost(clock, pool, board, prompt)
        if len(models) == 1 and short:
            out[part] = _with_lag(clock, pool, board, cost, prompt, int(models[0]))
        else:
            out[part] = optimum(board, cost)[0]
    return out, len(models) == 0 or (len(models) == 1 and short)


def _clock(trace: Trace, costs: CostModel | None) -> CostModel:
    found = costs or trace.costs
    if found is None:
        raise UsageError("seconds need a clock, and this trace has no costs.json; give costs or count rounds")
    return found


def _cost(clock: Clock, pool: Pool, board: Board, prompt: Ints) -> Floats:
    """[R, K] seconds of each round without catch-up."""
    drafter = np.broadcast_to(pool.drafter_of, board.drafted.shape)
    context = (prompt[board.episode] + board.position)[:, None]
    draft, verify = clock.seconds(drafter, board.drafted, context)
    return draft + verify


def _with_lag(clock: Clock, pool: Pool, board: Board, cost: Floats, prompt: Ints, model: int) -> Floats:
    """[E] the optimum with the lag of one drafter in the state."""
    ends = np.cumsum(board.lengths)
    uses = (board.drafted > 0) & (pool.drafter_of == model)
    whole = agreeing(board)
    out = np.zeros(len(ends))
    for e, end in enumerate(ends):
        rows = slice(int(end - board.lengths[e]), int(end))
        out[e] = _one_with_lag(clock, model, board.emitted[rows], cost[rows], uses[rows], whole[rows], int(prompt[e]))
    return out


def _one_with_lag(
    clock: Clock, model: int, emitted: Ints, cost: Floats, uses: NDArray[Any], whole: NDArray[Any], prompt: int
) -> float:
    """V(t, lag) backwards over one text; column t + 1 + lag' is the state of a drafter not used so far.

    Once used, a drafter lags by 1 (its whole draft was accepted, and it never read its own last token) or by 0, and
    from then on by what others emit: at position t by 0..t. Never used, it lags by the prompt and the answer.
    """
    length, arms = emitted.shape
    value, never = np.zeros((length + 1, length + 2)), np.zeros(length + 1)
    lag = np.arange(length + 2)
    reread = clock.catch_up(np.full(length + 2, model), lag)
    whole_prompt = clock.catch_up(np.full(length, model), np.maximum(prompt - 1 + np.arange(length), 0))
    for t in range(length - 1, -1, -1):
        best, untouched = np.full(t + 1, np.inf), np.inf
        for k in range(arms):
            to, price = t + int(emitted[t, k]), float(cost[t, k])
            if uses[t, k]:
                after = price + value[to, int(whole[t, k])]
                best = np.minimum(best, after + reread[: t + 1])
                untouched = min(untouched, after + whole_prompt[t])
            else:
                best = np.minimum(best, price + value[to, to - t : to + 1])
                untouched = min(untouched, price + never[to])
        value[t, : t + 1], never[t] = best, untouched
    return float(never[0])
