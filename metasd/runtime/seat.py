"""One lane of a live session: which text is on it, how far that is, and the books of its rounds.

Knows budgets and ends of texts; leaves models and drafters to its ``Lane``, and time and order to the session.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from metasd.core import noise
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Ints, Rounds, draft_budget, settle
from metasd.core.reveal import revealer_of
from metasd.drafters.base import Draft, Drafter
from metasd.runtime.engine.features import wanted
from metasd.runtime.engine.together import TogetherEngine, check_together
from metasd.runtime.lane import Lane
from metasd.runtime.load import Target, check_fits
from metasd.runtime.sampling import Sampling
from metasd.runtime.stops import ends_in
from metasd.runtime.verify import Verdict

IDLE = -1
"""``Seat.prompt`` of a lane for which no prompt is left."""


class Seat:
    """A lane and the text on it.

    Args:
        number: of the lane. budget: tokens of an answer. overlap: rounds carry it.

    Attributes:
        prompt, name: of the text, IDLE for none. answer: its tokens so far, the session's own list.
        opened: whether target and drafters have read the prompt; began: when they started to.
    """

    def __init__(self, number: int, lane: Lane, target: Target, pool: Pool, *, budget: int, overlap: bool) -> None:
        self.number, self.lane = number, lane
        self._target, self._pool, self._budget, self._overlap = target, pool, budget, overlap
        self.prompt, self.name, self.answer = IDLE, "", list[int]()
        self.opened, self.began = False, 0.0

    def take(self, prompt: int, name: str, tokens: Sequence[int], answer: list[int], stops: Sequence[str]) -> None:
        """The text ``prompt`` comes next here."""
        self.prompt, self.name, self.answer, self.opened = prompt, name, answer, False
        self._tokens, self._stops = tokens, stops

    def idle(self) -> None:
        """No text comes next here."""
        self.prompt, self.opened = IDLE, False

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self._tokens)

    @property
    def position(self) -> int:
        """Tokens of the answer."""
        return 0 if self.prompt == IDLE else len(self.answer)

    @property
    def remaining(self) -> int:
        """Tokens that the answer may still get."""
        return 0 if self.prompt == IDLE else self._budget - len(self.answer)

    @property
    def context(self) -> int:
        """Tokens of prompt and answer."""
        return 0 if self.prompt == IDLE else len(self.lane.text)

    def key(self, seed: int) -> np.uint64:
        """Of the text's noise."""
        return np.uint64(0) if self.prompt == IDLE else noise.key(seed, self.name)

    def read(self, seed: int) -> None:
        """The target reads the prompt but for its last token."""
        self.lane.open(self._tokens, self._budget, seed, self.name)

    def draft(self, arm: int) -> tuple[Draft, float]:
        """What the drafter of ``arm`` proposes, and its seconds without those of catching up."""
        started = time.perf_counter()
        length = int(draft_budget(self._pool.draft_length[[arm]], np.array([self.remaining]))[0])
        draft = self.lane.draft(int(self._pool.drafter_of[arm]), length)
        return draft, time.perf_counter() - started - draft.catch_up_seconds

    def ends_in(self, tokens: Sequence[int]) -> int:
        """How many of ``tokens``, which come next, there are until the text ends."""
        return ends_in(self._target, self.answer, tokens, self._stops)

    def settle(self, arm: int, draft: Draft, verdict: Verdict) -> tuple[Rounds, list[int], bool]:
        """The round, the tokens it emits, and whether the text ends with them."""
        overlap, pool = None, self._pool
        if self._overlap:
            overlap = np.full((1, pool.max_draft_length), np.nan, np.float32)
            if verdict.overlap is not None:
                overlap[0, : len(verdict.overlap)] = verdict.overlap

        def one(value: int | np.int64) -> Ints:
            return np.array([value], np.int64)

        tokens = [*draft.tokens[: verdict.agreed], verdict.next_token]
        end = self.ends_in(tokens)
        rounds = settle(
            lane=one(self.number),
            prompt=one(self.prompt),
            arm=one(arm),
            draft_length=one(pool.draft_length[arm]),
            position=one(len(self.answer)),
            remaining=one(self.remaining),
            proposed=one(len(draft.tokens)),
            agreed=one(verdict.agreed),
            ends_in=one(end),
            catch_up=one(draft.catch_up),
            overlap=overlap,
        )
        emitted = tokens[: int(rounds.emitted[0])]
        return rounds, emitted, end <= len(emitted)


def seats(
    target: Target,
    sets: Sequence[Sequence[Drafter]],
    pool: Pool,
    sampling: Sampling,
    *,
    budget: int,
    overlap: bool,
    feedback: str,
    scope: str,
    censored: bool,
    plans: bool,
) -> list[Seat]:
    """One for each of the ``sets`` of drafters; several share an engine of the target.

    Raises UsageError for words that are unknown, plans on several lanes, and a target that reads one text at a time.
    """
    if len(sets) > 1:
        if plans:
            raise UsageError(f"plans are made for one text at a time, not for {len(sets)}; use --lanes 1")
        check_together(target.model)
    made = [revealer_of(pool, feedback, scope, censored, sampled=not sampling.greedy) for _ in sets]
    catch_all = feedback == "full" and scope == "all"
    how = {"overlap": overlap, "catch_all": catch_all, "plans": plans}
    features = [wanted([d.info.needs for d in drafters]) for drafters in sets]
    rows = TogetherEngine(target.model, features).rows if len(sets) > 1 else [None]
    lanes = [
        Lane(target, drafters, sampling, revealer=revealer, row=row, **how)
        for drafters, revealer, row in zip(sets, made, rows, strict=True)
    ]
    return [Seat(i, lane, target, pool, budget=budget, overlap=overlap) for i, lane in enumerate(lanes)]


def playable(seats: Sequence[Seat], arms: Ints, pool: Pool) -> list[int]:
    """Of ``arms`` [B] those of ``seats``. Raises UsageError for one that is not in the pool, and without seats."""
    given = np.asarray(arms).reshape(-1).tolist()
    chosen = [given[seat.number] for seat in seats]
    wrong = [arm for arm in chosen if not 0 <= arm < len(pool)]
    if wrong or not seats:
        arm = (wrong or given)[0]
        raise UsageError(f"arm {arm} cannot be played: the pool has 0..{len(pool) - 1}, done is {not seats}")
    return chosen


def model_seconds(seats: Sequence[Seat]) -> float:
    """Inside models' passes so far: the target's, which all share, and every drafter's."""
    return seats[0].lane.cached.seconds + sum(seat.lane.drafting for seat in seats)


def check(
    target: Target,
    sets: Sequence[Sequence[Drafter]],
    pool: Pool,
    prompts: Sequence[tuple[str, Sequence[int]]],
    budget: int,
) -> None:
    """Raises UsageError for the first thing that cannot work."""
    if budget < 1:
        raise UsageError(f"max_new_tokens {budget} is too small; use 1 or more")
    if any([d.info for d in drafters] != list(pool.drafters) for drafters in sets):
        raise UsageError("the drafters are not those of the pool; build both together")
    for name, tokens in prompts:
        check_fits(target, name, len(tokens), budget)
        for drafter in sets[0]:
            drafter.check_fits(name, len(tokens), budget)
    longest = max((len(tokens) + budget for _, tokens in prompts), default=0)
    if len(sets) > 1 and target.switch is not None and longest > target.switch:
        raise UsageError(
            f"the rotary factors of {target.name} follow the longest text of a pass beyond {target.switch} tokens, and "
            f"one has {longest} with its budget; use --lanes 1"
        )
