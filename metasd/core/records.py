"""The records every part of MetaSD exchanges, and the one function that makes them.

All records are structs of arrays over *lanes* (independent sequences): live decoding has one lane, the vector
environment thousands. A *round* is one draft-verify step, the unit of all accounting. Positions count committed
answer tokens, so position 0 is the end of the prompt.

Shapes: B lanes, n rounds (one per lane that played), K arms, D drafters, F signals, G the longest draft length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.pool import Pool

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

NO_END = np.int64(1 << 40)
"""``ends_in`` of a text whose end is not in sight; as a trace row, an end that is not on this trace."""


UNKNOWN_BUDGET = np.int64(1 << 40)
"""``Context.remaining`` where nobody knows how many tokens are allowed: larger than any text, at every position."""


class StopReason(IntEnum):
    """Why the accepted part of a draft ended where it did."""

    REJECTED = 0
    PROPOSAL_ENDED = 1
    DRAFT_LIMIT = 2
    TEXT_ENDED = 3
    BUDGET_ENDED = 4


_FIRST = (StopReason.TEXT_ENDED, StopReason.REJECTED, StopReason.DRAFT_LIMIT, StopReason.BUDGET_ENDED)


def _stop(bits: int) -> StopReason:
    """The first of ``_FIRST`` whose bit is set."""
    return next((reason for i, reason in enumerate(_FIRST) if bits >> i & 1), StopReason.PROPOSAL_ENDED)


_STOPS = np.array([_stop(bits) for bits in range(16)], np.int64)  # looked up: np.where would cost several times as much


@dataclass(slots=True)
class Context:
    """All that a policy may look at before a round; nothing in it knows the future.

    Rows of lanes that are done carry ``remaining`` 0; whatever is selected for them is ignored. The optional
    fields are filled only for a policy that names them in ``Policy.reads``, and None otherwise.
    """

    position: Ints  # [B] tokens committed so far on the lane
    remaining: Ints  # [B] tokens still allowed, >= 1 while the lane runs; UNKNOWN_BUDGET where none is known (imports)
    available: Bools  # [B, K] arms whose drafter has a proposal now; plain arms always are
    signals: Floats | None = None  # [B, D, F] see metasd.core.signals, NaN where a drafter has none
    lag: Ints | None = None  # [B, D] tokens a drafter would have to catch up if chosen now
    cost: Floats | None = None  # [B, K] expected seconds of a round with each arm, catch-up included; NaN if unknown
    pays: Bools | None = None  # [B, K] arms that a fully accepted draft would make faster than plain; plain itself is
    tail: Ints | None = None  # [B, 2] the last two tokens of the text, newest last; -1 where there is none
    proposal: Ints | None = None  # [B, D] first token each free drafter proposes now; -1 where it has none
    passes: Floats | None = None  # [B, N + 1] expected seconds of a pass of 0..N plan nodes; None without a clock
    drafting: Floats | None = None  # [B, D, G + 1] expected seconds of asking for 0..G tokens; inf where none
    branches: bool = True  # whether a plan may be more than a chain


@dataclass(slots=True)
class Rounds:
    """One finished round on each of n lanes. Made by ``settle`` only."""

    lane: Ints  # [n]
    prompt: Ints  # [n] index of the text being decoded (an episode): what sums are grouped by
    arm: Ints  # [n]
    position: Ints  # [n] committed tokens before the round
    drafted: Ints  # [n] draft tokens the target was asked to check
    accepted: Ints  # [n] draft tokens that reached the output
    emitted: Ints  # [n] tokens that reached the output: accepted, plus the target's own unless the text ended before it
    stop: Ints  # [n] StopReason
    finished: Bools  # [n] the text or the budget ended with this round
    catch_up: Ints  # [n] tokens the drafter had to re-read because others produced them
    overlap: Floats | None = None  # [n, G] 1 - TV(p, q) at each drafted position on the drafter's own chain, NaN beyond
    draft_seconds: Floats | None = None  # [n] measured live, modelled in replay
    verify_seconds: Floats | None = None  # [n]
    catch_up_seconds: Floats | None = None  # [n]
    checked: Ints | None = None  # [n] nodes of a plan in the target's pass; None: as many as drafted, as in a chain
    credit: Ints | None = None  # [n, D + 1] accepted tokens by the drafter that suggested them, the last of none; plans

    def __len__(self) -> int:
        return len(self.lane)

    @property
    def nodes(self) -> Ints:
        """[n] tokens in the target's pass besides the last committed one: what verification costs."""
        return self.drafted if self.checked is None else self.checked

    @property
    def seconds(self) -> Floats | None:
        """[n] seconds of the whole round, None when no clock is known."""
        if self.draft_seconds is None or self.verify_seconds is None or self.catch_up_seconds is None:
            return None
        total: Floats = self.draft_seconds + self.verify_seconds + self.catch_up_seconds
        return total

    def take(self, rows: Ints | Bools) -> Rounds:
        """The rounds at ``rows`` (indices or a mask)."""
        columns = ((f.name, getattr(self, f.name)) for f in fields(self))
        taken: dict[str, Any] = {name: None if column is None else column[rows] for name, column in columns}
        return Rounds(**taken)

    def counts(self) -> list[tuple[int, ...]]:
        """Everything but seconds and overlap, as comparable tuples; used to compare run with replay."""
        columns = (self.prompt, self.arm, self.position, self.drafted, self.accepted, self.emitted, self.stop)
        tree = () if self.checked is None else (self.checked,)
        stacked = np.stack([*columns, self.finished.astype(np.int64), self.catch_up, *tree], axis=1)
        return [tuple(int(v) for v in row) for row in stacked]


