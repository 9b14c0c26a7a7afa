"""Every round that could be played on some texts, and the backward recursion over them.

The environment's side only: all of this knows the future. Rows are counted from their text's end (``left``), so that
all texts are swept at once, whatever their lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.noise import Keys, uniform_at
from metasd.core.pool import Pool
from metasd.core.records import NO_END, Bools, Floats, Ints, settle
from metasd.sim.replay.drafts import Outcomes, budgets, plain
from metasd.traces.trace import Trace

_CHUNK_CELLS = 1 << 19  # (row, arm) cells tabulated at a time: bounds the scratch memory


@dataclass(slots=True)
class Board:
    """All rounds of E episodes: R rows, K arms. Rows of an episode are consecutive, from its start to its edge."""

    episode: Ints  # [R] 0..E-1
    position: Ints  # [R]
    left: Ints  # [R] tokens from the row to the edge of its text (its end or its budget), >= 1
    lengths: Ints  # [E] tokens of each episode, its rows
    drafted: Ints  # [R, K]
    accepted: Ints  # [R, K]
    emitted: Ints  # [R, K]


class Boards:
    """Boards of a trace under a pool and a budget, a chunk of texts at a time."""

    def __init__(self, trace: Trace, pool: Pool, budget: int | None = None) -> None:
        self.trace, self.pool = trace, pool
        self.offsets = np.asarray(trace.offsets, np.int64)
        self.limit = self.offsets[:-1] + budgets(trace, budget)
        self.end = np.where(trace.ended, self.offsets[1:], NO_END)
        self.outcomes = Outcomes(trace, pool)
        self.lengths = np.minimum(self.limit, self.end) - self.offsets[:-1]

    def chunks(self, texts: Ints) -> Iterator[Ints]:
        """Indices into ``texts``, longest first, in chunks of similar lengths that fit the scratch memory."""
        order = np.argsort(-self.lengths[texts], kind="stable")
        cells = np.cumsum(self.lengths[texts][order]) * len(self.pool)
        cuts = np.flatnonzero(np.diff(cells // _CHUNK_CELLS)) + 1
        yield from (part for part in np.split(order, cuts) if len(part))

    def board(self, texts: Ints, judge: Keys | None) -> Board:
        """The board of ``texts`` [E]; ``judge`` [E] is needed above temperature 0."""
        row, episode, position = self._rows(texts)
        proposed, agreed = self._by_arm(row, episode, position, judge)
        return self._settled(texts, proposed, agreed)

    def chances(self, texts: Ints) -> tuple[list[Board], list[Floats]]:
        """Boards of ``texts`` [E] of a sampled trace by how many draft tokens are accepted, 0 to the trace's depth at
        least, and [R, K] the chance of each."""
        if self.trace.accept is None:
            raise ValueError("a trace that was not sampled leaves nothing to chance")
        row, _, _ = self._rows(texts)
        cells = [row * self.outcomes.D + d for d in range(max(self.outcomes.D, 1))]
        of = self.pool.drafter_of
        proposed = np.stack([self.outcomes.proposal(cell) for cell in cells], axis=1)[:, of].astype(np.int64)
        each = plain(self.trace.accept).take(row, axis=0).astype(np.float64)
        reach = np.concatenate([np.ones_like(each[..., :1]), np.cumprod(each, axis=2)], axis=2)
        exactly = np.concatenate([reach[..., :-1] - reach[..., 1:], reach[..., -1:]], axis=2)
        depths = range(exactly.shape[2])
        boards = [self._settled(texts, proposed, np.full_like(proposed, depth)) for depth in depths]
        return boards, [exactly[:, of, depth] for depth in depths]

    def _rows(self, texts: Ints) -> tuple[Ints, Ints, Ints]:
        """[R] row, episode and position of every start of ``texts``."""
        lengths = self.lengths[texts]
        episode = np.repeat(np.arange(len(texts)), lengths)
        position = np.arange(len(episode)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.offsets[texts][episode] + position, episode, position

    def _settled(self, texts: Ints, proposed: Ints, agreed: Ints) -> Board:
        """The board of ``texts`` where every arm's draft is ``proposed`` [R, K] long and ``agreed`` [R, K] of it
        hold."""
        row, episode, position = self._rows(texts)
        lengths, shape = self.lengths[texts], proposed.shape
        end = self.end[texts][episode]

        def wide(column: Ints) -> Ints:
            return np.broadcast_to(column[:, None], shape)

        arm = np.broadcast_to(np.arange(len(self.pool)), shape)
        made = settle(
            lane=wide(episode),
            prompt=wide(episode),
            arm=arm,
            draft_length=self.pool.draft_length[arm],
            position=wide(position),
            remaining=wide(self.limit[texts][episode] - row),
            proposed=proposed,
            agreed=agreed,
            ends_in=wide(np.where(end == NO_END, NO_END, end - row)),
            catch_up=np.zeros(shape, np.int64),
        )
        left = lengths[episode] - position
        return Board(episode, position, left, lengths, made.drafted, made.accepted, made.emitted)

    def _by_arm(self, row: Ints, episode: Ints, position: Ints, judge: Keys | None) -> tuple[Ints, Ints]:
        """[R, K] proposed and agreed, each drafter looked up once."""
        cells = [row * self.outcomes.D + d for d in range(max(self.outcomes.D, 1))]
        proposed = np.stack([self.outcomes.proposal(cell) for cell in cells], axis=1)
        if self.trace.accept is None:
            agreed = np.stack([self.outcomes.agreed(cell, None, position) for cell in cells], axis=1)
        else:
            agreed = self._judged(row, episode, position, judge)
        of = self.pool.drafter_of
        return proposed[:, of].astype(np.int64), agreed[:, of].astype(np.int64)

    def _judged(self, row: Ints, episode: Ints, position: Ints, judge: Keys | None) -> Ints:
        """[R, D] agreed above temperature 0 under the frozen luck of each episode's stream."""
        if judge is None or self.trace.accept is None:
            raise ValueError("a sampled trace is judged by streams")
        u = uniform_at(judge[episode][:, None], position[:, None] + np.arange(self.trace.depth))
        chance = plain(self.trace.accept).take(row, axis=0)
        return np.minimum.accumulate(u[:, None, :] < chance, axis=2).sum(axis=2)


