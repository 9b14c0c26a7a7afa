"""Bandits that switch seldom: they play an arm in blocks. A block ends early when its arm is not available."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import TINY, IndexPolicy, Policy, within
from metasd.policies.drawing import draw


class UCB2(IndexPolicy):
    """UCB2: the arm with the largest index is played tau(r + 1) - tau(r) rounds, tau(r) = ceil((1 + alpha)^r).

    index = mean + sqrt((1 + alpha) ln(e t / tau(r)) / (2 tau(r))), r the blocks the arm has had (Auer, Cesa-Bianchi,
    Fischer 2002, figure 2). O(log t) switches. A block of length 0 by rounding is played for 1 round; one that is cut
    short because the arm has no proposal is resumed when the arm is chosen again.
    """

    def __init__(self, alpha: float = 0.5, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.alpha = within("alpha", alpha, TINY)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.blocks = np.zeros((lanes, arms))
        self.arm = np.zeros(lanes, np.int64)
        self.left = np.zeros((lanes, arms))  # rounds left of the block each arm is in

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.blocks[lanes], self.arm[lanes], self.left[lanes] = 0, 0, 0

    def tau(self, blocks: Floats) -> Floats:
        """Rounds that an arm has had after ``blocks`` blocks."""
        return np.ceil((1 + self.alpha) ** blocks)

    def index(self, context: Context) -> Floats:
        tau = self.tau(self.blocks)
        spread = np.maximum(1 + self.log_t - np.log(tau), 0)  # ln(e t / tau); t >= tau but for rounding
        return self.mean + np.sqrt((1 + self.alpha) * spread / (2 * tau))

    def choose(self, context: Context, allowed: Bools) -> Ints:
        lanes = np.arange(self.lanes)
        over = (self.left[lanes, self.arm] <= 0) | ~allowed[lanes, self.arm]
        self.arm[:] = np.where(over, super().choose(context, allowed), self.arm)
        had, tried = self.blocks[lanes, self.arm], self.n[lanes, self.arm] > 0
        new = self.left[lanes, self.arm] <= 0
        length = np.where(tried, self.tau(had + 1) - self.tau(had), 1)
        self.left[lanes, self.arm] = np.where(new, np.maximum(length, 1), self.left[lanes, self.arm])
        self.blocks[lanes, self.arm] += new & tried
        return self.arm.copy()

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, reward)
        self.left[rounds.lane, rounds.arm] -= 1


class TsallisSwitch(Policy):
    """Tsallis-INF in growing blocks, for a price on every switch.

    After Rouyer, Seldin, Cesa-Bianchi 2021 (block lengths and rates of their order; the constants are this project's):
    block m lasts max(ceil(a_m), 1) rounds, a_m = 3/2 price sqrt(m / K), with one arm drawn from
        p_i = 4 (eta_m (L_i - x))^-2, x such that they sum to 1 (Zimmert and Seldin 2021),
    eta_m = 2 sqrt(2 / m) / (a_m + 1), L_i the losses of i's blocks, each over its p. Probabilities are taken over the
    allowed arms.

    price: what one switch costs, in rounds of the largest loss (loss = 1 - reward).
    """

    unit_reward: ClassVar[bool] = True
    NEWTON = 16  # steps; the first ones grow 1.5 times, the last ones double the correct digits: enough for K = 1000

    def __init__(self, price: float = 0.5, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.price = within("price", price, 0)

    def allocate(self, lanes: int, arms: int) -> None:
        self.loss = np.zeros((lanes, arms))
        self.block = np.zeros(lanes)  # blocks begun
        self.left = np.zeros(lanes)
        self.in_block = np.zeros(lanes)  # loss so far in this block
        self.arm = np.zeros(lanes, np.int64)
        self.p = np.ones(lanes)

    def clear(self, lanes: Ints) -> None:
        self.loss[lanes], self.block[lanes], self.left[lanes], self.in_block[lanes] = 0, 0, 0, 0
        self.arm[lanes], self.p[lanes] = 0, 1

    def choose(self, context: Context, allowed: Bools) -> Ints:
        lanes, uniform = np.arange(self.lanes), self.noise.uniform()[:, 0]
        new = (self.left <= 0) | ~allowed[lanes, self.arm]
        self.loss[lanes, self.arm] += np.where(new, self.in_block / self.p, 0.0)
        self.in_block[new] = 0
        self.block += new
        growth = 1.5 * self.price * np.sqrt(np.maximum(self.block, 1) / allowed.shape[1])
        rate = 2 * np.sqrt(2 / np.maximum(self.block, 1)) / (growth + 1)
        p = tsallis(self.loss[new], allowed[new], rate[new])
        self.arm[new] = draw(p, uniform[new])
        self.p[new] = p[np.arange(len(p)), self.arm[new]]
        self.left[new] = np.maximum(np.ceil(growth[new]), 1)
        return self.arm.copy()

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        self.in_block[rounds.lane] += 1 - reward
        self.left[rounds.lane] -= 1


def tsallis(loss: Floats, allowed: Bools, rate: Floats) -> Floats:
    """[B, K] p_i = 4 / (rate (loss_i - x))^2 over the allowed arms; x, by Newton's method, makes each row sum to 1."""
    rate = rate[:, None]
    losses = np.where(allowed, loss, np.inf)
    x = losses.min(axis=1, keepdims=True) - 2 / rate  # here the smallest loss alone has p = 1
    for _ in range(TsallisSwitch.NEWTON):
        p = 4 / (rate * (losses - x)) ** 2
        x -= (p.sum(axis=1, keepdims=True) - 1) / (rate * (p * np.sqrt(p)).sum(axis=1, keepdims=True))
    p = 4 / (rate * (losses - x)) ** 2
    return p / p.sum(axis=1, keepdims=True)
