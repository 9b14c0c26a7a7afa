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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.costs import CostModel
from metasd.core.errors import SessionClosedError, UsageError
from metasd.core.pool import Pool
from metasd.core.records import Context, Floats, Ints, Revealed, Rounds, draft_budget, settle
from metasd.core.reveal import LiveRevealer
from metasd.drafters.base import Draft, Drafter
from metasd.runtime.lane import Lane
from metasd.runtime.load import Target, check_fits
from metasd.runtime.sampling import Sampling
from metasd.runtime.stops import Stops, ends_in
from metasd.runtime.verify import Verdict

OnTokens = Callable[[int, list[int], int, int], object]
"""Called after every round with (prompt index, tokens emitted, arm, how many of them were drafted)."""


@dataclass(slots=True)
class Start:
    """The beginning of a text: seconds the target read the prompt, seconds the drafters took it in, both by wall time.

    first_token_seconds: from the prompt to the first tokens; None before them.
    """

    tokens: int
    prefill_seconds: float
    begin_seconds: float
    first_token_seconds: float | None = None


class LiveSession:
    """See the module docstring and ``core.Session``.

    Args:
        prompts: (id, token ids) of each text to decode, in order.
        max_new_tokens: token budget of a text, >= 1.
        sampling: how the target decodes; greedily by default.
        reads, overlap, feedback, scope, censored: what the policy wants delivered (``Policy.wants``).
        costs: expected seconds for policies that read "cost", and the clock when ``clock`` is "model".
        clock: "measured" wall time, or "model": the cost model's seconds, which a replay can reproduce.
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
        costs: CostModel | None = None,
        clock: str = "measured",
        on_tokens: OnTokens | None = None,
        stops: Stops | None = None,
    ) -> None:
        self.pool, self.prompts, self.seed = pool, list(prompts), seed
        self.max_new_tokens, self.clock, self.costs, self.on_tokens = max_new_tokens, clock, costs, on_tokens
        self._stops: Stops = stops or {}
        self.sampling = sampling = sampling or Sampling()
        revealer = _revealer(pool, feedback, scope, censored, sampled=not sampling.greedy)
        catch_all = revealer is not None and scope == "all"
        self._lane = Lane(target, drafters, sampling, overlap=overlap, revealer=revealer, catch_all=catch_all)
        self._target, self._reads, self._overlap = target, frozenset(reads), overlap
        self._columns = costs.columns(pool) if costs is not None else None
        self._check()
        self.texts: list[list[int]] = [[] for _ in self.prompts]
        self.starts: list[Start] = []
        self.seconds = self.forward_seconds = 0.0
        self._at, self._opened, self._closed = 0, False, False

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
        has = lane.available()[self.pool.drafter_of] if self._lane.drafters else False
        made = Context(position, self.max_new_tokens - position, np.atleast_2d(self.pool.plain | has))
        made.signals = lane.signals()[None] if "signals" in reads else None
        if "lag" in reads or "cost" in reads:
            lag = lane.lags()[None]
            made.lag = lag if "lag" in reads else None
            made.cost = self._expected(made.remaining, lag) if "cost" in reads else None
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
        emitted = tokens[: int(rounds.emitted[0])]
        context = len(self._lane.text)
        self._closed = True  # until every drafter has the tokens
        read, reading = self._lane.commit(emitted, verdict, ends=end <= len(emitted))
        self.forward_seconds += self._lane.passes - passes
        total = time.perf_counter() - self._mark
        self.seconds += total
        if not answer:
            start = self.starts[-1]
            start.first_token_seconds = start.prefill_seconds + start.begin_seconds + total
        if self.clock == "measured":
            caught = draft.catch_up_seconds + reading
            rounds.draft_seconds, rounds.catch_up_seconds = np.array([drafting]), np.array([caught])
            rounds.verify_seconds = np.array([total - drafting - caught])
        else:
            self._model_time(rounds, context, read)
        rounds.catch_up += read.sum()
        self._advance(rounds, emitted)
        self._say(rounds, emitted, arm)
        return rounds

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
        if self.clock not in ("measured", "model"):
            raise UsageError(f"clock {self.clock!r} is unknown; use measured or model")
        if self.clock == "model" and self.costs is None:
            raise UsageError("clock 'model' needs costs; give the costs.json of a trace")
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

    def _advance(self, rounds: Rounds, emitted: list[int]) -> None:
        """Take the tokens into the text; go on to the next prompt after the last of them."""
        self.texts[self._at].extend(emitted)
        if rounds.finished[0]:
            self._at, self._opened = self._at + 1, False
        self._mark = time.perf_counter()
        self._closed = False

    def _say(self, rounds: Rounds, emitted: list[int], arm: int) -> None:
        """Hand the tokens on. The next round's time starts here."""
        if self.on_tokens is not None:
            self.on_tokens(int(rounds.prompt[0]), emitted, arm, int(rounds.accepted[0]))
        self._mark = time.perf_counter()

    def _model_time(self, rounds: Rounds, context: int, read: Ints) -> None:
        """Fill in the cost model's seconds; ``read`` [D] tokens model drafters read for the revealer."""
        assert self.costs is not None and self._columns is not None  # noqa: PT018
        drafter = np.append(self._columns, 0)[self.pool.drafter_of[rounds.arm]]  # a pool may have no drafters
        rounds.draft_seconds = self.costs.draft(drafter, rounds.drafted)
        rounds.verify_seconds = self.costs.verify(rounds.drafted, np.array([context]))
        own = self.costs.catch_up(drafter, rounds.catch_up)
        rounds.catch_up_seconds = own + self.costs.catch_up(self._columns, read).sum()

    def _expected(self, remaining: Ints, lag: Ints) -> Floats:
        """[1, K] expected seconds of a round with each arm, NaN without a cost model."""
        if self.costs is None:
            return np.full((1, len(self.pool)), np.nan)
        return self.costs.expected(self.pool, remaining, np.array([len(self._lane.text)]), lag)


def _revealer(pool: Pool, feedback: str, scope: str, censored: bool, *, sampled: bool) -> LiveRevealer | None:
    """Who gathers full information; None for bandit feedback. Raises UsageError for an unknown word."""
    if feedback not in ("bandit", "full"):
        raise UsageError(f"feedback {feedback!r} is unknown; use bandit or full")
    if scope not in ("free", "all"):
        raise UsageError(f"scope {scope!r} is unknown; use free or all")
    if feedback == "bandit":
        return None
    inside = np.ones_like(pool.free) if scope == "all" else pool.free.copy()
    return LiveRevealer(pool, inside, sampled=sampled, censored=censored)
