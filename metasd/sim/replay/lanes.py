"""The state of B replayed texts, one a lane, and the play of a round on them.

Knows the trace; is told which text to begin on which lane. The queue of texts is ``session``'s, spaces and rewards
are ``engine``'s. Nothing that leaves this module shares memory with the trace.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metasd.core.cache_rule import behind, read_after
from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.core.noise import Keys
from metasd.core.pool import Pool
from metasd.core.records import NO_END, UNKNOWN_BUDGET, Bools, Context, Floats, Ints, Rounds, settle
from metasd.core.signals import F
from metasd.sim.replay.clock import Clock
from metasd.sim.replay.drafts import Outcomes, budgets, left, plain
from metasd.traces.trace import Trace


class Lanes:
    """B lanes over a trace. All state is [B] arrays of trace rows: ``row`` is where the next draft starts.

    Args:
        budget: token budget of every text, None for the recorded one.
        costs: the clock, None for the trace's own; without either, rounds carry no seconds.
        timed: fill in the seconds of ``Rounds``, if there is a clock.
        catch_up: keep account of how far each drafter has read. Off, lags and ``Rounds.catch_up`` are 0.
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
        timed: bool = True,
        catch_up: bool = True,
        catch_all: bool = False,
    ) -> None:
        self.trace, self.pool, self.lanes = trace, pool, lanes
        self._describe_texts(trace, budget)
        self.outcomes = Outcomes(trace, pool)
        costs = costs or trace.costs
        self.clock = None if costs is None else Clock(costs, pool, trace.depth)
        self.overlap, self.timed, self.catch_all = overlap, timed and self.clock is not None, catch_all
        self.models = ~pool.free  # [D] drafters that lag behind the text
        lagging = self.models[pool.drafter_of[~pool.plain]].any() or (catch_all and self.models.any())
        self.lagging = catch_up and bool(lagging)
        self._one_arm_each = np.array_equal(pool.drafter_of, np.arange(len(pool.drafters)))
        D, arms = len(pool.drafters), np.where(pool.plain, -1, pool.drafter_of).tolist()
        self._in_order = arms == [*range(D), *[-1] * (len(pool) - D)]
        self._of_text = np.stack(
            [
                self.offsets[:-1],  # row: where the next draft starts
                self.offsets[:-1],  # start: first row of the text
                self.end_of,  # end: row behind the text's last
                self.limit_of,  # limit: row at which the budget is used up
                self._prompt_lengths - self.offsets[:-1],  # shift: row + shift = prompt and committed tokens
                np.arange(len(trace)),  # text: index in the trace
            ]
        )
        self._state = np.zeros((len(self._of_text), lanes), np.int64)
        self.row, self.start, self.end, self.limit, self.shift, self.text = self._state
        self.index = np.arange(lanes)
        self.episode = np.zeros(lanes, np.int64)  # what ``Rounds.prompt`` says
        self.valid = np.zeros((lanes, len(pool.drafters)), np.int64)  # row up to which each drafter has read
        self.judge: Keys = np.zeros(lanes, np.uint64)
        self.caught_up = np.zeros(lanes)  # seconds of catching all drafters up in the last play, with ``catch_all``
        self.park(self.index)

    def _describe_texts(self, trace: Trace, budget: int | None) -> None:
        self.offsets = np.asarray(trace.offsets, np.int64)
        self._prompt_lengths = np.asarray(trace.prompt_lengths, np.int64)
        self._prompt_ends = np.cumsum(self._prompt_lengths)
        self._empty = np.diff(self.offsets) <= 0
        self._some_empty = bool(self._empty.any())
        self.budgets = budgets(trace, budget)
        self.limit_of = self.offsets[:-1] + self.budgets
        self._unknown = bool((self.budgets >= UNKNOWN_BUDGET).any())
        self.end_of = np.where(np.asarray(trace.ended), self.offsets[1:], NO_END)

    def begin(self, lanes: Ints, text: Ints, episode: Ints | None = None, judge: Keys | None = None) -> None:
        """``lanes`` start ``text``; no drafter has read anything of it. ``judge`` is needed above temperature 0.

        episode: what ``Rounds.prompt`` will say.
        """
        if self._some_empty and self._empty[text].any():
            empty = int(text[self._empty[text].argmax()])
            raise TraceError(f"text {self.trace.ids[empty]!r} has no tokens; leave it out or record it again")
        self._state[:, lanes] = self._of_text.take(text, axis=1)
        if episode is not None:
            self.episode[lanes] = episode
        if self.lagging:
            self.valid[lanes] = -self.shift[lanes, None]
        if judge is not None:
            self.judge[lanes] = judge

    def park(self, lanes: Ints) -> None:
        """``lanes`` have nothing to play; they stand at a row that can be read, with no budget: rounds there finish at
        once and mean nothing."""
        self.row[lanes] = self.limit[lanes] = self.start[lanes]
        self.end[lanes] = NO_END

    def play(self, arms: Ints, lanes: Ints | None = None) -> Rounds:
        """One round with ``arms`` [n] on ``lanes`` (all by default); rows move on behind what was emitted.

        The columns lane, prompt and arm are the caller's and the lanes' own arrays: copy them before giving them away.
        """
        at = slice(None) if lanes is None else lanes
        row = self.row[at]
        position = row - self.start[at]
        drafter = arms if self._one_arm_each else self.pool.drafter_of.take(arms)
        cell = row * self.outcomes.D
        cell += drafter
        proposed = self.outcomes.proposal(cell)
        agreed = self.outcomes.agreed(cell, self.judge[at] if self.trace.sampled else None, position)
        rounds = settle(
            lane=self.index if lanes is None else lanes,
            prompt=self.episode[at],
            arm=arms,
            draft_length=self.pool.draft_length.take(arms),
            position=position,
            remaining=self.limit[at] - row,
            proposed=proposed.astype(np.int64),
            agreed=agreed,
            ends_in=self.end[at] - row,
            catch_up=np.zeros(len(row), np.int64),
        )
        if self.overlap:
            rounds.overlap = self.outcomes.overlap(cell, rounds.drafted, rounds.accepted, rounds.stop)
        self._time(rounds, at, row, drafter)
        if lanes is None:
            row += rounds.emitted  # a view of self.row
        else:
            self.row[lanes] = row + rounds.emitted
        return rounds

    def _time(self, rounds: Rounds, at: slice | Ints, row: Ints, drafter: Ints) -> None:
        """Fill in catch-up and seconds; drafters' caches move on."""
        if self.clock is not None and self.timed:
            spent = self.clock.seconds(drafter, rounds.drafted, row + self.shift[at])
            rounds.draft_seconds, rounds.verify_seconds = spent
            rounds.catch_up_seconds = np.zeros(len(row))
        if not self.lagging:
            return
        some = np.flatnonzero((rounds.drafted > 0) & self.models.take(drafter))  # few: the rest has no cache to follow
        if len(some):
            first, drafted = row.take(some), rounds.drafted.take(some)
            valid = self.valid.reshape(-1)
            cell = rounds.lane.take(some) * len(self.models) + drafter.take(some)
            rounds.catch_up[some] = behind(first, valid.take(cell))
            committed = self.pool.committed.take(drafter.take(some))
            valid[cell] = read_after(first, drafted, rounds.accepted.take(some), committed)
        if self.clock is not None and self.timed:
            rounds.catch_up_seconds = self.clock.catch_up(drafter, rounds.catch_up)
        if self.catch_all:
            self._catch_up_all(rounds, at, row, drafter)

    def _catch_up_all(self, rounds: Rounds, at: slice | Ints, row: Ints, drafter: Ints) -> None:
        """Every model drafter reads up to the last token but one, as live full information needs; it is charged."""
        upto = row + rounds.emitted - 1
        lag = behind(upto[:, None] + 1, self.valid[at]) * self.models
        self.valid[at] = np.maximum(self.valid[at], np.where(self.models, upto[:, None], self.valid[at]))
        own = rounds.catch_up
        rounds.catch_up = own + lag.sum(axis=1)
        if self.clock is not None:
            every = np.broadcast_to(np.arange(len(self.models)), lag.shape)
            before = self.clock.catch_up(drafter, own)
            self.caught_up = before + self.clock.catch_up(every, lag).sum(axis=1)
            rounds.catch_up_seconds = self.caught_up.copy() if self.timed else None

    # -- what a policy may see before a round ---------------------------------------------------------------------

    def offered(self, row: Ints) -> NDArray[np.uint8]:
        """[n, D] tokens each drafter offers at trace rows; without meaning at the row behind a text's last."""
        return self.outcomes.proposed.take(row, axis=0, mode="clip")

    def available(self, row: Ints) -> Bools:
        """[n, K] arms with a proposal at trace rows, plain ones included."""
        if self._in_order:  # an arm a drafter, then plain: by far the most pools, and numpy takes columns slowly
            made = np.ones((len(self.pool), len(row)), bool)
            np.greater(self.offered(row).T, 0, out=made[: self.outcomes.D])
            return made.T
        has = (self.offered(row) > 0).take(self.pool.drafter_of, axis=1)
        has |= self.pool.plain
        return has

    def context(self, reads: frozenset[str], lanes: Ints | None = None, row: Ints | None = None) -> Context:
        """Fresh arrays of what is known now on all lanes, or some; the optional ones as ``reads`` asks.

        row: other rows of the lanes' texts than the current ones.
        """
        at = slice(None) if lanes is None else lanes
        row = self.row[at] if row is None else row
        limit = self.limit[at]
        made = Context(
            position=row - self.start[at],
            remaining=left(limit, row) if self._unknown else limit - row,
            available=self.available(row),
        )
        if "signals" in reads:
            made.signals = self.signals_at(row)
        if "lag" in reads or "cost" in reads:
            lag = behind(row[:, None], self.valid[at]) * self.models
            made.lag = lag if "lag" in reads else None
            made.cost = self._expected(made.remaining, row + self.shift[at], lag) if "cost" in reads else None
        if "pays" in reads and self.clock is not None:
            made.pays = self.clock.pays(row + self.shift[at])
        if "tail" in reads:
            made.tail = self._tail(row, made.position, self.text[at])
        if "proposal" in reads:
            made.proposal = self._first_tokens(row)
        return made

    def signals_at(self, row: Ints) -> Floats:
        """[n, D, F] signals at trace rows; all NaN where none were recorded."""
        if self.trace.signals is None:
            return np.full((len(row), len(self.pool.drafters), F), np.nan, np.float32)
        return plain(self.trace.signals).take(row, axis=0, mode="clip").astype(np.float32)

    def _expected(self, remaining: Ints, context: Ints, lag: Ints) -> Floats:
        if self.clock is None:
            return np.full((len(remaining), len(self.pool)), np.nan)
        return self.clock.expected(remaining, context, lag)

    def _tail(self, row: Ints, position: Ints, text: Ints) -> Ints:
        """[n, 2] the last two tokens of prompt and answer, newest last, -1 where there is none or none recorded."""
        back = np.array([2, 1])
        at = position[:, None] - back
        tail = plain(self.trace.tokens).take(np.maximum(row[:, None] - back, 0)).astype(np.int64)
        if self.trace.prompt_tokens is None or not len(self.trace.prompt_tokens):
            return np.where(at >= 0, tail, -1)
        ends, lengths = self._prompt_ends[text], self._prompt_lengths[text]
        from_prompt = plain(self.trace.prompt_tokens).take(ends[:, None] + at, mode="clip").astype(np.int64)
        return np.where(at >= 0, tail, np.where(at >= -lengths[:, None], from_prompt, -1))

    def _first_tokens(self, row: Ints) -> Ints:
        """[n, D] the first token of each free drafter's proposal, -1 without one or where tokens were not recorded."""
        if self.trace.draft_tokens is None:
            return np.full((len(row), len(self.pool.drafters)), -1, np.int64)
        first = plain(self.trace.draft_tokens)[:, :, 0][row].astype(np.int64)
        return np.where((self.offered(row) > 0) & self.pool.free, first, -1)
