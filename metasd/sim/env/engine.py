"""Episodes on B lanes with rewards and observations: what both Gymnasium environments do, without Gymnasium.

Knows the trace and the future; is kept by ``private``, and hands out fresh arrays only. An episode is one text, drawn
uniformly with the lane's own stream, so lane j of many meets the texts that a run with that lane alone would meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise, rewards
from metasd.core.errors import UsageError
from metasd.core.observation import DEFAULT, ContextEncoder
from metasd.core.records import Bools, Context, Floats, Ints, Revealed, Rounds
from metasd.sim.oracle.episodes import Comparators
from metasd.sim.replay.clock import Clock
from metasd.sim.replay.lanes import Lanes
from metasd.sim.replay.reveal import TraceRevealer
from metasd.traces.find import find_trace
from metasd.traces.trace import Trace

_AT_THE_END = {"signals": np.nan, "lag": 0, "cost": np.nan}
_ODD, _JUDGE, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x6A09E667F3BCC909), np.uint64(32)


Played = tuple[int, int, int, int, int]
"""Position, arm, drafted, accepted and emitted of a round."""

COUNTS = ("prompt", "rounds", "best_fixed_rounds", "oracle_rounds")


@dataclass(frozen=True, slots=True)
class Setup:
    """The arguments that both environments share; see ``MetaSDEnv``."""

    trace: str | None = None
    reward: str = "block_efficiency"
    feedback: str = "bandit"
    scope: str = "free"
    draft_length: int | None = None
    max_new_tokens: int | None = None
    prompts: Sequence[str | int] | None = None
    domain: str | None = None
    observe: Sequence[str] = DEFAULT
    comparators: bool = True


@dataclass(slots=True)
class Result:
    """How the episodes of n lanes ended."""

    lane: Ints
    counts: Ints  # [4, n] see ``COUNTS``
    seconds: Floats  # [n] nan without a clock


class Engine:
    """B lanes. Raises UsageError or TraceError for a setting that does not fit the trace."""

    def __init__(self, setup: Setup, lanes: int) -> None:
        trace = find_trace(setup.trace)
        self.trace, self.pool = trace, trace.pool(setup.draft_length)
        if setup.feedback not in ("bandit", "full"):
            raise UsageError(f"feedback {setup.feedback!r} is unknown; use bandit or full")
        name = rewards.resolve(setup.reward, overlap=trace.overlap is not None)
        if name == "tokens_per_second" and trace.costs is None:
            raise UsageError("reward tokens_per_second needs a clock, and this trace has none; use reward=tokens")
        full = setup.feedback == "full"
        self.setup, self.reward_name = setup, name
        self.encoder = ContextEncoder(self.pool, lanes, setup.observe)
        self.lanes = Lanes(
            trace,
            self.pool,
            lanes,
            budget=setup.max_new_tokens,
            overlap=name == "block_divergence",
            timed=name == "tokens_per_second",
            catch_up=trace.costs is not None or bool(self.encoder.reads & {"lag", "cost"}),
            catch_all=full and setup.scope == "all",
        )
        self.reward = rewards.REWARDS[name]
        self.revealer = TraceRevealer(self.lanes, setup.scope, censored=False) if full else None
        self.comparators = Comparators(trace, self.pool, setup.max_new_tokens) if setup.comparators else None
        self.texts = choose_texts(trace, setup.prompts, setup.domain)
        self.streams: noise.Keys = np.zeros(lanes, np.uint64)
        self.tick = 0  # plays so far
        self.begun = np.zeros(lanes, np.int64)  # the tick at which each lane's episode began
        self.seconds = np.zeros(lanes)  # of the episode so far, at the context the costs were measured at
        self.positions = np.zeros(lanes, np.int64)  # sum of the positions of its rounds
        self.last: Rounds | None = None

    # -- episodes -------------------------------------------------------------------------------------------------

    def seed(self, lanes: Ints, seeds: Sequence[int]) -> None:
        """Give lanes new streams: lane i of a batch seeded s gets s + i, as with Gymnasium's own vector envs."""
        self.streams[lanes] = noise.mix(np.array([noise.key(int(s), "episodes") for s in seeds], np.uint64))

    def begin(self, lanes: Ints, prompts: Any = None) -> None:
        """``lanes`` start a text: the next of their stream, or the one(s) that ``prompts`` names."""
        bits = self.streams[lanes] + _ODD
        self.streams[lanes] = bits
        bits = (bits ^ (bits >> _HALF)) * _ODD  # a Weyl sequence from a well mixed start, and one round of mixing
        if prompts is None:
            text = self.texts.take((((bits >> _HALF) * np.uint64(len(self.texts))) >> _HALF).view(np.int64))
        else:
            text = np.broadcast_to(np.asarray(_indices(self.trace, prompts), np.int64), lanes.shape)
        self.lanes.begin(lanes, text, judge=noise.mix(bits ^ _JUDGE) if self.trace.sampled else None)
        self.encoder.begin(lanes)
        self.begun[lanes] = self.tick
        if self.lanes.clock is not None:
            self.seconds[lanes] = self.positions[lanes] = 0

    def play(self, arms: Ints) -> Rounds:
        """One round on every lane; lanes that are parked come back too, and mean nothing."""
        rounds = self.lanes.play(arms)
        self.tick += 1
        if self.lanes.clock is not None:
            self._add_seconds(self.lanes.clock, rounds)
        self.encoder.update(rounds)
        self.last = rounds
        return rounds

    def _add_seconds(self, clock: Clock, rounds: Rounds) -> None:
        """The sum of what ``Rounds.seconds`` would hold, in fewer steps."""
        self.seconds += clock.whole(rounds.arm, rounds.drafted)
        self.positions += rounds.position
        if self.lanes.catch_all:
            self.seconds += self.lanes.caught_up
        elif self.lanes.lagging:
            behind = np.flatnonzero(rounds.catch_up)
            drafter = self.pool.drafter_of.take(rounds.arm.take(behind))
            self.seconds[behind] += clock.catch_up(drafter, rounds.catch_up.take(behind))

    def rewards(self, rounds: Rounds) -> Floats:
        """[B] float64, fresh."""
        return np.asarray(self.reward(rounds, self.pool), np.float64)

    def result(self, lanes: Ints) -> Result:
        """Sums of the episodes that have just ended on ``lanes``, and what they are compared with."""
        counts = np.full((len(COUNTS), len(lanes)), -1, np.int64)
        counts[0] = text = self.lanes.text[lanes]
        counts[1] = self.tick - self.begun[lanes]
        if self.comparators is not None:
            counts[2:] = self.comparators.rounds(text, self.lanes.judge[lanes] if self.trace.sampled else None)
        if self.lanes.clock is None:
            return Result(lanes, counts, np.full(len(lanes), np.nan))
        context = self.positions[lanes] + counts[1] * np.asarray(self.trace.prompt_lengths)[text]
        return Result(lanes, counts, self.seconds[lanes] + self.lanes.clock.further(context, counts[1]))

    # -- what is seen ---------------------------------------------------------------------------------------------

    def context(self, lanes: Ints | None = None) -> Context:
        """What the observation is made of, for all lanes or some."""
        return self.lanes.context(self.encoder.reads, lanes)

    def close(self, context: Context, over: Ints) -> None:
        """Rows ``over`` of ``context`` are of texts that are over: nothing more can be chosen there."""
        context.available[over] = False
        for name, value in _AT_THE_END.items():
            if name in self.encoder.reads:
                getattr(context, name)[over] = value

    def mask(self, available: Bools) -> NDArray[np.int8]:
        """[n, K] arms worth choosing; all of them where none has a proposal, and at the end of an episode."""
        mask = available.view(np.int8).copy("K")
        if not available.all():
            mask[_none(available)] = 1
        return mask

    def revealed(self, playing: Bools | None) -> Revealed | None:
        """Full information on the last play of the lanes in ``playing``, None with bandit feedback."""
        if self.revealer is None or self.last is None:
            return None
        self.revealer.after(self.last if playing is None else self.last.take(playing))
        return self.revealer.reveal()

    def describe(self, lane: int, played: Played | None) -> str:
        """The round ``played`` on a lane in words, with the tokens it committed; None: before the first."""
        if played is None:
            return f"position 0 | {len(self.pool)} arms: {', '.join(self.pool.names)}"
        position, arm, drafted, accepted, emitted = played
        start = int(self.lanes.start[lane]) + position
        tokens = " ".join(str(int(t)) for t in self.trace.tokens[start : start + emitted])
        marks = "+" * accepted + "-" * (drafted - accepted)
        name = self.pool.names[arm]
        return f"position {position} | {name} [{marks}] {accepted}/{drafted} accepted | tokens {tokens}"

    def played(self, lane: int) -> Played | None:
        """Position, arm, drafted, accepted, emitted of the last round, None before the first of an episode."""
        last = self.last
        if last is None or self.begun[lane] == self.tick:
            return None
        columns = (last.position, last.arm, last.drafted, last.accepted, last.emitted)
        position, arm, drafted, accepted, emitted = (int(column[lane]) for column in columns)
        return position, arm, drafted, accepted, emitted