@dataclass(slots=True)
class Revealed:
    """Full information, let through by the frontier: what the text committed so far says of every drafter.

    ``agreement`` holds one row for each newly committed position. The second group holds one row for each
    (start, drafter) whose accepted length has just become *resolved* (start + emitted <= frontier); rows flagged
    ``censored`` come only if asked for, and their ``accepted`` is a lower bound, not a length.
    Drafters outside the policy's ``scope`` are NaN or absent: nothing is delivered that was not paid for.
    """

    lane: Ints  # [m]
    position: Ints  # [m] the committed position
    agreement: Floats  # [m, D] chance that the drafter's proposal for that token is accepted, given the token
    start_lane: Ints  # [r]
    start: Ints  # [r]
    drafter: Ints  # [r]
    proposed: Ints  # [r] length of the proposal at that start, within the drafter's longest draft length
    accepted: Ints  # [r]
    ended: Bools  # [r] the text ended inside the accepted part, so ``accepted`` is what was emitted
    censored: Bools  # [r]
    signals: Floats  # [r, D, F] the signals every drafter showed at that start


def draft_budget(draft_length: Ints, remaining: Ints) -> Ints:
    """Draft tokens worth asking for: a round always yields one token of the target's, so never draft the last one."""
    return np.minimum(draft_length, np.maximum(remaining - 1, 0))


def _stops(over: Bools, wrong: Bools, longest: Bools, spent: Bools) -> Ints:
    """[n] why rounds stopped. over: the text ended inside the draft. wrong: a draft token fell. longest, spent: all
    stood, up to the arm's limit or the budget's."""
    ended, fell, full, last = (fact.view(np.uint8) for fact in (over, wrong, longest, spent))
    return _STOPS.take(ended | fell << 1 | full << 2 | last << 3)


