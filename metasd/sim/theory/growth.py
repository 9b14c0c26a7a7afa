"""How fast regret grows, and how much of it UCB may have: what docs/theory.md derives, as functions.

Growth is read off doubling increments D_j = R(2^(j+1)) - R(2^j): they stay constant where R grows as ln t, grow by
sqrt(2) a step as sqrt(t), and double where R is linear. A straight line through a log-log plot misleads: ln t has the
local slope 1 / ln t, and cumulative values are autocorrelated, while increments over disjoint spans are nearly not.
For i.i.d. arms with known means only: regret here is pseudo-regret, the sum of the gaps of the arms played.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import zeta
from scipy.stats import t as student

from metasd.core.records import Ints, Rounds
from metasd.sim.compare.bootstrap import Values
from metasd.sim.replay.run import replay
from metasd.traces import Trace


def rounds_played(trace: Trace, spec: str, *, seeds: int = 1, draft_length: int | None = None) -> tuple[Ints, Ints]:
    """[E, T] arm and position of each of the first T rounds of every episode, T the rounds of the shortest."""
    episodes = len(trace) * seeds
    count = np.zeros(episodes, np.int64)
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []

    def listen(rounds: Rounds) -> None:
        parts.append((rounds.prompt, count[rounds.prompt], rounds.arm, rounds.position))
        count[rounds.prompt] += 1

    replay(trace, spec, seeds=seeds, draft_length=draft_length, lanes=episodes, on_rounds=listen)
    arms, positions = np.full((2, episodes, count.max()), -1, np.int64)
    for prompt, at, arm, position in parts:
        arms[prompt, at], positions[prompt, at] = arm, position
    shortest = int(count.min())
    return arms[:, :shortest], positions[:, :shortest]


def regret_at_doublings(loss: NDArray[Any], first: int) -> Values:
    """[E, J + 1] regret after ``first``, 2 ``first``, 4 ``first``, ... rounds, as far as ``loss`` [E, T] goes.

    loss: what each round gave away: best mean minus the mean of the arm played.
    """
    steps = int(math.log2(loss.shape[1] / first))
    return np.cumsum(loss, axis=1, dtype=np.float64)[:, first * 2 ** np.arange(steps + 1) - 1]


@dataclass(frozen=True, slots=True)
class Growth:
    """The exponent c of R ~ t^c (0 stands for ln t) with its standard error over ``episodes`` independent ones."""

    exponent: float
    error: float
    episodes: int

    def margin(self, false_alarm: float) -> float:
        """Half-width that a true exponent exceeds on one side with probability ``false_alarm`` (Student's t)."""
        return float(student.isf(false_alarm, self.episodes - 1)) * self.error

    def below(self, exponent: float, *, false_alarm: float) -> bool:
        """Whether growth is slower than t^exponent, wrongly so with probability at most ``false_alarm``."""
        return self.exponent + self.margin(false_alarm) < exponent

    def above(self, exponent: float, *, false_alarm: float) -> bool:
        """Whether growth is faster than t^exponent, wrongly so with probability at most ``false_alarm``."""
        return self.exponent - self.margin(false_alarm) > exponent


def growth(regret: Values) -> Growth:
    """Least-squares slope of log2 of the mean doubling increment over j, standard error by the jackknife.

    Args: regret [E, J + 1] at doublings. Raises ValueError where a mean increment is not positive or J < 2.
    """
    increments = np.diff(regret, axis=1)
    E, J = increments.shape
    total = increments.sum(axis=0)
    left_out = (total - increments) / (E - 1)
    if J < 2 or not (left_out > 0).all():
        raise ValueError(f"{J} doubling increments, the smallest mean {left_out.min(initial=0)}; need 2, all positive")
    j = np.arange(J) - (J - 1) / 2
    weights = j / (j**2).sum()
    slopes = np.log2(left_out) @ weights
    error = math.sqrt((E - 1) / E * ((slopes - slopes.mean()) ** 2).sum())
    return Growth(float(np.log2(total / E) @ weights), error, E)


# -- the bound of docs/theory.md ------------------------------------------------------------------------------------


def accepted_mean(alpha: NDArray[Any], draft_length: int) -> Values:
    """[K] mean accepted length of a truncated geometric: sum of alpha^d for d = 1..G (Assumption 1)."""
    powers = np.asarray(alpha, np.float64)[:, None] ** np.arange(1, draft_length + 1)
    return np.asarray(powers.sum(axis=1))


def plays_bound(gap: float, tokens: int, *, beta: float, proxy: float) -> float:
    """Most rounds that UCB with ``beta`` can be expected to give to an arm whose mean reward is ``gap`` below the best.

    8 beta^2 ln(tokens) / gap^2 + 1 + 2 zeta(beta^2 / proxy - 1); infinite unless beta^2 > 2 proxy.

    proxy: variance proxy of the reward: 1/4 for any reward in [0, 1], 1 / (4 G) for block divergence over G
        independent positions.
    """
    power = beta**2 / proxy
    if power <= 2:
        return math.inf
    return 8 * beta**2 * math.log(tokens) / gap**2 + 1 + 2 * float(zeta(power - 1))


def regret_bound(alpha: NDArray[Any], draft_length: int, tokens: int, *, reward: str, beta: float) -> float:
    """Most rounds that UCB can be expected to take beyond the best arm to emit ``tokens``, for i.i.d. acceptance.

    sum over worse arms of plays_bound * (A* - A_i) / (1 + A*), plus G / (1 + A*) for the last round's overshoot.

    alpha: [K] acceptance rates. reward: "block_divergence" or "block_efficiency".
    """
    mean = accepted_mean(alpha, draft_length)
    divergence = reward == "block_divergence"
    value = np.asarray(alpha, np.float64) if divergence else mean / draft_length
    proxy = 1 / (4 * draft_length) if divergence else 1 / 4
    best = float(mean.max())
    lost = sum(
        plays_bound(float(value.max() - v), tokens, beta=beta, proxy=proxy) * (best - m)
        for v, m in zip(value, mean, strict=True)
        if m < best
    )
    return float((lost + draft_length) / (1 + best))
