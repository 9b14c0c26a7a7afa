"""What every policy shares: binding to a pool, resetting, masking, reward and state.

A policy is numpy only and knows neither traces nor models. All its state is arrays with the lane first, ``[B, ...]``,
so one implementation serves the live loop (B = 1) and a vector environment (B = 4,096).

To add one: subclass ``Policy`` (or ``IndexPolicy``), write ``allocate``/``clear``/``choose``/``learn`` (or ``index``),
and add one line to ``POLICIES`` in ``metasd/policies/__init__.py``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from metasd.core import rewards
from metasd.core.errors import UsageError
from metasd.core.noise import Keys, LaneNoise
from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.pool import Pool
from metasd.core.records import Bools, Context, Floats, Ints, Revealed, Rounds, StopReason
from metasd.policies.drawing import row_sum


class Policy(ABC):
    """A rule that picks an arm for every lane before each round and learns from the round.

    Args:
        reward: what it learns from, a name in ``metasd.core.rewards.REWARDS`` or ``auto``.
        mask: choose among available arms only, and learn only from rounds that drafted: a round without a draft says
            nothing of its arm's drafts. Off, it may choose an arm without a proposal, and that plain round counts
            against the arm (no accepted token, no overlap, one token emitted); otherwise it could be chosen for ever.
            Either way a round in which the budget left no room for a draft teaches nothing.

    Class attributes:
        feedback: "bandit" (its own rounds) or "full" (also ``observe``).
        scope: with full feedback, "free" for drafters whose counterfactuals cost no model pass, or "all".
        reads: optional Context fields it wants filled: "signals", "lag", "cost", "pays", "tail", "proposal".
        default_reset: "prompt" (forget at every text) or "never" (keep what was learned).
        unit_reward: its formulas hold for rewards within [0, 1] only, so others are refused.
        censored: with full feedback, whether it also wants lengths cut off at the frontier, flagged.
        plans: it returns plans instead of arms: ``plan`` and ``judge`` take the place of ``select`` and ``update``.
        sums, derived: arrays that add up what rounds told, so that several lanes can learn together (``accumulate``),
            and arrays that follow from them alone; no sums: lanes learn by themselves.
    """

    feedback: ClassVar[Literal["bandit", "full"]] = "bandit"
    scope: ClassVar[Literal["free", "all"]] = "free"
    reads: ClassVar[frozenset[str]] = frozenset()
    default_reset: ClassVar[Literal["prompt", "never"]] = "prompt"
    unit_reward: ClassVar[bool] = False
    censored: ClassVar[bool] = False
    plans: ClassVar[bool] = False
    sums: ClassVar[tuple[str, ...]] = ()
    derived: ClassVar[tuple[str, ...]] = ()

    pool: Pool
    lanes: int
    noise: LaneNoise

    def __init__(self, reward: str = "auto", mask: bool = True) -> None:
        if self.unit_reward and reward in rewards.UNBOUNDED:
            raise UsageError(
                f"reward {reward!r} is not within 0 and 1, which {type(self).__name__} needs; use reward=tokens"
            )
        self.reward_name = reward
        self.mask = mask

    # -- what a runner calls ------------------------------------------------------------------------------------

    def set_prior(self, prior: Mapping[str, Any]) -> None:
        """Start from what ``metasd fit`` learned offline; call it before ``bind``. Raises UsageError by default."""
        raise UsageError(f"{type(self).__name__} takes no prior; only policies that metasd fit can train do")

    def wants(self, overlap: bool, timed: bool = False, models: bool = True) -> dict[str, Any]:
        """What a session must deliver to this policy.

        overlap: whether the session could record it. timed: whether it knows what rounds cost. models: whether the
        pool has drafters that cost passes of a model.
        """
        reward = rewards.resolve(self.reward_name, overlap=overlap)
        return {
            "reads": self.reads,
            "overlap": reward == "block_divergence",
            "feedback": self.feedback,
            "scope": self.scope,
            "censored": self.censored,
            "plans": self.plans,
        }

    def settings(self) -> dict[str, Any]:
        """Every setting as resolved, for results: the constructor's arguments, the reward and the reset."""
        own = {k: v for k, v in vars(self).items() if isinstance(v, bool | int | float | str) and k[0] != "_"}
        own.pop("lanes", None)
        return own

    # -- what the loop calls ------------------------------------------------------------------------------------

    def bind(self, pool: Pool, lanes: int, *, reset: str | None = None, overlap: bool = True) -> None:
        """Get ready for ``lanes`` lanes of ``pool``. ``overlap``: whether rounds will carry it."""
        self.pool, self.lanes = pool, lanes
        self.reset = reset or self.default_reset
        if self.reset not in ("prompt", "never"):
            raise UsageError(f"reset {self.reset!r} is unknown; use prompt or never")
        self.reward_name = rewards.resolve(self.reward_name, overlap=overlap)
        self._reward = rewards.REWARDS[self.reward_name]
        self.noise = LaneNoise(lanes)
        self.allocate(lanes, len(pool))
        self.clear(np.arange(lanes))

    def begin(self, lanes: Ints, keys: Keys) -> None:
        """``lanes`` start a new text; the noise of each is keyed by it."""
        self.noise.begin(lanes, keys)
        if self.reset == "prompt":
            self.clear(lanes)

    def select(self, context: Context) -> Ints:
        """[B] the arm each lane plays next."""
        return self.choose(context, self.allowed(context))

    def update(self, rounds: Rounds) -> None:
        """Learn from finished rounds, those left out that say nothing of their arm (see ``mask``)."""
        told = (rounds.drafted > 0) | self.pool.plain[rounds.arm]
        if not self.mask:
            told |= rounds.stop != StopReason.BUDGET_ENDED
        if not told.all():
            rounds = rounds.take(told)
        if len(rounds):
            self.learn(rounds, self._reward(rounds, self.pool))

    def observe(self, revealed: Revealed) -> None:  # noqa: B027 - only full-feedback policies need it
        """Learn from full information; called after ``update`` when ``feedback`` is "full"."""

    def plan(self, context: Context, suggest: Sequence[Suggest]) -> Sequence[Plan]:
        """[B] what each lane checks next, for a policy that ``plans``."""
        raise NotImplementedError(f"{type(self).__name__} chooses arms")

    def judge(self, rounds: Rounds, judged: Sequence[Judged]) -> None:
        """Learn from rounds of plans."""
        raise NotImplementedError(f"{type(self).__name__} chooses arms")

    def inherit(self, lanes: Ints, source: int) -> None:
        """``lanes`` know from now on what lane ``source`` has learned; call ``begin`` for their texts behind it."""
        for value in self._learned():
            value[lanes] = value[source]

    def accumulate(self, lane: int, learned: Mapping[str, NDArray[Any]]) -> None:
        """Add to what ``lane`` knows what others have ``learned``: by the names in ``sums``, arrays without lanes."""
        for name, value in learned.items():
            getattr(self, name)[lane] += value

    def _learned(self) -> list[NDArray[Any]]:
        """All arrays of the state, lane first; the noise is none of them."""
        return [v for v in vars(self).values() if isinstance(v, np.ndarray)]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as arrays: saving and loading it continues the same sequence of choices."""
        state = {k: v.copy() for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return state | {f"noise.{k}": v for k, v in self.noise.state_dict().items()}

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> None:
        own = {k for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        if own != {k for k in state if not k.startswith("noise.")}:
            raise UsageError(f"state holds {sorted(state)}, but {type(self).__name__} keeps {sorted(own)}")
        for name in own:
            if getattr(self, name).shape != state[name].shape:
                raise UsageError(f"state {name} has shape {state[name].shape}, expected {getattr(self, name).shape}")
            getattr(self, name)[...] = state[name]
        self.noise.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("noise.")})

    # -- what a policy writes -----------------------------------------------------------------------------------

    def allocate(self, lanes: int, arms: int) -> None:  # noqa: B027 - a policy without state needs none
        """Create the state arrays, [lanes, ...]."""

    def clear(self, lanes: Ints) -> None:  # noqa: B027
        """Forget everything on ``lanes``."""

    @abstractmethod
    def choose(self, context: Context, allowed: Bools) -> Ints:
        """[B] arms, from ``allowed`` [B, K] (every row has at least one)."""

    def learn(self, rounds: Rounds, reward: Floats) -> None:  # noqa: B027
        """Learn ``reward`` [n] of ``rounds``; ``rounds.lane`` says which rows of the state they belong to."""

    # -- helpers ------------------------------------------------------------------------------------------------

    def allowed(self, context: Context) -> Bools:
        """[B, K] what may be chosen; all arms where none has a proposal, since then every arm is a plain round."""
        if not self.mask:
            return np.ones_like(context.available)
        some: Bools = np.asarray(context.available.any(axis=1))
        return context.available if some.all() else context.available | ~some[:, None]


def best(index: Floats, allowed: Bools) -> Ints:
    """[B] the allowed arm with the largest index; ties go to the first in pool order."""
    return np.argmax(np.where(allowed, index, -np.inf), axis=1)


def worthwhile(context: Context, allowed: Bools) -> Bools:
    """``allowed`` [B, K] without arms that cannot pay (``Context.pays``), where that leaves any."""
    if context.pays is None:
        return allowed
    paying = allowed & context.pays
    return np.where(paying.any(axis=1, keepdims=True), paying, allowed)


STALL = 4.0
"""Times its expected seconds from which a round is a stall: a machine that stops says nothing of its arm."""


def unstalled(seconds: Floats, expected: Floats) -> Floats:
    """[n] ``seconds`` that rounds took; of those that stalled, what was ``expected`` (inf: nobody knows)."""
    return np.where(seconds > STALL * expected, expected, seconds)


TINY = 1e-9
"""Smallest value of settings that must be positive."""


def within(name: str, value: float, low: float, high: float = math.inf) -> Any:
    """``value`` of the setting ``name``. Raises UsageError unless low <= value <= high."""
    if not low <= value <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} {value:g} is out of range; give {bounds}")
    return value


def emitted_only(policy: str, reward: str) -> str:
    """``reward``, which must be "tokens": for policies whose definition counts emitted tokens themselves."""
    if reward != "tokens":
        raise UsageError(f"{policy} is defined on emitted tokens, not on reward {reward!r}; leave reward out")
    return reward


class IndexPolicy(Policy):
    """Plays the arm with the largest index; every allowed arm not yet tried is tried first, in pool order.

    Keeps ``n`` [B, K] trials and ``total`` [B, K] summed reward; subclasses write ``index``.
    """

    n: Floats
    total: Floats

    def allocate(self, lanes: int, arms: int) -> None:
        self.n = np.zeros((lanes, arms))
        self.total = np.zeros((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        self.n[lanes] = 0
        self.total[lanes] = 0

    def choose(self, context: Context, allowed: Bools) -> Ints:
        with np.errstate(divide="ignore", invalid="ignore"):
            index = self.index(context)
        return best(np.where(self.n > 0, index, np.inf), allowed)

    @abstractmethod
    def index(self, context: Context) -> Floats:
        """[B, K] index of each arm; entries of arms never tried are ignored."""

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        self.n[rounds.lane, rounds.arm] += 1
        self.total[rounds.lane, rounds.arm] += reward

    @property
    def mean(self) -> Floats:
        """[B, K] mean reward."""
        return self.total / np.maximum(self.n, 1)

    @property
    def log_t(self) -> Floats:
        """[B, 1] ln of the trials so far, 0 before the second."""
        return np.log(np.maximum(row_sum(self.n), 1))