def _none(available: Bools) -> Ints:
    """Lanes without an available arm; transposed, since numpy is slow along a short last axis."""
    return np.flatnonzero(np.ascontiguousarray(available.view(np.uint8).T).max(axis=0) == 0)


def _indices(trace: Trace, prompts: Any) -> Any:
    """Indices of texts named by id or index, one or several."""
    if isinstance(prompts, str | int | np.integer):
        return _index(trace, prompts)
    return [_index(trace, p) for p in prompts]


def _index(trace: Trace, prompt: Any) -> int:
    if isinstance(prompt, str):
        if prompt not in trace.ids:
            raise UsageError(f"prompt {prompt!r} is not in the trace, whose first is {trace.ids[0]!r}")
        return list(trace.ids).index(prompt)
    if not 0 <= int(prompt) < len(trace):
        raise UsageError(f"prompt {prompt} is outside 0..{len(trace) - 1}")
    return int(prompt)


def choose_texts(trace: Trace, prompts: Sequence[str | int] | None, domain: str | None) -> Ints:
    """Indices of the texts that episodes are drawn from. Raises UsageError when none is left."""
    chosen = np.arange(len(trace)) if prompts is None else np.asarray(_indices(trace, prompts), np.int64).reshape(-1)
    if domain is not None:
        chosen = chosen[[trace.domains[p] == domain for p in chosen.tolist()]]
    if not len(chosen):
        raise UsageError(
            f"no prompt is left of domain {domain!r}; the trace has {', '.join(sorted(set(trace.domains)))}"
        )
    return chosen
