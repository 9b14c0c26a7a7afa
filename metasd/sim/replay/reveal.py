"""Full information on a replayed text, let through by the frontier.

Knows the whole table, so it is the gate: a length is delivered in the very play in which its start + emitted comes
to lie at or before the last committed token, never earlier, however early the table knows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.records import NO_END, Bools, Floats, Ints, Revealed, Rounds, StopReason, settle
from metasd.sim.replay.lanes import Lanes


@dataclass(slots=True)
class _Pairs:
    """r (start, drafter) pairs, with the trace row of each start."""

    at: Ints  # index among the lanes that played
    row: Ints
    drafter: Ints

    def take(self, mask: Bools) -> _Pairs:
        return _Pairs(self.at[mask], self.row[mask], self.drafter[mask])


class TraceRevealer:
    """What the last play revealed of every drafter in ``scope``.

    Each play delivers, in the order lane, start, drafter:

    * the agreement at each newly committed position;
    * each (start, drafter) with a proposal there whose length became resolved by this play: at most G starts behind
      the old frontier, and the new ones;
    * if ``censored``, every pair still unresolved, again after each play with a tighter bound: ``accepted`` is then
      the tokens from the start to the frontier, all of which agreed.

    A start without a proposal has no length and no row. Above temperature 0 only deterministic drafters have
    lengths: what another would have sampled there is not known live either. Nor have heads at any temperature: live,
    what they say is known from true states only, where a draft goes on from their own.
    Raises UsageError for an unknown scope.
    """

    def __init__(self, lanes: Lanes, scope: str, censored: bool) -> None:
        if scope not in ("free", "all"):
            raise UsageError(f"scope {scope!r} is unknown; use free or all")
        self._lanes = lanes
        self._censored = censored
        pool = lanes.pool
        self._inside = pool.free.copy() if scope == "free" else np.ones(len(pool.drafters), bool)
        longest = np.zeros(len(pool.drafters), np.int64)
        np.maximum.at(longest, pool.drafter_of[~pool.plain], pool.draft_length[~pool.plain])
        self._longest = longest
        exact = np.array([d.deterministic or not lanes.trace.sampled for d in pool.drafters], bool) & ~pool.committed
        self._lengths_of = np.flatnonzero(self._inside & exact & (longest > 0))

    def after(self, rounds: Rounds) -> None:
        """Remember where the lanes stood when ``rounds`` were over: they may go on to another text at once."""
        lanes, lane = self._lanes, rounds.lane.copy()
        self._lane = lane
        self._start = lanes.start[lane]
        self._new = self._start + rounds.position + rounds.emitted  # frontier, as a trace row
        self._old = self._start + rounds.position
        self._end = lanes.end_of[lanes.text[lane]]

    def reveal(self) -> Revealed:
        """Fresh arrays; see the class."""
        position_at, row = self._committed()
        pairs = self._window()
        accepted, emitted, ended, proposed = self._lengths(pairs)
        known = pairs.row + emitted <= self._new[pairs.at]
        news = known & (pairs.row + emitted > self._old[pairs.at])
        keep = news | ~known if self._censored else news
        bound = np.where(known, accepted, self._new[pairs.at] - pairs.row)
        pairs = pairs.take(keep)
        return Revealed(
            lane=self._lane[position_at],
            position=row - self._start[position_at],
            agreement=self._agreement(row),
            start_lane=self._lane[pairs.at],
            start=pairs.row - self._start[pairs.at],
            drafter=pairs.drafter,
            proposed=proposed[keep],
            accepted=bound[keep],
            ended=(ended & known)[keep],
            censored=~known[keep],
            signals=self._signals(pairs.row),
        )

    def _committed(self) -> tuple[Ints, Ints]:
        """Each newly committed row, with the index of its lane."""
        count = self._new - self._old
        at = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        return at, self._old[at] + within

    def _agreement(self, row: Ints) -> Floats:
        """[m, D] chance that each drafter's first proposed token is accepted, given the committed token."""
        trace = self._lanes.trace
        offered = self._lanes.outcomes.proposed.take(row, axis=0)
        if trace.accept is not None:
            chance = np.asarray(trace.accept[row, :, 0], np.float64)
        else:
            chance = (np.asarray(trace.accepted[row]) > 0).astype(np.float64)
        return np.where((offered > 0) & self._inside, chance, np.nan)

    def _window(self) -> _Pairs:
        """Pairs with a proposal that were unresolved before the play, or are new."""
        longest = int(self._longest.max(initial=0))
        first = np.maximum(self._old - longest, self._start)
        count = self._new - first
        at = np.repeat(np.arange(len(count)), count)
        row = first[at] + np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        wide = len(self._lengths_of)
        at, row = np.repeat(at, wide), np.repeat(row, wide)
        pairs = _Pairs(at, row, np.tile(self._lengths_of, len(at) // max(wide, 1)))
        return pairs.take(self._lanes.outcomes.proposal(self._cell(pairs)) > 0)

    def _cell(self, pairs: _Pairs) -> Ints:
        return pairs.row * self._lanes.outcomes.D + pairs.drafter

    def _lengths(self, pairs: _Pairs) -> tuple[Ints, Ints, Bools, Ints]:
        """Accepted, emitted, whether the text ended inside, and proposed, were the drafter's longest arm played."""
        outcomes = self._lanes.outcomes
        longest = self._longest[pairs.drafter]
        proposed = np.minimum(outcomes.proposal(self._cell(pairs)), longest)
        zero = np.zeros(len(pairs.row), np.int64)
        end = self._end[pairs.at]
        made = settle(
            lane=zero,
            prompt=zero,
            arm=zero,
            draft_length=longest,
            position=zero,
            remaining=zero + NO_END,
            proposed=proposed,
            agreed=outcomes.leading(self._cell(pairs)).astype(np.int64),
            ends_in=np.where(end == NO_END, NO_END, end - pairs.row),
            catch_up=zero,
        )
        return made.accepted, made.emitted, made.stop == StopReason.TEXT_ENDED, proposed

    def _signals(self, row: Ints) -> Floats:
        signals = self._lanes.signals_at(row)
        signals[:, ~self._inside] = np.nan
        return signals
