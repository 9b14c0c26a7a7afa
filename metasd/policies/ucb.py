"""Upper confidence bounds for rewards in [0, 1] that do not drift.

In every index ``n`` is an arm's trials, ``t`` the trials of all arms so far on the lane, ``mean`` the mean reward.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from metasd.core.records import Context, Floats, Ints, Rounds
from metasd.policies.base import TINY, IndexPolicy, emitted_only, within
from metasd.policies.drawing import row_sum


class MetaSDUCB(IndexPolicy):
    """MetaSD-UCB: mean + beta sqrt(2 ln t / n), t the trials so far (Kim, Jung, Yun, arXiv 2604.05417, Alg. 2).

    beta: width of the confidence bound. At 1 the choice is close to random over a few hundred rounds; 0.1 was best of
        a sweep on the reference trace (docs/benchmarks.md).
    """

    def __init__(self, beta: float = 0.1, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.beta = within("beta", beta, 0)

    def index(self, context: Context) -> Floats:
        return self.mean + self.beta * np.sqrt(2 * self.log_t / self.n)


class UCB1(IndexPolicy):
    """UCB1: mean + sqrt(2 ln t / n) (Auer, Cesa-Bianchi, Fischer 2002, figure 1)."""

    def index(self, context: Context) -> Floats:
        return self.mean + np.sqrt(2 * self.log_t / self.n)


class SecondMoment(IndexPolicy):
    """An index policy that also keeps the sum of squared rewards, for the variance."""

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.squares = np.zeros((lanes, arms))

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.squares[lanes] = 0

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, reward)
        self.squares[rounds.lane, rounds.arm] += reward**2

    @property
    def variance(self) -> Floats:
        """[B, K] mean of squares minus square of the mean."""
        return np.maximum(self.squares / np.maximum(self.n, 1) - self.mean**2, 0.0)


class UCBTuned(SecondMoment):
    """UCB-tuned: mean + sqrt(ln t / n * min(1/4, V)), V = variance + sqrt(2 ln t / n) (Auer et al. 2002, section 4)."""

    def index(self, context: Context) -> Floats:
        share = self.log_t / self.n
        return self.mean + np.sqrt(share * np.minimum(0.25, self.variance + np.sqrt(2 * share)))


class UCBV(SecondMoment):
    """UCB-V: mean + sqrt(2 V E / n) + 3 c E / n, V the variance and E = zeta ln t (Audibert, Munos, Szepesvari 2009).

    zeta, c: the paper's; its logarithmic bound needs zeta > 1 with c = 1.
    """

    def __init__(self, zeta: float = 1.2, c: float = 1.0, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.zeta, self.c = within("zeta", zeta, 0), within("c", c, 0)

    def index(self, context: Context) -> Floats:
        share = self.zeta * self.log_t / self.n
        return self.mean + np.sqrt(2 * self.variance * share) + 3 * self.c * share


def bernoulli_kl(p: Floats, q: Floats) -> Floats:
    """KL divergence of Bernoulli(p) from Bernoulli(q), elementwise, with 0 ln 0 = 0."""
    eps = 1e-15
    p, q = np.clip(p, eps, 1 - eps), np.clip(q, eps, 1 - eps)
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


class KLUCB(IndexPolicy):
    """KL-UCB: the largest q with n kl(mean, q) <= ln t + c ln ln t (Garivier and Cappe 2011, Algorithm 1).

    kl is that of Bernoulli variables, valid for every reward in [0, 1]. c: 3 in the theorem, 0 advised in practice.
    """

    unit_reward: ClassVar[bool] = True
    STEPS = 40  # bisection: the interval ends below 1e-12

    def __init__(self, c: float = 0.0, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.c = within("c", c, 0)

    def index(self, context: Context) -> Floats:
        reach = (self.log_t + self.c * np.log(np.maximum(self.log_t, 1))) / self.n
        mean = np.clip(self.mean, 0.0, 1.0)
        low, high = mean.copy(), np.ones_like(mean)
        for _ in range(self.STEPS):
            middle = (low + high) / 2
            inside = bernoulli_kl(mean, middle) <= reach
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return low


class MOSS(IndexPolicy):
    """MOSS: mean + sqrt(max(ln(T / (K n)), 0) / n), T rounds in all (Audibert and Bubeck 2009).

    horizon: T; "none" takes the trials so far in its place, which needs no knowledge of the text's length.
    """

    def __init__(self, horizon: int | None = None, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.horizon = horizon if horizon is None else within("horizon", horizon, 1)

    def index(self, context: Context) -> Floats:
        horizon = row_sum(self.n) if self.horizon is None else float(self.horizon)
        excess = np.log(np.maximum(horizon / (len(self.pool) * self.n), 1))
        return self.mean + np.sqrt(excess / self.n)


class UCBSpec(IndexPolicy):
    """UCBSpec of BanditSpec: mean of Y, the tokens emitted, plus a radius that grows with L (arXiv 2505.15141).

    radius = L / 2 sqrt((1 + n) / n^2 (1 + 2 ln(K t^2 sqrt(1 + n) / delta))), L the pool's longest draft length, so
    that Y lies in [1, L + 1]. delta: 1/2 in the proof. As published it knows no availability: mask is off unless
    asked for.
    """

    def __init__(self, delta: float = 0.5, reward: str = "tokens", mask: bool = False) -> None:
        super().__init__(emitted_only("ucbspec", reward), mask)
        self.delta = within("delta", delta, TINY, 1)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, rounds.emitted.astype(np.float64))

    def index(self, context: Context) -> Floats:
        count = len(self.pool) * np.sqrt(1 + self.n) / self.delta
        inner = 1 + 2 * (np.log(count) + 2 * self.log_t)
        return self.mean + self.pool.max_draft_length / 2 * np.sqrt((1 + self.n) / self.n**2 * inner)
