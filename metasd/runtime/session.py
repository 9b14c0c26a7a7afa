"""Live decoding as a ``metasd.core.records.Session`` with one lane: prompts one after the other.

A round: the chosen arm's drafter catches up and drafts, the target checks [last committed token, draft] in one pass,
``settle`` makes the round, the tokens are committed to every drafter. The prompt, all but its last token, is read
before the first round and timed apart, so plain decoding is a pass of width 1 and no round is special.

Time: a round lasts from the end of the one before, so whatever a policy or a callback of its own takes is in it. What
is neither drafting nor catching up counts as verification.

A pass that fails or is interrupted leaves the session as it was before the round: the round can be played again. Inside
a commit it cannot be put back, so the session is closed.

With full information of scope "all", every model drafter reads the new tokens after each round: their number is added
to that round's ``catch_up`` and the time to its ``catch_up_seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.correction import Corrections
from metasd.core.costs import CostModel
from metasd.core.errors import SessionClosedError, UsageError
from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.pool import Pool
from metasd.core.records import Context, Ints, Revealed, Rounds, draft_budget, settle
from metasd.core.reveal import revealer_of
from metasd.drafters.base import Draft, Drafter
from metasd.runtime.clock import LiveClock, Took
from metasd.runtime.lane import Lane
from metasd.runtime.load import Target, check_fits
from metasd.runtime.plans import LanePlans
from metasd.runtime.sampling import Sampling
from metasd.runtime.start import Start
from metasd.runtime.stops import Stops, ends_in
from metasd.runtime.verify import Verdict

OnTokens = Callable[[int, list[int], int, int], object]
"""Called after every round with (prompt index, tokens emitted, arm, how many of them were drafted)."""


class LiveSession:
    """See the module docstring and ``core.Session``.

    Args:
        prompts: (id, token ids) of each text to decode, in order.
        max_new_tokens: token budget of a text, >= 1.
        sampling: how the target decodes; greedily by default.
        reads, overlap, feedback, scope, censored, plans: what the policy wants delivered (``Policy.wants``).
        costs: expected seconds for policies that read "cost", and the clock when ``clock`` is "model".
        clock: "measured" wall time, or "model": the cost model's seconds, which a replay can reproduce.
        corrections: of ``costs``, from sessions before (``LiveClock``).
        on_tokens: streaming; the time it takes is not counted.
        stops: stop strings by prompt id; an answer ends where one is complete.

    Attributes:
        texts: tokens emitted for each prompt so far.
        starts: what each prompt took before and until its first tokens; in no round but the first of each.
        forward_seconds, seconds: wall time inside models' passes, and of all rounds, whatever the clock.

    Raises UsageError for a prompt that does not fit a model's context, or a setting out of range; SessionClosedError
    when used after an interrupt inside a commit.
    """

    lanes = 1

    def __init__(
        self,
        target: Target,
        drafters: Sequence[Drafter],
        pool: Pool,
        prompts: Sequence[tuple[str, Sequence[int]]],
        *,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        seed: int = 0,
        reads: frozenset[str] = frozenset(),
        overlap: bool = False,
        feedback: str = "bandit",
        scope: str = "free",
        censored: bool = False,
        plans: bool = False,
        costs: CostModel | None = None,
        clock: str = "measured",
        corrections: Corrections | None = None,
        on_tokens: OnTokens | None = None,
        stops: Stops | None = None,
    ) -> None:
        self.pool, self.prompts, self.seed = pool, list(prompts), seed
        self.max_new_tokens, self.on_tokens = max_new_tokens, on_tokens
        self.clock = LiveClock(pool, costs, clock, corrections)
        self._stops: Stops = stops or {}
        self.sampling = sampling = sampling or Sampling()
        revealer = revealer_of(pool, feedback, scope, censored, sampled=not sampling.greedy)
        how = {"overlap": overlap, "catch_all": revealer is not None and scope == "all", "plans": plans}
        self._lane = Lane(target, drafters, sampling, revealer=revealer, **how)
        self._plans = LanePlans(self._lane, pool, greedy=sampling.greedy) if plans else None
        self._target, self._reads, self._overlap = target, frozenset(reads), overlap
        self._check()
        self.texts: list[list[int]] = [[] for _ in self.prompts]
        self.starts: list[Start] = []
        self.seconds = self.forward_seconds = 0.0
        self._at, self._opened, self._closed = 0, False, False
        self._lane.warm(max_new_tokens + max((len(t) for _, t in self.prompts), default=0), pool.max_draft_length)

    @property
    def done(self) -> bool:
        return self._at >= len(self.prompts)

    @property
    def fresh(self) -> Ints:
        return np.arange(int(not self.done and not self.texts[self._at]), dtype=np.int64)

    @property
    def keys(self) -> NDArray[np.uint64]:
        return np.array([np.uint64(0) if self.done else noise.key(self.seed, self.prompts[self._at][0])])

    @property
    def context(self) -> Context:
        if self.done:
            return Context(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones((1, len(self.pool)), bool))
        self._open()
        lane, reads = self._lane, self._reads
        position = np.array([len(self.texts[self._at])])
        made = Context(position, self.max_new_tokens - position, np.ones((1, len(self.pool)), bool))
        if self._plans is not None:
            self._plans.fill(made, self.clock.costs)
            return made
        if lane.drafters:
            made.available = np.atleast_2d(self.pool.plain | lane.available()[self.pool.drafter_of])
        made.signals = lane.signals()[None] if "signals" in reads else None
        if "lag" in reads or "cost" in reads:
            lag = lane.lags()[None]
            made.lag = lag if "lag" in reads else None
            made.cost = self.clock.expected(made.remaining, len(lane.text), lag) if "cost" in reads else None
        made.pays = self.clock.pays(len(lane.text)) if "pays" in reads else None
        made.tail = lane.tail()[None] if "tail" in reads else None
        made.proposal = lane.first_tokens()[None] if "proposal" in reads else None
        return made

    def play(self, arms: Ints) -> Rounds:
        """One round with ``arms`` [1]. Raises UsageError for an arm that is not in the pool, or after the end."""
        arm = int(np.asarray(arms).reshape(-1)[0])
        if self.done or not 0 <= arm < len(self.pool):
            raise UsageError(f"arm {arm} cannot be played: the pool has 0..{len(self.pool) - 1}, done is {self.done}")
        self._open()
        remaining = self.max_new_tokens - len(self.texts[self._at])
        started, passes = time.perf_counter(), self._lane.passes
        length = int(draft_budget(self.pool.draft_length[[arm]], np.array([remaining]))[0])
        draft = self._lane.draft(int(self.pool.drafter_of[arm]), length)
        drafting = time.perf_counter() - started - draft.catch_up_seconds
        verdict = self._lane.verify(draft)
        tokens = [*draft.tokens[: verdict.agreed], verdict.next_token]
        name, answer = self.prompts[self._at][0], self.texts[self._at]
        end = ends_in(self._target, answer, tokens, self._stops.get(name, ()))
        rounds = self._settle(arm, remaining, draft, verdict, end)
        emitted, context = tokens[: int(rounds.emitted[0])], len(self._lane.text)
        read, reading, total = self._commit(emitted, verdict, ends=end <= len(emitted), passes=passes)
        caught = draft.catch_up_seconds + reading
        self.clock.charge(rounds, context, read, Took(drafting, total - drafting - caught, caught, reading))
        rounds.catch_up += read.sum()
        return self._advance(rounds, emitted)

    @property
    def suggest(self) -> Sequence[Suggest]:
        """[1] the text's sources. Raises UsageError for a session made without ``plans``."""
        self._open()
        return self._planned().suggest

    def play_plans(self, plans: Sequence[Plan]) -> Rounds:
        """One round with ``plans`` [1]. Raises UsageError for one that cannot be played here, or after the end."""
        lane = self._planned()
        if self.done or len(plans) != 1:
            raise UsageError(f"{len(plans)} plans for one lane, done is {self.done}; give one before the end")
        self._open()
        remaining, passes = self.max_new_tokens - len(self.texts[self._at]), self._lane.passes
        checked = lane.check(plans[0], remaining, self.clock.costs)
        name, answer = self.prompts[self._at][0], self.texts[self._at]
        end = ends_in(self._target, answer, checked.tokens, self._stops.get(name, ()))
        rounds = lane.settle(checked, self._at, len(answer), remaining, end)
        emitted, context = checked.tokens[: int(rounds.emitted[0])], len(self._lane.text)
        _, _, total = self._commit(emitted, None, ends=end <= len(emitted), passes=passes)
        lane.commit(checked, emitted)
        caught = checked.draft.catch_up_seconds
        took = Took(checked.drafting, total - checked.drafting - caught, caught, 0.0)
        self.clock.charge_plan(rounds, checked.tree, checked.plan.model, context, took)
        return self._advance(rounds, emitted)

    @property
    def judged(self) -> Sequence[Judged]:
        """[1] what the last ``play_plans`` said."""
        return self._planned().judged

    def reveal(self) -> Revealed:
        """Full information on the tokens of the last play. Raises UsageError unless ``feedback`` is "full"."""
        if self._lane.revealer is None:
            raise UsageError("this session gives bandit feedback; make it with feedback='full' to reveal more")
        return self._lane.revealer.reveal()

    @property
    def prefill_seconds(self) -> float:
        """Seconds of reading prompts, by target and drafters, in no round."""
        return sum(s.prefill_seconds + s.begin_seconds for s in self.starts)

    def close(self) -> None:
        """Let go of the models' caches: from now on only what was decoded can be read."""
        del self._lane

    @property
    def forward_share(self) -> float | None:
        """Share of the rounds' wall time spent inside models' passes; None before the first round."""
        return self.forward_seconds / self.seconds if self.seconds else None

    def _check(self) -> None:
        """Raises UsageError for the first thing that cannot work."""
        if self.max_new_tokens < 1:
            raise UsageError(f"max_new_tokens {self.max_new_tokens} is too small; use 1 or more")
        if [d.info for d in self._lane.drafters] != list(self.pool.drafters):
            raise UsageError("the drafters are not those of the pool; build both together")
        for name, tokens in self.prompts:
            check_fits(self._target, name, len(tokens), self.max_new_tokens)
            for drafter in self._lane.drafters:
                drafter.check_fits(name, len(tokens), self.max_new_tokens)

    def _open(self) -> None:
        """Read the next prompt, if this has not been done. Raises SessionClosedError after an interrupted commit."""
        if self._closed:
            raise SessionClosedError("this session was interrupted inside a commit and is closed; open a new one")
        if self._opened:
            return
        started = time.perf_counter()
        name, prompt = self.prompts[self._at]
        self._lane.open(prompt, self.max_new_tokens, self.seed, name)
        self._closed = True  # until every drafter has the prompt
        begin = self._lane.begin(self.seed, name)
        if self._plans is not None:
            self._plans.begin()
        self._opened, self._closed = True, False
        self._mark = time.perf_counter()
        self.starts.append(Start(len(prompt), self._mark - started - begin, begin))

    def _settle(self, arm: int, remaining: int, draft: Draft, verdict: Verdict, end: int) -> Rounds:
        overlap = None
        if self._overlap:
            overlap = np.full((1, self.pool.max_draft_length), np.nan, np.float32)
            if verdict.overlap is not None:
                overlap[0, : len(verdict.overlap)] = verdict.overlap

        def one(value: int | np.int64) -> Ints:
            return np.array([value], np.int64)

        return settle(
            lane=one(0),
            prompt=one(self._at),
            arm=one(arm),
            draft_length=one(self.pool.draft_length[arm]),
            position=one(len(self.texts[self._at])),
            remaining=one(remaining),
            proposed=one(len(draft.tokens)),
            agreed=one(verdict.agreed),
            ends_in=one(end),
            catch_up=one(draft.catch_up),
            overlap=overlap,
        )

    def _planned(self) -> LanePlans:
        if self._plans is None:
            raise UsageError("this session plays arms; make it with plans=True")
        return self._plans

    def _commit(
        self, emitted: list[int], verdict: Verdict | None, *, ends: bool, passes: float
    ) -> tuple[Ints, float, float]:
        """Commit ``emitted``; what the lane says of it, and the round's wall seconds. ``passes``: when it began."""
        self._closed = True  # until every drafter has the tokens
        read, reading = self._lane.commit(emitted, verdict, ends=ends)
        self.forward_seconds += self._lane.passes - passes
        total = time.perf_counter() - self._mark
        self.seconds += total
        if not self.texts[self._at]:
            start = self.starts[-1]
            start.first_token_seconds = start.prefill_seconds + start.begin_seconds + total
        return read, reading, total

    def _advance(self, rounds: Rounds, emitted: list[int]) -> Rounds:
        """Take the tokens into the text, go on to the next prompt after the last of them, and hand the tokens on."""
        self.texts[self._at].extend(emitted)
        if rounds.finished[0]:
            self._at, self._opened = self._at + 1, False
            self._lane.end()
        self._mark, self._closed = time.perf_counter(), False
        if self.on_tokens is not None:
            self.on_tokens(int(rounds.prompt[0]), emitted, int(rounds.arm[0]), int(rounds.accepted[0]))
        self._mark = time.perf_counter()  # what streaming took is in no round
        return rounds
