"""Bandits for rewards that drift: they forget, gradually, by a window, or when a change is detected."""

from __future__ import annotations

import numpy as np

from metasd.core import Context, Floats, Ints, Rounds
from metasd.policies.base import IndexPolicy


class DiscountedUCB(IndexPolicy):
    """Discounted UCB: mean and counts weigh a round that lies s rounds back by gamma^s.

    index = X / N + beta sqrt(2 ln(sum of N) / N), N and X the discounted counts and rewards (Garivier and Moulines
    2011, section 2.1, with B sqrt(xi) written as beta / sqrt(2)).
    """

    def __init__(self, gamma: float = 0.98, beta: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.gamma, self.beta = gamma, beta

    def index(self, context: Context) -> Floats:
        t = self.n.sum(axis=1, keepdims=True)
        return self.total / self.n + self.beta * np.sqrt(2 * np.log(np.maximum(t, 1)) / self.n)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        self.n[rounds.lane] *= self.gamma
        self.total[rounds.lane] *= self.gamma
        super().learn(rounds, reward)


class SlidingWindowUCB(IndexPolicy):
    """Sliding-window UCB: mean and counts over the last ``window`` rounds of the lane.

    index = mean + beta sqrt(2 ln(min(t, window)) / n), n the arm's rounds inside the window (Garivier and Moulines
    2011, section 2.2). An arm that has left the window is tried again.
    """

    def __init__(self, window: int = 50, beta: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.window, self.beta = window, beta

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.t = np.zeros(lanes, np.int64)
        self.arms = np.zeros((lanes, self.window), np.int64)
        self.rewards = np.zeros((lanes, self.window))

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.t[lanes] = 0

    def index(self, context: Context) -> Floats:
        t = self.n.sum(axis=1, keepdims=True)
        return self.total / self.n + self.beta * np.sqrt(2 * np.log(np.maximum(t, 1)) / self.n)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        lane, slot = rounds.lane, self.t[rounds.lane] % self.window
        full = self.t[lane] >= self.window
        gone = lane[full], self.arms[lane, slot][full]
        self.n[gone] -= 1
        # an empty count must leave no rounding error behind
        self.total[gone] = np.where(self.n[gone] > 0, self.total[gone] - self.rewards[lane, slot][full], 0.0)
        self.arms[lane, slot], self.rewards[lane, slot] = rounds.arm, reward
        self.t[lane] += 1
        super().learn(rounds, reward)
