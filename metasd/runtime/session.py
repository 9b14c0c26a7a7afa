"""Live decoding as a ``metasd.core.records.Session``: prompts one after the other, on one lane or several at once.

A round: on every lane the chosen arm's drafter catches up and drafts, in turn; the target checks [last committed token,
draft] of all of them in one pass; ``settle`` makes each lane's round, whose tokens are committed to its drafters. A
prompt, all but its last token, is read before its first round and timed apart, so plain decoding is a pass of width 1
and no round is special. A lane whose text is over goes on with the next prompt that nobody has begun.

Time: a round lasts from the end of the one before, so whatever a policy or a callback of its own takes is in it. What
is neither drafting nor catching up counts as verification, of which lanes that are checked together have equal shares:
the seconds of all rounds sum to the time that passed.

A pass that fails or is interrupted leaves the session as it was before the round: the round can be played again. Inside
a commit it cannot be put back, so the session is closed.

With full information of scope "all", every model drafter reads the new tokens after each round: their number is added
to that round's ``catch_up`` and the time to its ``catch_up_seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.correction import Corrections
from metasd.core.costs import CostModel
from metasd.core.errors import SessionClosedError, UsageError
from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.pool import Pool
from metasd.core.records import Context, Ints, Revealed, Rounds, concatenate
from metasd.core.reveal import gathered
from metasd.drafters.base import Drafter
from metasd.runtime.clock import LiveClock, Took
from metasd.runtime.load import Target
from metasd.runtime.plans import LanePlans
from metasd.runtime.sampling import Sampling
from metasd.runtime.seat import IDLE, Seat, check, model_seconds, playable, seats
from metasd.runtime.seen import priced, seen
from metasd.runtime.start import Start
from metasd.runtime.stops import Stops
from metasd.runtime.told import InOrder, OnTokens
from metasd.runtime.verify import Verdict


class LiveSession:
    """See the module docstring and ``core.Session``.

    Args:
        drafters: of the first lane. beside: of each further one, made alike; a lane's drafters know its texts alone.
        prompts: (id, token ids) of each text to decode, in order.
        max_new_tokens: token budget of a text, >= 1.
        sampling: how the target decodes; greedily by default.
        reads, overlap, feedback, scope, censored, plans: what the policy wants delivered (``Policy.wants``).
        costs: expected seconds for policies that read "cost", and the clock when ``clock`` is "model".
        clock: "measured" wall time, or "model": the cost model's seconds, which a replay can reproduce.
        corrections: of ``costs``, from sessions before (``LiveClock``).
        on_tokens: streaming, one text after the other; the time it takes is not counted.
        stops: stop strings by prompt id; an answer ends where one is complete.

    Attributes:
        at: the prompt that each lane is at, IDLE for none.
        texts: tokens emitted for each prompt so far.
        starts: what each prompt took before and until its first tokens; in no round but the first of each.
        forward_seconds, seconds: wall time inside models' passes, and of all rounds, whatever the clock.

    Raises UsageError for a prompt that does not fit a model's context, a setting out of range, or a target that cannot
    read several texts at once; SessionClosedError when used after an interrupt inside a commit.
    """

    def __init__(
        self,
        target: Target,
        drafters: Sequence[Drafter],
        pool: Pool,
        prompts: Sequence[tuple[str, Sequence[int]]],
        *,
        beside: Sequence[Sequence[Drafter]] = (),
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
        self.pool, self.prompts, self.seed, self._stops = pool, list(prompts), seed, stops or {}
        self.max_new_tokens, self.on_tokens = max_new_tokens, on_tokens
        self.clock = LiveClock(pool, costs, clock, corrections)
        self.sampling = sampling or Sampling()
        sets = [drafters, *beside]
        self.lanes, self._reads = len(sets), frozenset(reads)
        check(target, sets, pool, self.prompts, max_new_tokens)
        how: dict[str, Any] = {"feedback": feedback, "scope": scope, "censored": censored, "overlap": overlap}
        self._seats = seats(target, sets, pool, self.sampling, budget=max_new_tokens, plans=plans, **how)
        self._plans = LanePlans(self._seats[0].lane, pool, greedy=self.sampling.greedy) if plans else None
        self.texts, self.starts = [list[int]() for _ in self.prompts], list[Start]()
        self.seconds = self.forward_seconds = 0.0
        self._next, self._played, self._closed, self._told = 0, list[Seat](), False, InOrder()
        room = max_new_tokens + max((len(tokens) for _, tokens in self.prompts), default=0)
        for seat in self._seats:
            seat.lane.warm(room, pool.max_draft_length)
            self._go_on(seat)

    @property
    def at(self) -> list[int]:
        """[B] the prompt that each lane is at, IDLE for none."""
        return [seat.prompt for seat in self._seats]

    @property
    def _running(self) -> list[Seat]:
        return [seat for seat in self._seats if seat.prompt != IDLE]

    @property
    def done(self) -> bool:
        return not self._running

    @property
    def fresh(self) -> Ints:
        return np.array([seat.number for seat in self._running if not seat.answer], np.int64)

    @property
    def keys(self) -> NDArray[np.uint64]:
        return np.array([seat.key(self.seed) for seat in self._seats])

    @property
    def context(self) -> Context:
        running = self._running
        if running:
            self._open()
        position, remaining = np.array([(seat.position, seat.remaining) for seat in self._seats]).T
        made = Context(position, remaining, np.ones((self.lanes, len(self.pool)), bool))
        if not running:
            return made
        if self._plans is not None:
            self._plans.fill(made, self.clock.costs)
            return made
        seen(made, {seat.number: seat.lane for seat in running}, self.pool, self._reads)
        priced(made, np.array([seat.context for seat in self._seats]), self.clock, self._reads)
        return made

    def play(self, arms: Ints) -> Rounds:
        """One round with ``arms`` [B] on every lane that is not done.

        Raises UsageError for an arm that is not in the pool, or after the end.
        """
        running = self._running
        chosen = playable(running, arms, self.pool)
        self._open()
        passes = model_seconds(self._seats)
        drafts, drafting = zip(*[seat.draft(arm) for seat, arm in zip(running, chosen, strict=True)], strict=True)
        lanes = [seat.lane for seat in running]
        asked = [lane.question(draft) for lane, draft in zip(lanes, drafts, strict=True)]
        verdicts = lanes[0].verifier.together([lane.cached for lane in lanes], asked)
        each = zip(running, chosen, drafts, verdicts, strict=True)
        made = [seat.settle(arm, draft, verdict) for seat, arm, draft, verdict in each]
        context = [seat.context for seat in running]
        read, reading, total = self._commit(running, [of[1:] for of in made], verdicts, passes)
        caught = [draft.catch_up_seconds + more for draft, more in zip(drafts, reading, strict=True)]
        checking = (total - sum(drafting) - sum(caught)) / len(running)
        self.clock.begin_play()
        for i, (rounds, _, _) in enumerate(made):
            self.clock.charge(rounds, context[i], read[i], Took(drafting[i], checking, caught[i], reading[i]))
            rounds.catch_up += read[i].sum()
        return self._advance(running, [of[:2] for of in made])

    @property
    def suggest(self) -> Sequence[Suggest]:
        """[1] the text's sources. Raises UsageError for a session made without ``plans``."""
        self._open()
        return self._planned().suggest

    def play_plans(self, plans: Sequence[Plan]) -> Rounds:
        """One round with ``plans`` [1]. Raises UsageError for one that cannot be played here, or after the end."""
        lane, seat = self._planned(), self._seats[0]
        if self.done or len(plans) != 1:
            raise UsageError(f"{len(plans)} plans for one lane, done is {self.done}; give one before the end")
        self._open()
        passes = model_seconds(self._seats)
        checked = lane.check(plans[0], seat.remaining, self.clock.costs)
        end = seat.ends_in(checked.tokens)
        rounds = lane.settle(checked, seat.prompt, seat.position, seat.remaining, end)
        emitted, context = checked.tokens[: int(rounds.emitted[0])], seat.context
        _, _, total = self._commit([seat], [(emitted, end <= len(emitted))], [None], passes)
        lane.commit(checked, emitted)
        caught = checked.draft.catch_up_seconds
        took = Took(checked.drafting, total - checked.drafting - caught, caught, 0.0)
        self.clock.begin_play()
        self.clock.charge_plan(rounds, checked.tree, checked.plan.model, context, took)
        return self._advance([seat], [(rounds, emitted)])

    @property
    def judged(self) -> Sequence[Judged]:
        """[1] what the last ``play_plans`` said."""
        return self._planned().judged

    def reveal(self) -> Revealed:
        """Full information on the tokens of the last play. Raises UsageError unless ``feedback`` is "full"."""
        told = [(s.number, r) for s in self._played or self._seats[:1] if (r := s.lane.revealer) is not None]
        if not told:
            raise UsageError("this session gives bandit feedback; make it with feedback='full' to reveal more")
        return gathered(told)

    def resume(self) -> None:
        """What passed since the last round was somebody else's time: it is in no round."""
        self._mark = time.perf_counter()

    @property
    def prefill_seconds(self) -> float:
        """Seconds of reading prompts, by target and drafters, in no round."""
        return sum(s.prefill_seconds + s.begin_seconds for s in self.starts)

    def close(self) -> None:
        """Let go of the models' caches: from now on only what was decoded can be read."""
        del self._seats, self._played

    @property
    def forward_share(self) -> float | None:
        """Share of the rounds' wall time that models' passes took; None before the first round."""
        return self.forward_seconds / self.seconds if self.seconds else None

    def _planned(self) -> LanePlans:
        if self._plans is None:
            raise UsageError("this session plays arms; make it with plans=True")
        return self._plans

    def _go_on(self, seat: Seat) -> None:
        """``seat`` takes the next prompt that nobody has begun, or none."""
        if self._next < len(self.prompts):
            name, tokens = self.prompts[self._next]
            seat.take(self._next, name, tokens, self.texts[self._next], self._stops.get(name, ()))
            self._next += 1
        else:
            seat.idle()

    def _open(self) -> None:
        """Read the prompts that have not been read. Raises SessionClosedError after an interrupted commit."""
        if self._closed:
            raise SessionClosedError("this session was interrupted inside a commit and is closed; open a new one")
        for seat in self._running:
            if seat.opened:
                continue
            started = time.perf_counter()
            seat.read(self.seed)
            self._closed = True  # until every drafter has the prompt
            begin = seat.lane.begin(self.seed, seat.name)
            if self._plans is not None:
                self._plans.begin()
            seat.opened, self._closed = True, False
            self._mark, seat.began = time.perf_counter(), started
            self.starts.append(Start(seat.length, self._mark - started - begin, begin))

    def _commit(
        self,
        seats: Sequence[Seat],
        emitted: Sequence[tuple[list[int], bool]],
        verdicts: Sequence[Verdict | None],
        passes: float,
    ) -> tuple[list[Ints], list[float], float]:
        """Commit what ``seats`` emit; what the lanes say of it, and the play's wall seconds. ``passes``: when it began.

        emitted: tokens, and whether the text ends with them.
        """
        self._closed = True  # until every drafter has the tokens
        each = zip(seats, emitted, verdicts, strict=True)
        said = [seat.lane.commit(tokens, verdict, ends=ends) for seat, (tokens, ends), verdict in each]
        self.forward_seconds += model_seconds(self._seats) - passes
        total = time.perf_counter() - self._mark
        self.seconds += total
        for seat in seats:
            if not seat.answer:
                self.starts[seat.prompt].first_token_seconds = self._mark - seat.began + total
        return [read for read, _ in said], [seconds for _, seconds in said], total

    def _advance(self, seats: Sequence[Seat], made: Sequence[tuple[Rounds, list[int]]]) -> Rounds:
        """Take the tokens into the texts, go on to the next prompts after the last of them, and hand the tokens on."""
        self._played = list(seats)
        for seat, (rounds, emitted) in zip(seats, made, strict=True):
            seat.answer.extend(emitted)
            if rounds.finished[0]:
                seat.lane.end()
                self._go_on(seat)
                if seat.prompt == IDLE:
                    seat.lane.leave()
        self._mark, self._closed = time.perf_counter(), False
        if self.on_tokens is not None:
            for rounds, emitted in made:
                where, last = (int(rounds.prompt[0]), emitted, int(rounds.arm[0])), bool(rounds.finished[0])
                self._told.tell(self.on_tokens, *where, int(rounds.accepted[0]), last=last)
        self._mark = time.perf_counter()  # what streaming took is in no round
        return made[0][0] if len(made) == 1 else concatenate([rounds for rounds, _ in made])
