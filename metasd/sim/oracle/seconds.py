"""The optimum in seconds. The environment's side only, like all of ``oracle``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.cache_rule import behind, read_after
from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.sim.oracle.board import Board, Boards, agreeing, optimum
from metasd.sim.oracle.rounds import episodes
from metasd.sim.replay.clock import Clock
from metasd.traces.trace import Trace

_LONGEST_WITH_LAG = 4096  # tokens up to which the optimum in seconds keeps a drafter's lag in its state
_TIGHTENED = 50_000  # positions times lagging drafters up to which bounds for several of them are drawn closer


@dataclass(frozen=True, slots=True)
class Seconds:
    """What choosing could have come to, in modelled seconds: between ``least`` and ``reached``.

    Attributes:
        least: [E] no way of choosing takes less.
        reached: [E] seconds of a way of choosing that was found; ``least`` where that is the optimum.
    """

    least: Floats
    reached: Floats

    @property
    def exact(self) -> bool:
        """Whether the two agree everywhere."""
        return bool((self.reached <= self.least * (1 + 1e-12)).all())


def clairvoyant_seconds(
    trace: Trace,
    pool: Pool,
    *,
    prompts: Any = None,
    seeds: Any = 0,
    budget: int | None = None,
    costs: CostModel | None = None,
) -> Seconds:
    """The least modelled seconds that can decode each of the E texts.

    Exact when no arm's drafter lags, and with one drafter that does (its lag is then part of the state, for texts of
    at most 4,096 tokens). Else ``least`` takes catching up to cost nothing, and ``reached`` is the better of that way
    with its catch-ups paid and of doing without drafters that lag. On small traces both are drawn closer by the optima
    that count the lag of one drafter and that allow one such drafter only. Raises UsageError when there is no clock.
    """
    boards = Boards(trace, pool, budget)
    clock = Clock(_clock(trace, costs), pool, trace.depth)
    texts, judge = episodes(trace, prompts, seeds)
    found = np.unique(pool.drafter_of[~pool.plain & ~pool.free[pool.drafter_of]]) if pool.drafters else np.zeros(0)
    models = [int(d) for d in found]
    short = not len(texts) or int(boards.lengths[texts].max()) <= _LONGEST_WITH_LAG
    few = int(boards.lengths[texts].sum()) * len(models) <= _TIGHTENED
    least, reached = np.zeros(len(texts)), np.zeros(len(texts))
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        prompt = np.asarray(trace.prompt_lengths, np.int64)[texts[part]]
        cost = _cost(clock, pool, board, prompt)
        if not models:
            least[part] = reached[part] = optimum(board, cost)[0]
        elif len(models) == 1 and short:
            least[part] = reached[part] = _with_lag(clock, pool, board, cost, prompt, models[0])
        else:
            closer = models if short and few else []
            least[part], reached[part] = _bounds(clock, pool, board, cost, prompt, closer)
    return Seconds(least, reached)


def _bounds(
    clock: Clock, pool: Pool, board: Board, cost: Floats, prompt: Ints, closer: Sequence[int]
) -> tuple[Floats, Floats]:
    """[E] and [E] see ``Seconds``. closer: drafters whose lags draw the bounds closer."""
    least, arm = optimum(board, cost)
    reached = _walk(clock, pool, board, cost, prompt, arm)
    free = pool.plain | (pool.free[pool.drafter_of])
    if free.any():
        without = replace(board, **{name: getattr(board, name)[:, free] for name in ("drafted", "accepted", "emitted")})
        reached = np.minimum(reached, optimum(without, cost[:, free])[0])
    for model in closer:
        least = np.maximum(least, _with_lag(clock, pool, board, cost, prompt, model))
        alone = free | (pool.drafter_of == model)
        reached = np.minimum(reached, _with_lag(clock, pool, board, cost, prompt, model, alone))
    return least, reached


def _walk(clock: Clock, pool: Pool, board: Board, cost: Floats, prompt: Ints, arm: Ints) -> Floats:
    """[E] seconds of playing ``arm`` [L + 1, E] (by tokens left), every catch-up paid."""
    each = np.arange(len(board.lengths))
    first = np.cumsum(board.lengths) - board.lengths
    t, spent = np.zeros(len(each), np.int64), np.zeros(len(each))
    read = np.zeros((len(each), len(pool.drafters)), np.int64)
    while len(on := each[t[each] < board.lengths[each]]):
        row, k = first[on] + t[on], arm[board.lengths[on] - t[on], on]
        drafted, d, length = board.drafted[row, k], pool.drafter_of[k], prompt[on] + t[on]
        lags = (drafted > 0) & ~pool.free[d]
        spent[on] += cost[row, k] + np.where(lags, clock.catch_up(d, behind(length, read[on, d])), 0.0)
        after = read_after(length, drafted, board.accepted[row, k], pool.committed[d])
        read[on[lags], d[lags]] = after[lags]
        t[on] += board.emitted[row, k]
    return spent


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


def _with_lag(
    clock: Clock,
    pool: Pool,
    board: Board,
    cost: Floats,
    prompt: Ints,
    model: int,
    arms: NDArray[np.bool_] | None = None,
) -> Floats:
    """[E] the optimum, of ``arms`` [K] only, with the lag of one drafter in the state; that of others costs nothing."""
    kept = np.flatnonzero(np.ones(len(pool), bool) if arms is None else arms)
    ends = np.cumsum(board.lengths)
    uses = (board.drafted > 0) & (pool.drafter_of == model)
    left = board.emitted if pool.committed[model] else agreeing(board).astype(np.int64)
    out = np.zeros(len(ends))
    for e, end in enumerate(ends):
        at = slice(int(end - board.lengths[e]), int(end)), kept
        out[e] = _one_with_lag(clock, model, board.emitted[at], cost[at], uses[at], left[at], int(prompt[e]))
    return out


def _one_with_lag(
    clock: Clock, model: int, emitted: Ints, cost: Floats, uses: NDArray[Any], left: Ints, prompt: int
) -> float:
    """V(t, lag) backwards over one text; column t + 1 + lag' is the state of a drafter not used so far.

    Once used, a drafter lags by what its round ``left`` unread: 1 (its whole draft was accepted, and it never read its
    own last token) or 0, for a head all that was emitted. From then on it lags by what others emit as well: at position
    t by 0..t. Never used, it lags by the prompt and the answer.
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
                after = price + value[to, int(left[t, k])]
                best = np.minimum(best, after + reread[: t + 1])
                untouched = min(untouched, after + whole_prompt[t])
            else:
                best = np.minimum(best, price + value[to, to - t : to + 1])
                untouched = min(untouched, price + never[to])
        value[t, : t + 1], never[t] = best, untouched
    return float(never[0])
