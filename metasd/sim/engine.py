"""Episodes on B lanes with rewards and observations: what both Gymnasium environments do, without Gymnasium.

Knows the trace and the future; lives in the vault, and hands out fresh arrays only. An episode is one text, drawn
uniformly with the lane's own stream, so lane j of many meets the texts that a run with that lane alone would meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd import noise, rewards
from metasd.core import Bools, Context, Floats, Ints, Revealed, Rounds
from metasd.errors import UsageError
from metasd.observation import DEFAULT, Observer
from metasd.sim.comparators import Comparators
from metasd.sim.lanes import Lanes
from metasd.sim.revealed import Revealer
from metasd.sim.source import REFERENCE, find_trace
from metasd.traces.trace import Trace

_ODD, _JUDGE, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x6A09E667F3BCC909), np.uint64(32)


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
    seconds: Floats  # [n] nan without a clock
    counts: dict[str, Ints]  # [n] each: prompt, rounds, best_fixed_rounds, oracle_rounds


class Engine:
    """B lanes. Raises UsageError or TraceError for a setting that does not fit the trace."""

    def __init__(self, setup: Setup, lanes: int) -> None:
        trace = find_trace(setup.trace or REFERENCE)
        self.trace, self.pool = trace, trace.pool(setup.draft_length)
        if setup.feedback not in ("bandit", "full"):
            raise UsageError(f"feedback {setup.feedback!r} is unknown; use bandit or full")
        name = rewards.resolve(setup.reward, overlap=trace.overlap is not None)
        if name == "tokens_per_second" and trace.costs is None:
            raise UsageError("reward tokens_per_second needs a clock, and this trace has none; use reward=tokens")
        full = setup.feedback == "full"
        self.observer = Observer(self.pool, lanes, setup.observe)
        self.lanes = Lanes(
            trace,
            self.pool,
            lanes,
            budget=setup.max_new_tokens,
            overlap=name == "block_divergence",
            catch_up=trace.costs is not None or bool(self.observer.reads & {"lag", "cost"}),
            catch_all=full and setup.scope == "all",
        )
        self.reward = rewards.REWARDS[name]
        self.revealer = Revealer(self.lanes, setup.scope, censored=False) if full else None
        self.comparators = Comparators(trace, self.pool, setup.max_new_tokens) if setup.comparators else None
        self.texts = choose_texts(trace, setup.prompts, setup.domain)
        self.streams: noise.Keys = np.zeros(lanes, np.uint64)
        self.drawn = np.zeros(lanes, np.uint64)
        self.tick = 0  # plays so far
        self.begun = np.zeros(lanes, np.int64)  # the tick at which each lane's episode began
        self.seconds = np.zeros(lanes)
        self.last: Rounds | None = None

    # -- episodes -------------------------------------------------------------------------------------------------

    def seed(self, lanes: Ints, seeds: Sequence[int]) -> None:
        """Give lanes new streams: lane i of a batch seeded s gets s + i, as with Gymnasium's own vector envs."""
        self.streams[lanes] = noise.mix(np.array([noise.key(int(s), "episodes") for s in seeds], np.uint64))
        self.drawn[lanes] = 0

    def begin(self, lanes: Ints, prompts: Any = None) -> None:
        """``lanes`` start a text: the next of their stream, or the one(s) that ``prompts`` names."""
        count = self.drawn[lanes] = self.drawn[lanes] + np.uint64(1)
        bits = noise.mix(self.streams[lanes] + count * _ODD)
        if prompts is None:
            text = self.texts.take((((bits >> _HALF) * np.uint64(len(self.texts))) >> _HALF).astype(np.int64))
        else:
            text = np.broadcast_to(np.asarray(_indices(self.trace, prompts), np.int64), lanes.shape)
        self.lanes.begin(lanes, text, judge=noise.mix(bits ^ _JUDGE) if self.trace.sampled else None)
        self.observer.begin(lanes)
        self.begun[lanes] = self.tick
        if self.lanes.clock is not None:
            self.seconds[lanes] = 0

    def play(self, arms: Ints) -> Rounds:
        """One round on every lane; lanes that are parked come back too, and mean nothing."""
        rounds = self.lanes.play(arms)
        self.tick += 1
        if self.lanes.clock is not None and rounds.seconds is not None:
            self.seconds += rounds.seconds
        self.observer.update(rounds)
        self.last = rounds
        return rounds

    def rewards(self, rounds: Rounds) -> Floats:
        """[B] float64, fresh."""
        return np.asarray(self.reward(rounds, self.pool), np.float64)

    def result(self, lanes: Ints) -> Result:
        """Sums of the episodes that have just ended on ``lanes``, and what they are compared with."""
        text, none = self.lanes.text[lanes], np.full(len(lanes), -1, np.int64)
        fixed, optimum = none, none.copy()
        if self.comparators is not None:
            fixed, optimum = self.comparators.rounds(text, self.lanes.judge[lanes] if self.trace.sampled else None)
        seconds = self.seconds[lanes] if self.lanes.clock is not None else np.full(len(lanes), np.nan)
        counts = {"prompt": text, "rounds": self.tick - self.begun[lanes]}
        return Result(lanes, seconds, counts | {"best_fixed_rounds": fixed, "oracle_rounds": optimum})

    # -- what is seen ---------------------------------------------------------------------------------------------

    def context(self, lanes: Ints | None = None) -> Context:
        """What the observation is made of, for all lanes or some."""
        return self.lanes.context(self.observer.reads, lanes)

    def close(self, context: Context, over: Ints, rounds: Rounds) -> None:
        """Rows ``over`` of ``context`` are of texts that are over with ``rounds``: nothing more can be chosen there."""
        position = rounds.position[over] + rounds.emitted[over]
        lane = rounds.lane[over]
        context.position[over] = position
        context.remaining[over] = self.lanes.budgets[self.lanes.text[lane]] - position
        context.available[over] = False
        for name, value in (("signals", np.nan), ("lag", 0), ("cost", np.nan)):
            column = getattr(context, name)
            if column is not None:
                column[over] = value

    def mask(self, available: Bools) -> NDArray[np.int8]:
        """[n, K] arms worth choosing; all of them where none has a proposal, and at the end of an episode."""
        mask = available.astype(np.int8)
        if not available.all():
            mask[~_any(available)] = 1
        return mask

    def revealed(self, playing: Bools | None) -> Revealed | None:
        """Full information on the last play of the lanes in ``playing``, None with bandit feedback."""
        if self.revealer is None or self.last is None:
            return None
        self.revealer.after(self.last if playing is None else self.last.take(playing))
        return self.revealer.reveal()

    def describe(self, lane: int) -> str:
        """The last round of a lane in words, with the tokens it committed."""
        rounds, lanes = self.last, self.lanes
        if rounds is None or self.begun[lane] == self.tick:
            return f"position 0 | {len(self.pool)} arms: {', '.join(self.pool.names)}"
        start = int(lanes.start[lane] + rounds.position[lane])
        tokens = " ".join(str(int(t)) for t in self.trace.tokens[start : start + int(rounds.emitted[lane])])
        accepted, drafted = int(rounds.accepted[lane]), int(rounds.drafted[lane])
        marks = "+" * accepted + "-" * (drafted - accepted)
        arm = self.pool.names[int(rounds.arm[lane])]
        return (
            f"position {int(rounds.position[lane])} | {arm} [{marks}] {accepted}/{drafted} accepted | tokens {tokens}"
        )


def _any(available: Bools) -> Bools:
    """[n] whether any arm is available; by columns, since numpy is slow along a short last axis."""
    if available.shape[1] > 32:
        return np.asarray(available.any(axis=1))
    found = available[:, 0].copy()
    for k in range(1, available.shape[1]):
        found |= available[:, k]
    return found


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
