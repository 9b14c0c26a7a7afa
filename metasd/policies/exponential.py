"""Exponential weights on importance-weighted losses: bandits that assume nothing of how rewards arise.

Losses of arms not played are unknown; that of the arm played is divided by the probability it was played with, taken
over the arms allowed in that round.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import Policy, emitted_only, within
from metasd.policies.drawing import draw, row_sum, softmax


class Exp3(Policy):
    """EXP3, anytime: p ~ exp(-eta_t * sum of losses / p), eta_t = sqrt(ln K / (t K)), loss = 1 - reward.

    Auer et al. 2002, "The nonstochastic multiarmed bandit problem"; the rate is that of Bubeck and Cesa-Bianchi 2012,
    Theorem 3.1. Probabilities are renormalised over the allowed arms.
    """

    unit_reward: ClassVar[bool] = True

    def allocate(self, lanes: int, arms: int) -> None:
        self.loss = np.zeros((lanes, arms))
        self.t = np.zeros(lanes)
        self.p = np.ones((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        self.loss[lanes], self.t[lanes], self.p[lanes] = 0, 0, 1

    def choose(self, context: Context, allowed: Bools) -> Ints:
        arms = allowed.shape[1]
        rate = np.sqrt(math.log(arms) / ((self.t + 1) * arms))
        self.p[:] = softmax(-rate[:, None] * self.loss, allowed)
        return draw(self.p, self.noise.uniform()[:, 0])

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        played = rounds.lane, rounds.arm
        self.loss[played] += self.losses(rounds, reward) / self.p[played]
        self.t[rounds.lane] += 1

    def losses(self, rounds: Rounds, reward: Floats) -> Floats:
        """[n] loss of each round, in [0, 1]."""
        return 1 - reward


class Exp3Spec(Exp3):
    """EXP3Spec of BanditSpec: loss (L + 1 - Y) / L, Y tokens emitted, L the longest draft (arXiv 2505.15141).

    p ~ exp(-eta_t * sum of losses / p) with eta_t = sqrt(ln K / (t K)). As published it knows no availability: mask
    is off unless asked for.
    """

    def __init__(self, reward: str = "tokens", mask: bool = False) -> None:
        super().__init__(emitted_only("exp3spec", reward), mask)

    def losses(self, rounds: Rounds, reward: Floats) -> Floats:
        longest = self.pool.max_draft_length
        return (longest + 1 - rounds.emitted) / max(longest, 1)


class Exp3S(Policy):
    """EXP3.S: EXP3 with weights that share, for a best arm that changes ``changes`` times within ``horizon`` rounds.

    p = (1 - gamma) w / W + gamma / K;  w_i <- w_i exp(gamma x_i / K) + e alpha / K * W, x the reward over p.
    Auer et al. 2002, section 8: alpha = 1 / T, gamma = min(1, sqrt(K (S ln(K T) + e) / ((e - 1) T))), S the hardness
    of the sequence of best arms, which is 1 more than its changes (formulas from memory).
    """

    unit_reward: ClassVar[bool] = True

    def __init__(self, horizon: int = 256, changes: int = 2, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.horizon, self.changes = within("horizon", horizon, 1), within("changes", changes, 0)

    def allocate(self, lanes: int, arms: int) -> None:
        spread = arms * ((1 + self.changes) * math.log(arms * self.horizon) + math.e)
        self._gamma = min(1.0, math.sqrt(spread / ((math.e - 1) * self.horizon)))
        self.w = np.ones((lanes, arms))
        self.p = np.ones((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        self.w[lanes], self.p[lanes] = 1, 1

    def choose(self, context: Context, allowed: Bools) -> Ints:
        mixed = (1 - self._gamma) * self.w / row_sum(self.w) + self._gamma / self.w.shape[1]
        kept = np.where(allowed, mixed, 0.0)
        self.p[:] = kept / row_sum(kept)
        return draw(self.p, self.noise.uniform()[:, 0])

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        lane, arm = rounds.lane, rounds.arm
        arms = self.w.shape[1]
        old = self.w[lane]
        new = old.copy()
        new[np.arange(len(lane)), arm] *= np.exp(self._gamma * reward / (arms * self.p[lane, arm]))
        new += math.e / self.horizon / arms * row_sum(old)
        self.w[lane] = new / row_sum(new)  # only ratios matter; keeps the weights finite
