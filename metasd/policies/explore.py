"""Policies that explore apart from exploiting: first, in phases, or now and then."""

from __future__ import annotations

import math

import numpy as np

from metasd.core.records import UNKNOWN_BUDGET, Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import IndexPolicy, Policy, best, within
from metasd.policies.drawing import draw, prefer


class SequentialHalving(Policy):
    """Sequential halving with few switches: plays each surviving arm in one block, drops the worse half, keeps one.

    Karnin, Koren, Somekh 2013: ceil(log2 K) phases; in each, every survivor is played
    floor(budget / (survivors * phases)) rounds, at least 1. The budget is ``share`` of the tokens a text may have when
    it begins (a round yields at least one), of ``assumed`` tokens where nobody knows how many that are (imports). An
    arm's worth is its mean over all its rounds so far; the paper's analysis counts those of the phase alone. A phase
    ends after its number of rounds, whatever was available in it; an arm that was never available counts as reward 0.
    """

    def __init__(self, share: float = 0.1, assumed: int = 256, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.share, self.assumed = within("share", share, 0, 1), within("assumed", assumed, 1)

    def allocate(self, lanes: int, arms: int) -> None:
        self.n = np.zeros((lanes, arms))
        self.total = np.zeros((lanes, arms))
        self.alive = np.ones((lanes, arms), bool)
        self.in_phase = np.zeros((lanes, arms), np.int64)
        self.budget = np.zeros(lanes)

    def clear(self, lanes: Ints) -> None:
        self.n[lanes], self.total[lanes] = 0, 0
        self.alive[lanes], self.in_phase[lanes], self.budget[lanes] = True, 0, 0

    def quota(self, lanes: Ints) -> Floats:
        """[n, 1] rounds each survivor is played in this phase; 0 when one is left."""
        survivors = self.alive[lanes].sum(axis=1)
        phases = max(math.ceil(math.log2(len(self.pool))), 1)
        each = np.maximum(self.budget[lanes] // (survivors * phases), 1)
        return np.where(survivors > 1, each, 0.0)[:, None]

    def choose(self, context: Context, allowed: Bools) -> Ints:
        tokens = np.where(context.remaining >= UNKNOWN_BUDGET, self.assumed, context.remaining)
        self.budget[:] = np.where(self.budget == 0, self.share * tokens, self.budget)
        waiting = self.alive & (self.in_phase < self.quota(np.arange(self.lanes)))
        # those waiting tie, so that pool order plays each of them in one block
        index = np.where(waiting, 0.0, self.total / np.maximum(self.n, 1))
        return best(index, prefer(waiting, prefer(self.alive, allowed)))

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        self.n[rounds.lane, rounds.arm] += 1
        self.total[rounds.lane, rounds.arm] += reward
        self.in_phase[rounds.lane, rounds.arm] += 1
        spent = self.in_phase[rounds.lane].sum(axis=1, keepdims=True)
        due = self.quota(rounds.lane) * self.alive[rounds.lane].sum(axis=1, keepdims=True)
        self._halve(rounds.lane[((due > 0) & (spent >= due))[:, 0]])

    def _halve(self, lanes: Ints) -> None:
        worth = np.where(self.alive[lanes], self.total[lanes] / np.maximum(self.n[lanes], 1), -np.inf)
        rank = np.argsort(np.argsort(-worth, axis=1, kind="stable"), axis=1)
        self.alive[lanes] = rank < (self.alive[lanes].sum(axis=1, keepdims=True) + 1) // 2
        self.in_phase[lanes] = 0


class ExploreThenCommit(Policy):
    """Plays every arm ``pulls`` rounds, then the arm whose mean over those rounds was the largest, for good.

    Robbins 1952; Lattimore and Szepesvari 2020, chapter 6. An arm that becomes available later is explored then.
    """

    def __init__(self, pulls: int = 3, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.pulls = within("pulls", pulls, 1)

    def allocate(self, lanes: int, arms: int) -> None:
        self.n = np.zeros((lanes, arms))
        self.total = np.zeros((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        self.n[lanes], self.total[lanes] = 0, 0

    def choose(self, context: Context, allowed: Bools) -> Ints:
        exploring = self.n < self.pulls
        return best(np.where(exploring, 0.0, self.total), prefer(exploring, allowed))

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        counted = self.n[rounds.lane, rounds.arm] < self.pulls
        lane, arm = rounds.lane[counted], rounds.arm[counted]
        self.n[lane, arm] += 1
        self.total[lane, arm] += reward[counted]


class EpsilonGreedy(IndexPolicy):
    """Epsilon-greedy: with probability ``epsilon`` any allowed arm, else the one with the largest mean.

    Sutton and Barto 2018, section 2.2. Every arm is tried once first.
    """

    def __init__(self, epsilon: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.epsilon = within("epsilon", epsilon, 0, 1)

    def index(self, context: Context) -> Floats:
        return self.mean

    def choose(self, context: Context, allowed: Bools) -> Ints:
        noise = self.noise.uniform(2)
        anything = draw(allowed.astype(np.float64), noise[:, 1])
        return np.where(noise[:, 0] < self.epsilon, anything, super().choose(context, allowed))