def settle(
    *,
    lane: Ints,
    prompt: Ints,
    arm: Ints,
    draft_length: Ints,
    position: Ints,
    remaining: Ints,
    proposed: Ints,
    agreed: Ints,
    ends_in: Ints,
    catch_up: Ints,
    overlap: Floats | None = None,
    draft_seconds: Floats | None = None,
    verify_seconds: Floats | None = None,
    catch_up_seconds: Floats | None = None,
    checked: Ints | None = None,
    rejected: Bools | None = None,
) -> Rounds:
    """Turn what a draft and its verification said into Rounds. The only maker of a ``Rounds``.

    Args (all [n] int64 unless said):
        draft_length: the arm's limit.
        remaining: tokens still allowed before the round, >= 1.
        proposed: tokens the drafter offered (0: it had no proposal).
        agreed: how many leading offered tokens the target agrees with; may exceed what was drafted.
        ends_in: emitted tokens after which the text is over (1 = the next token ends it), NO_END if not in sight.
        checked, rejected: of trees: nodes in the pass, and whether the last standing node had children, none of which
            stood. ``proposed`` is then the depth of the deepest node and ``agreed`` that of the standing path.

    Definitions, once for the whole project:
        drafted = min(proposed, draft_length, remaining - 1): the round always yields one token of the target's.
        emitted = min(agreed + 1, ends_in): an end of text inside the accepted part drops all behind it, and then
            the target's own token is not emitted either. Then, or with the budget used up, the text is finished.
        accepted = min(agreed, emitted): a draft token counts as accepted when it reached the output.
    """
    drafted = np.minimum(proposed, limit := draft_budget(draft_length, remaining))
    agreed = np.minimum(agreed, drafted)
    whole = agreed + 1
    emitted = np.minimum(whole, ends_in)
    accepted = np.minimum(agreed, emitted)
    fell = agreed < drafted if rejected is None else rejected
    stop = _stops(ends_in <= agreed, fell, agreed == draft_length, agreed == limit)
    return Rounds(
        lane=lane,
        prompt=prompt,
        arm=arm,
        position=position,
        drafted=drafted,
        accepted=accepted,
        emitted=emitted,
        stop=stop,
        finished=(ends_in <= whole) | (emitted >= remaining),
        catch_up=catch_up,
        overlap=overlap,
        draft_seconds=draft_seconds,
        verify_seconds=verify_seconds,
        catch_up_seconds=catch_up_seconds,
        checked=checked,
    )


def concatenate(parts: Sequence[Rounds]) -> Rounds:
    """Many Rounds as one, in order. Optional fields must be present in all parts or in none."""
    columns: dict[str, Any] = {f.name: [getattr(p, f.name) for p in parts] for f in fields(Rounds)}
    joined: dict[str, Any] = {k: None if v[0] is None else np.concatenate(v) for k, v in columns.items()}
    return Rounds(**joined)


class Session(Protocol):
    """Texts being decoded on B lanes. ``LiveSession`` asks models, ``TraceSession`` a trace; nothing else differs.

    A lane whose text is finished goes on with its next one by itself; ``fresh`` then names it until the next play.
    """

    pool: Pool
    lanes: int

    @property
    def context(self) -> Context: ...

    @property
    def done(self) -> bool: ...

    @property
    def fresh(self) -> Ints:
        """Lanes that stand at the beginning of a text."""
        ...

    @property
    def keys(self) -> NDArray[np.uint64]:
        """[B] noise key of the text on each lane, derived from the seed and the prompt's id."""
        ...

    def play(self, arms: Ints) -> Rounds:
        """Play one round on every lane that is not done; ``arms`` is [B]."""
        ...

    def reveal(self) -> Revealed:
        """Full information on the tokens committed by the last play."""
        ...

    @property
    def suggest(self) -> Sequence[Suggest]:
        """[B] what a planner may ask of each lane; there in sessions made with ``plans``."""
        ...

    def play_plans(self, plans: Sequence[Plan]) -> Rounds:
        """As ``play``, with a plan for each lane; those of lanes that are done are ignored."""
        ...

    @property
    def judged(self) -> Sequence[Judged]:
        """[n] what the last ``play_plans`` said, in the order of its rounds."""
        ...
