"""Thompson sampling: plays each arm with the probability that it is the best one, given what was seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import betaincinv, ndtri

from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import IndexPolicy, Policy, best, within


class ThompsonGaussian(IndexPolicy):
    """Thompson sampling, Normal(mean, sigma^2 / n): flat prior, known spread (Agrawal and Goyal 2017).

    sigma: spread of one reward.
    """

    def __init__(self, sigma: float = 0.2, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.sigma = within("sigma", sigma, 0)

    def index(self, context: Context) -> Floats:
        return self.mean + self.sigma / np.sqrt(self.n) * ndtri(self.noise.uniform(self.n.shape[1]))


class ThompsonBeta(Policy):
    """Thompson sampling, Beta(1 + sum of rewards, 1 + sum of (1 - reward)): rewards in [0, 1] (Agrawal and Goyal 2012).

    The paper tosses a coin with the reward's chance and counts the outcome; counting the reward itself has the same
    mean and needs no noise.
    """

    unit_reward: ClassVar[bool] = True

    def allocate(self, lanes: int, arms: int) -> None:
        self.won = np.zeros((lanes, arms))
        self.lost = np.zeros((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        self.won[lanes], self.lost[lanes] = 0, 0

    def choose(self, context: Context, allowed: Bools) -> Ints:
        return best(betaincinv(1 + self.won, 1 + self.lost, self.noise.uniform(allowed.shape[1])), allowed)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        share = np.clip(reward, 0.0, 1.0)
        self.won[rounds.lane, rounds.arm] += share
        self.lost[rounds.lane, rounds.arm] += 1 - share