def dense(board: Board, values: NDArray[Any]) -> NDArray[Any]:
    """[L + 1, E, ...] ``values`` [R, ...] by tokens left and episode; L is the longest episode."""
    out = np.zeros((int(board.lengths.max()) + 1, len(board.lengths), *values.shape[1:]), values.dtype)
    out[board.left, board.episode] = values
    return out


def fixed(board: Board, emitted: Ints) -> Ints:
    """[E, C] rounds to reach the edge when each round emits column c of ``emitted`` [R, C]."""
    jump = dense(board, emitted)
    value = np.zeros(jump.shape, np.int64)
    running = _running(board)
    flat, width = value.reshape(-1), jump.shape[1] * jump.shape[2]
    cell = np.arange(width).reshape(jump.shape[1:])
    for left in range(1, len(jump)):
        n = running[left]
        value[left, :n] = 1 + flat.take((left - jump[left, :n]) * width + cell[:n])
    return value[board.lengths, np.arange(len(board.lengths))]


def expected(boards: list[Board], chances: list[Floats]) -> Floats:
    """[E, K] rounds expected to reach the edge with each arm throughout, over ``Boards.chances``.

    A position is judged at most once in a run, so rounds are independent: V(t) = 1 + sum of chance x V(t + emitted).
    """
    jumps = [dense(board, board.emitted) for board in boards]
    weights = [dense(boards[0], chance) for chance in chances]
    value = np.zeros(jumps[0].shape)
    running = _running(boards[0])
    flat, width = value.reshape(-1), jumps[0].shape[1] * jumps[0].shape[2]
    cell = np.arange(width).reshape(jumps[0].shape[1:])
    for left in range(1, len(value)):
        n = running[left]
        ahead = (
            w[left, :n] * flat.take((left - j[left, :n]) * width + cell[:n])
            for j, w in zip(jumps, weights, strict=True)
        )
        value[left, :n] = 1 + sum(ahead)
    return value[boards[0].lengths, np.arange(len(boards[0].lengths))]


def optimum(board: Board, cost: Floats | None = None) -> tuple[Floats, Ints]:
    """Least total cost to reach the edge, V(t) = min over arms of cost + V(t + emitted), by backward recursion.

    Args: cost [R, K] of each round, 1 if None.
    Returns [E] the optimum from the first row, and [L + 1, E] the first optimal arm by tokens left and episode.
    """
    jump = dense(board, board.emitted)
    price = np.ones(1) if cost is None else dense(board, cost)
    value = np.zeros(jump.shape[:2])
    arm = np.zeros(jump.shape[:2], np.int64)
    running = _running(board)
    flat, width = value.reshape(-1), jump.shape[1]
    cell = np.arange(width)[:, None]
    for left in range(1, len(jump)):
        n = running[left]
        total = flat.take((left - jump[left, :n]) * width + cell[:n])
        total += price if cost is None else price[left, :n]
        arm[left, :n] = total.argmin(axis=1)
        value[left, :n] = total[np.arange(n), arm[left, :n]]
    return value[board.lengths, np.arange(len(board.lengths))], arm


def _running(board: Board) -> list[int]:
    """How many episodes are at least so long; episodes come longest first, so they are the first ones."""
    counts: list[int] = (board.lengths[None, :] >= np.arange(int(board.lengths.max()) + 1)[:, None]).sum(1).tolist()
    return counts


def agreeing(board: Board) -> Bools:
    """[R, K] whole drafts accepted: the drafter's last token is then the one it still has to read."""
    return (board.accepted == board.drafted) & (board.drafted > 0)
