"""Full information on a text being decoded: what its committed tokens say of every drafter.

The live twin of ``metasd.sim.replay.reveal``. It sees one committed token after the other and what every drafter
proposed before it, so it cannot tell more than the frontier allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Bools, Floats, Ints, Revealed
from metasd.core.signals import F, rounded

Signals = NDArray[np.float32] | Sequence[Sequence[float]]
"""[D, F] of all drafters at one start; plain lists are cheaper to make where texts are many."""


@dataclass(slots=True)
class Proposal:
    """What one drafter proposed at one start, and how it has fared so far.

    tokens: None for a model drafter, whose draft is known one token at a time: its next one given the text.
    """

    start: int
    drafter: int
    proposed: int
    tokens: list[int] | None
    signals: Signals
    accepted: int = 0
    ended: bool = False

    def judge(self, token: int, agrees: bool, ends: bool) -> bool:
        """Compare with the next committed token; returns whether the length is resolved now.

        agrees: whether a model drafter's next token is ``token``. ends: ``token`` ends the text.
        """
        if self.accepted == self.proposed:
            return True  # the target's own token behind a draft that stood
        hit = agrees if self.tokens is None else self.tokens[self.accepted] == token
        self.accepted += hit
        self.ended = hit and ends
        return self.ended or not hit


class LiveRevealer:
    """Gathers full information on one text at a time.

    Args:
        inside: [D] drafters in scope.
        sampled: the temperature is above 0; a drafter that is not deterministic then has no counterfactual length,
            since what it would have sampled is not known. Nor has a head at any temperature: what it says of committed
            tokens it reads from true states, where a draft goes on from its own.
        censored: also deliver, after every round, lengths cut off at the frontier.
    """

    def __init__(self, pool: Pool, inside: Bools, *, sampled: bool, censored: bool) -> None:
        self.inside, self._censored = inside, censored
        longest = np.zeros(len(pool.drafters), np.int64)
        np.maximum.at(longest, pool.drafter_of[~pool.plain], pool.draft_length[~pool.plain])
        exact = np.array([d.deterministic or not sampled for d in pool.drafters], bool) & ~pool.committed
        self.longest = np.where(inside & exact, longest, 0)
        self._counted = [(d, n) for d, n in enumerate(self.longest.tolist()) if n]
        self.begin()

    def begin(self) -> None:
        """A new text starts."""
        self._open: list[Proposal] = []
        self.begin_round()

    def begin_round(self) -> None:
        """A round's tokens are about to be committed."""
        self._agreement: list[Floats | Sequence[float]] = []
        self.positions: list[int] = []
        self._resolved: list[Proposal] = []

    def commit(
        self,
        position: int,
        token: int,
        ends: bool,
        proposals: Sequence[list[int] | None],
        chances: Floats | Sequence[float],
        signals: Signals,
    ) -> None:
        """``token`` is committed at ``position``.

        Args:
            proposals: [D] what each drafter proposes there; None for one that is not free.
            chances: [D] chance that each drafter's first token is accepted given ``token``, NaN without one, or where
                it cannot be told: what such a drafter would have done stays unknown.
            signals: [D, F] what each drafter showed before it.
        """
        self.positions.append(position)
        self._agreement.append(chances)
        for d, longest in self._counted:
            tokens = proposals[d]
            if tokens is None and math.isnan(chances[d]):
                continue
            offered = longest if tokens is None else min(len(tokens), longest)
            if offered:
                self._open.append(Proposal(position, d, offered, tokens, signals))
        still: list[Proposal] = []
        for proposal in self._open:
            resolved = proposal.judge(token, bool(chances[proposal.drafter] == 1), ends)
            (self._resolved if resolved else still).append(proposal)
        self._open = still

    def reveal(self, lane: int = 0) -> Revealed:
        """What the last round's tokens revealed, as rows of ``lane``; rows by start, then drafter."""
        return gathered([(lane, self)])

    def rows(self) -> list[tuple[Proposal, bool]]:
        """What was resolved by the last round, and whether it is cut off at the frontier; by start, then drafter."""
        rows = [(p, False) for p in self._resolved]
        if self._censored:
            rows += [(p, True) for p in self._open]
        rows.sort(key=lambda row: (row[0].start, row[0].drafter))
        return rows

    def agreement(self) -> list[Floats | Sequence[float]]:
        """[m] of [D], as committed: drafters out of scope are not left out yet."""
        return self._agreement


def revealer_of(pool: Pool, feedback: str, scope: str, censored: bool, *, sampled: bool) -> LiveRevealer | None:
    """Who gathers full information; None for bandit feedback. Raises UsageError for an unknown word."""
    if feedback not in ("bandit", "full"):
        raise UsageError(f"feedback {feedback!r} is unknown; use bandit or full")
    if scope not in ("free", "all"):
        raise UsageError(f"scope {scope!r} is unknown; use free or all")
    if feedback == "bandit":
        return None
    inside = np.ones_like(pool.free) if scope == "all" else pool.free.copy()
    return LiveRevealer(pool, inside, sampled=sampled, censored=censored)


def gathered(parts: Sequence[tuple[int, LiveRevealer]]) -> Revealed:
    """What the last round of several lanes, of one scope, revealed; ``parts`` (lane, its revealer) is not empty."""
    inside = parts[0][1].inside
    drafters = len(inside)
    rows = [(lane, *row) for lane, revealer in parts for row in revealer.rows()]
    committed = [(lane, p) for lane, revealer in parts for p in revealer.positions]
    agreement = [values for _, revealer in parts for values in revealer.agreement()]
    chances = rounded(np.array(agreement, np.float64).reshape(-1, drafters)).astype(np.float64)
    chances[:, ~inside] = np.nan

    def column(values: list[int]) -> Ints:
        return np.array(values, np.int64)

    return Revealed(
        lane=column([lane for lane, _ in committed]),
        position=column([p for _, p in committed]),
        agreement=chances,
        start_lane=column([lane for lane, _, _ in rows]),
        start=column([p.start for _, p, _ in rows]),
        drafter=column([p.drafter for _, p, _ in rows]),
        proposed=column([p.proposed for _, p, _ in rows]),
        accepted=column([p.accepted for _, p, _ in rows]),
        ended=np.array([p.ended for _, p, _ in rows], bool),
        censored=np.array([c for _, _, c in rows], bool),
        signals=_signals([p.signals for _, p, _ in rows], inside),
    )


def _signals(shown: Sequence[Signals], inside: Bools) -> NDArray[np.float32]:
    """[r, D, F]; the proposals of one start share one object, which is read once."""
    distinct = {id(s): s for s in shown}
    places = {key: at for at, key in enumerate(distinct)}
    table = rounded(np.array(list(distinct.values()), np.float32).reshape(-1, len(inside), F))
    table[:, ~inside] = np.nan
    signals: NDArray[np.float32] = table[[places[id(s)] for s in shown]]
    return signals
