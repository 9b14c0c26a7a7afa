"""The state of B replayed texts, one a lane, and the play of a round on them.

Knows the trace; is told which text to begin on which lane. The queue of texts is ``session``'s, spaces and rewards
are ``engine``'s. Whatever leaves this module is a fresh array: nothing a policy is given shares memory with the trace.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core import NO_END, Bools, Context, Floats, Ints, Rounds, settle
from metasd.costs import CostModel
from metasd.errors import TraceError
from metasd.noise import Keys
from metasd.pool import Pool
from metasd.signals import F
from metasd.sim.clock import Clock
from metasd.sim.outcomes import Outcomes, budgets, plain, unpack
from metasd.traces.trace import Trace

NEVER = np.int64(1 << 40)  # an end that is not on this trace


class Lanes:
    """B lanes over a trace. All state is [B] arrays of trace rows: ``row`` is where the next draft starts.

    Args:
        budget: token budget of every text, None for the recorded one.
        costs: the clock, None for the trace's own; without either, rounds carry no seconds.
        catch_all: model drafters are caught up after every round, because full information on them was asked for.
    """

    def __init__(
        self,
        trace: Trace,
        pool: Pool,
        lanes: int,
        *,
        budget: int | None = None,
        costs: CostModel | None = None,
        overlap: bool = False,
        catch_all: bool = False,
    ) -> None:
        self.trace, self.pool, self.lanes = trace, pool, lanes
        self.outcomes = Outcomes(trace, pool)
        self.budgets = budgets(trace, budget)
        costs = costs or trace.costs
        self.clock = None if costs is None else Clock(costs, pool, trace.depth)
        self.overlap = overlap
        self.catch_all = catch_all
        self.models = ~pool.free  # [D] drafters that lag behind the text
        self.lagging = bool(self.models[pool.drafter_of[~pool.plain]].any()) or (catch_all and bool(self.models.any()))
        self.offsets = np.asarray(trace.offsets, np.int64)
        self.index = np.arange(lanes)
        self.text = np.zeros(lanes, np.int64)  # index in the trace
        self.episode = np.zeros(lanes, np.int64)  # what ``Rounds.prompt`` says
        self.row = np.zeros(lanes, np.int64)
        self.start = np.zeros(lanes, np.int64)
        self.limit = np.ones(lanes, np.int64)  # row at which the budget is used up
        self.end = np.full(lanes, NEVER)  # row at which the text is over
        self.edge = np.ones(lanes, np.int64)  # the first of both
        self.shift = np.zeros(lanes, np.int64)  # row + shift = prompt and committed tokens
        self.valid = np.zeros((lanes, len(pool.drafters)), np.int64)  # row up to which each drafter has read
        self.judge: Keys = np.zeros(lanes, np.uint64)

    def begin(self, lanes: Ints, text: Ints, episode: Ints, judge: Keys | None = None) -> None:
        """``lanes`` start ``text``; no drafter has read anything of it. ``judge`` is needed above temperature 0."""
        start, stop = self.offsets[text], self.offsets[text + 1]
        if (stop <= start).any():
            empty = int(text[np.argmax(stop <= start)])
            raise TraceError(f"text {self.trace.ids[empty]!r} has no tokens; leave it out or record it again")
        self.text[lanes], self.episode[lanes] = text, episode
        self.row[lanes] = self.start[lanes] = start
        self.limit[lanes] = start + self.budgets[text]
        self.end[lanes] = np.where(np.asarray(self.trace.ended)[text], stop, NEVER)
        self.edge[lanes] = np.minimum(self.limit[lanes], self.end[lanes])
        self.shift[lanes] = np.asarray(self.trace.prompt_lengths)[text] - start
        self.valid[lanes] = -self.shift[lanes, None]
        if judge is not None:
            self.judge[lanes] = judge

    def play(self, arms: Ints, lanes: Ints | None = None) -> Rounds:
        """One round with ``arms`` [n] on ``lanes`` (all by default); rows move on behind what was emitted."""
        at = slice(None) if lanes is None else lanes
        row, position = self.row[at], self.row[at] - self.start[at]
        drafter = self.pool.drafter_of.take(arms)
        proposed = self.outcomes.proposal(row, drafter)
        judge = self.judge[at] if self.trace.sampled else None
        agreed = self.outcomes.agreed(row, drafter, judge, position)
        drafted, accepted, emitted, stop = unpack(self.outcomes.packed(arms, proposed, agreed))
        rounds = Rounds(
            lane=self.index.copy() if lanes is None else lanes.copy(),
            prompt=self.episode[lanes] if lanes is not None else self.episode.copy(),
            arm=np.array(arms, np.int64),
            position=position,
            drafted=drafted,
            accepted=accepted,
            emitted=emitted,
            stop=stop,
            finished=np.zeros(len(row), bool),
            catch_up=np.zeros(len(row), np.int64),
        )
        near = np.flatnonzero(self.edge[at] - row <= self.outcomes.depth + 1)
        if len(near):
            self._settle_near(rounds, near, proposed[near], agreed[near])
        if self.overlap:
            rounds.overlap = self.outcomes.overlap(row, drafter, rounds.drafted)
        self._time(rounds, at, row, drafter)
        self.row[at] = row + rounds.emitted
        return rounds

    def _settle_near(self, rounds: Rounds, near: Ints, proposed: NDArray[np.uint8], agreed: Ints) -> None:
        """Settle the rounds that may meet an end, in place."""
        lane = rounds.lane[near]
        end = self.end[lane]
        ends_in = np.where(end == NEVER, NO_END, end - self.row[lane])
        made = settle(
            lane=lane,
            prompt=rounds.prompt[near],
            arm=rounds.arm[near],
            draft_length=self.pool.draft_length[rounds.arm[near]],
            position=rounds.position[near],
            remaining=self.limit[lane] - self.row[lane],
            proposed=proposed.astype(np.int64),
            agreed=agreed.astype(np.int64),
            ends_in=ends_in,
            catch_up=rounds.catch_up[near],
        )
        for name in ("drafted", "accepted", "emitted", "stop", "finished"):
            getattr(rounds, name)[near] = getattr(made, name)

    def _time(self, rounds: Rounds, at: slice | Ints, row: Ints, drafter: Ints) -> None:
        """Fill in catch-up and seconds; drafters' caches move on."""
        if self.clock is not None:
            spent = self.clock.seconds(drafter, rounds.drafted, row + self.shift[at])
            rounds.draft_seconds, rounds.verify_seconds = spent
            rounds.catch_up_seconds = np.zeros(len(row))
        if not self.lagging:
            return
        drafting = (rounds.drafted > 0) & self.models.take(drafter)
        valid = self.valid.reshape(-1)
        cell = rounds.lane * len(self.models) + drafter
        read = valid.take(cell)
        rounds.catch_up = np.maximum(row - 1 - read, 0) * drafting
        if self.clock is not None:
            rounds.catch_up_seconds = self.clock.catch_up(drafter, rounds.catch_up)
        # its own last draft token was never fed back to it, so at most drafted - 1 of its tokens are in its cache
        kept = row + np.minimum(rounds.drafted - 1, rounds.accepted)
        valid[cell] = np.where(drafting, kept, read)
        if self.catch_all:
            self._catch_up_all(rounds, at, row)

    def _catch_up_all(self, rounds: Rounds, at: slice | Ints, row: Ints) -> None:
        """Every model drafter reads up to the last token but one, as live full information needs; it is charged."""
        upto = row + rounds.emitted - 1
        behind = np.maximum(upto[:, None] - self.valid[at], 0) * self.models
        self.valid[at] = np.maximum(self.valid[at], np.where(self.models, upto[:, None], 0))
        rounds.catch_up += behind.sum(axis=1)
        if self.clock is not None:
            every = np.broadcast_to(np.arange(len(self.models)), behind.shape)
            rounds.catch_up_seconds = rounds.catch_up_seconds + self.clock.catch_up(every, behind).sum(axis=1)

    # -- what a policy may see before a round ---------------------------------------------------------------------

    def offered(self) -> NDArray[np.uint8]:
        """[B, D] tokens each drafter offers now."""
        return self.outcomes.proposed.take(self.row, axis=0)

    def available(self) -> Bools:
        """[B, K] arms with a proposal, plain ones included."""
        if not self.outcomes.D:
            return np.ones((self.lanes, len(self.pool)), bool)
        has = self.offered() > 0
        if not np.array_equal(self.pool.drafter_of, np.arange(self.outcomes.D)):
            has = has.take(self.pool.drafter_of, axis=1)
        if self.pool.plain.any():
            has |= self.pool.plain
        return has

    def context(self, reads: frozenset[str]) -> Context:
        """Fresh arrays of what is known now, the optional ones as ``reads`` asks."""
        made = Context(position=self.row - self.start, remaining=self.limit - self.row, available=self.available())
        if "signals" in reads:
            made.signals = self.signals_at(self.row)
        if "lag" in reads or "cost" in reads:
            lag = np.maximum(self.row[:, None] - 1 - self.valid, 0) * self.models
            made.lag = lag if "lag" in reads else None
            made.cost = self._expected(made.remaining, lag) if "cost" in reads else None
        if "tail" in reads:
            made.tail = self._tail()
        if "proposal" in reads:
            made.proposal = self._first_tokens()
        return made

    def signals_at(self, row: Ints) -> Floats:
        """[n, D, F] signals at trace rows; all NaN where none were recorded."""
        if self.trace.signals is None:
            return np.full((len(row), len(self.pool.drafters), F), np.nan, np.float32)
        return plain(self.trace.signals).take(row, axis=0).astype(np.float32)

    def _expected(self, remaining: Ints, lag: Ints) -> Floats:
        if self.clock is None:
            return np.full((self.lanes, len(self.pool)), np.nan)
        return self.clock.expected(remaining, self.row + self.shift, lag)

    def _tail(self) -> Ints:
        """[B, 2] the last two tokens of prompt and answer, newest last, -1 where there is none or none recorded."""
        back = np.array([2, 1])
        at = (self.row - self.start)[:, None] - back
        tail = plain(self.trace.tokens).take(np.maximum(self.row[:, None] - back, 0)).astype(np.int64)
        if self.trace.prompt_tokens is None:
            return np.where(at >= 0, tail, -1)
        ends = np.cumsum(self.trace.prompt_lengths)
        lengths = np.asarray(self.trace.prompt_lengths)[self.text]
        from_prompt = plain(self.trace.prompt_tokens).take(ends[self.text][:, None] + at, mode="clip").astype(np.int64)
        return np.where(at >= 0, tail, np.where(at >= -lengths[:, None], from_prompt, -1))

    def _first_tokens(self) -> Ints:
        """[B, D] the first token of each free drafter's proposal, -1 without one."""
        if self.trace.draft_tokens is None:
            return np.full((self.lanes, len(self.pool.drafters)), -1, np.int64)
        first = plain(self.trace.draft_tokens).take(self.row, axis=0)[..., 0].astype(np.int64)
        return np.where((self.offered() > 0) & self.pool.free, first, -1)

    def park(self, lanes: Ints) -> None:
        """``lanes`` have nothing to play; they stand at a row that can be read, with no budget."""
        self.row[lanes] = self.limit[lanes] = self.start[lanes]
        self.edge[lanes] = NEVER
