"""Full-information policies: every drafter is judged on the committed text, whichever of them was played.

``Revealed.agreement`` brings, for each newly committed position, the chance that each drafter's proposal there is
accepted. The loss of a draft that begins at position s needs the positions s .. s + W - 1, so it is known, for all
arms at once, when the frontier has passed them: the honest delay. No length cut off at the frontier is ever used.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.noise import Keys
from metasd.core.records import Bools, Context, Floats, Ints, Revealed
from metasd.policies.base import Policy, within
from metasd.policies.drawing import draw, softmax


class FullInformation(Policy):
    """Turns agreements into losses of whole drafts, W positions late, and hands them to ``absorb``.

    score: "length" (W = G, the longest draft length): loss = 1 - (1 + g_1 + g_1 g_2 + .. + g_1 .. g_l) / (G + 1),
        l the arm's draft length and g_j the agreement at the j-th position of the draft, 0 without a proposal;
        "acceptance" (W = 1): loss = 1 - g_1.
    """

    feedback: ClassVar[Literal["bandit", "full"]] = "full"
    scope: ClassVar[Literal["free", "all"]] = "all"

    def __init__(self, score: str = "length", mask: bool = True) -> None:
        super().__init__("block_efficiency", mask)  # not learned from: only what is revealed is
        if score not in ("length", "acceptance"):
            raise UsageError(f"score {score!r} is unknown; use length or acceptance")
        self.score = score

    def allocate(self, lanes: int, arms: int) -> None:
        self._window = max(self.pool.max_draft_length, 1) if self.score == "length" else 1
        self._own = 1.0 if self.score == "length" else 0.0  # the target's own token counts in a length
        self.seen = np.zeros(lanes, np.int64)
        self.reach = np.ones((lanes, self._window, max(len(self.pool.drafters), 1)))
        self.worth = np.zeros((lanes, self._window, arms))

    def begin(self, lanes: Ints, keys: Keys) -> None:
        super().begin(lanes, keys)
        self.seen[lanes] = 0  # drafts that began in the text before are never completed

    def observe(self, revealed: Revealed) -> None:
        ahead = revealed.position - self.seen[revealed.lane]
        agreement = np.nan_to_num(revealed.agreement, nan=0.0)
        for step in range(int(ahead.max(initial=-1)) + 1):
            rows = ahead == step
            self._see(revealed.lane[rows], agreement[rows])

    def _see(self, lanes: Ints, agreement: Floats) -> None:
        """One more committed position on each of ``lanes``; slot s % W holds the draft that begins at s."""
        rows, seen = np.arange(len(lanes)), self.seen[lanes]
        reach, worth = self.reach[lanes], self.worth[lanes]
        reach[rows, seen % self._window], worth[rows, seen % self._window] = 1.0, self._own
        reach *= agreement[:, None, :]
        age = (seen[:, None] - np.arange(self._window)) % self._window  # [n, W] tokens into each draft
        drafting = age[:, :, None] < self.pool.draft_length
        worth += np.where(drafting, reach[:, :, self.pool.drafter_of], 0.0)
        self.reach[lanes], self.worth[lanes], self.seen[lanes] = reach, worth, seen + 1
        complete = seen + 1 >= self._window
        oldest = worth[rows, (seen + 1) % self._window][complete]
        self.absorb(lanes[complete], 1 - oldest / (self._window + self._own))

    @abstractmethod
    def absorb(self, lanes: Ints, loss: Floats) -> None:
        """Learn ``loss`` [n, K], one row for each of ``lanes``."""

    def choose(self, context: Context, allowed: Bools) -> Ints:
        return draw(softmax(self.log_weights(), allowed), self.noise.uniform()[:, 0])

    @abstractmethod
    def log_weights(self) -> Floats:
        """[B, K] ln of the weights, up to a constant."""


class HedgeSpec(FullInformation):
    """HedgeSpec: Hedge or NormalHedge on every drafter's expected length (arXiv 2510.20064).

    The paper's g is 1 - TV(p, q) at each position; the agreement with the committed token, used here, has that mean.
    As published it knows no availability: mask is off unless asked for.

    weights: "hedge": w ~ exp(-eta_t L), L the summed losses, eta_t = sqrt(8 ln K / t) after t losses (Cesa-Bianchi
        and Lugosi 2006, Theorem 2.3); "normalhedge": w ~ R+ / c exp(R+^2 / (2 c)), R+ the positive part of the regret
        to each arm, c such that the mean of exp(R+^2 / (2 c)) is e, uniform while no regret is positive (Chaudhuri,
        Freund, Hsu 2009).
    """

    def __init__(self, weights: str = "hedge", score: str = "length", mask: bool = False) -> None:
        super().__init__(score, mask)
        if weights not in ("hedge", "normalhedge"):
            raise UsageError(f"weights {weights!r} is unknown; use hedge or normalhedge")
        self.weights = weights

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.t = np.zeros(lanes)
        self.loss = np.zeros((lanes, arms))
        self.own_loss = np.zeros(lanes)  # of the mixture in play when each loss arrived
        self.p = np.full((lanes, arms), 1 / arms)

    def clear(self, lanes: Ints) -> None:
        self.t[lanes], self.loss[lanes], self.own_loss[lanes] = 0, 0, 0
        self.p[lanes] = 1 / self.p.shape[1]

    def absorb(self, lanes: Ints, loss: Floats) -> None:
        self.own_loss[lanes] += (self.p[lanes] * loss).sum(axis=1)
        self.loss[lanes] += loss
        self.t[lanes] += 1

    def log_weights(self) -> Floats:
        if self.weights == "normalhedge":
            weights = normal_hedge(self.own_loss[:, None] - self.loss)
        else:
            rate = np.sqrt(8 * math.log(self.loss.shape[1]) / np.maximum(self.t, 1))
            weights = -rate[:, None] * self.loss
        self.p[:] = softmax(weights, np.ones_like(weights, dtype=bool))
        return weights


def normal_hedge(regret: Floats) -> Floats:
    """[n, K] ln of NormalHedge's weights for ``regret`` [n, K]; -inf for weight 0, all 0 where none is positive."""
    square = np.maximum(regret, 0.0) ** 2
    top = square.max(axis=1, keepdims=True)
    some = top > 0
    high = np.where(some, top / 2, 1.0)
    low = high / (1 + math.log(regret.shape[1]))  # at ``low`` the largest term alone is e K, at ``high`` none exceeds e
    for _ in range(40):
        c = (low + high) / 2
        above = np.exp(square / (2 * c)).mean(axis=1, keepdims=True) > math.e
        low, high = np.where(above, c, low), np.where(above, high, c)
    weight = np.log(np.sqrt(square), where=square > 0, out=np.full_like(square, -np.inf)) + square / (2 * high)
    return np.where(some, weight, 0.0)


class FixedShare(FullInformation):
    """Fixed-Share: Hedge that tracks a best arm which changes (Herbster and Warmuth 1998).

    w <- w exp(-rate loss), normalised; then w <- (1 - share) w + share / K.
    """

    def __init__(self, rate: float = 1.0, share: float = 0.02, score: str = "length", mask: bool = True) -> None:
        super().__init__(score, mask)
        self.rate, self.share = within("rate", rate, 0), within("share", share, 0, 1)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.w = np.full((lanes, arms), 1 / arms)

    def clear(self, lanes: Ints) -> None:
        self.w[lanes] = 1 / self.w.shape[1]

    def absorb(self, lanes: Ints, loss: Floats) -> None:
        w = self.w[lanes] * np.exp(-self.rate * loss)
        w /= w.sum(axis=1, keepdims=True)
        self.w[lanes] = (1 - self.share) * w + self.share / w.shape[1]

    def log_weights(self) -> Floats:
        return np.log(np.maximum(self.w, 1e-300))
