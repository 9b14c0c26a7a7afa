"""Policies that count seconds: they maximise tokens over seconds, a ratio of sums, never a mean of ratios."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.records import Bools, Context, Floats, Ints, Rounds, StopReason
from metasd.policies.base import TINY, IndexPolicy, best, unstalled, within


class Timed(IndexPolicy):
    """An index policy that knows what a round with each arm costs.

    Keeps ``n`` and ``total`` of emitted tokens, and of the same rounds the seconds of drafting and verifying (``work``)
    and of catch-up (``caught``), all [B, K]. Where costs are known, a stalled round counts as expected.

    stay: rounds that a drafter is expected to be kept once it has caught up. A catch-up is paid once, so a round bears
        1 / stay of it; at 1 the first drafter tried is hardly ever left, since every other one lags behind.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"cost"})

    def __init__(self, stay: float = 10.0, mask: bool = True) -> None:
        super().__init__("tokens", mask)
        self.stay = within("stay", stay, 1)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.work = np.zeros((lanes, arms))
        self.caught = np.zeros((lanes, arms))
        self.asked = np.full((lanes, arms), np.inf)  # what was expected at the last choice, inf where nothing was

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.work[lanes], self.caught[lanes], self.asked[lanes] = 0, 0, np.inf

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, rounds.emitted.astype(np.float64))
        caught, seconds = rounds.catch_up_seconds, rounds.seconds
        if seconds is None or caught is None:
            raise UsageError("this policy counts seconds, and no clock is known; use another policy or record costs")
        expected = self.asked[rounds.lane, rounds.arm]
        self.work[rounds.lane, rounds.arm] += unstalled(seconds - caught, expected)
        self.caught[rounds.lane, rounds.arm] += caught

    def cost(self, context: Context) -> Floats:
        """[B, K] seconds that count for a round with each arm now; NaN if unknown.

        For an arm that was played, its mean work, plus the catch-up that the cost model expects now over ``stay``, or
        the mean catch-up it had where there is no model; for another, what the cost model expects.
        """
        expected = np.full(self.n.shape, np.nan) if context.cost is None else context.cost
        self.asked[...] = np.where(np.isnan(expected), np.inf, expected)
        n = np.maximum(self.n, 1)
        work = self.work / n
        behind = np.maximum(expected - work, 0) / self.stay
        return np.where(self.n > 0, work + np.where(np.isnan(behind), self.caught / n, behind), expected)


class RatioUCB(Timed):
    """Tokens over seconds: the arm that gains most over the lane's own rate, with a confidence bound on its tokens.

    index = mean of Y + beta (G + 1) sqrt(2 ln t / n) - rate * cost, Y the tokens emitted, cost as ``Timed.cost`` says
    (catch-up included), rate = sum of tokens / sum of seconds of all rounds of the lane so far. Maximising
    Y - rate * cost maximises the ratio of sums (Dinkelbach 1967; renewal reward); unlike a ratio for each arm it also
    chooses well where arms come and go.
    """

    def __init__(self, beta: float = 0.1, stay: float = 10.0, mask: bool = True) -> None:
        super().__init__(stay, mask)
        self.beta = within("beta", beta, 0)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.spent = np.zeros(lanes)  # seconds of all rounds, those without a draft too
        self.gained = np.zeros(lanes)  # their tokens

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.spent[lanes], self.gained[lanes] = 0, 0

    def update(self, rounds: Rounds) -> None:
        if rounds.seconds is not None:
            self.spent[rounds.lane] += unstalled(rounds.seconds, self.asked[rounds.lane, rounds.arm])
            self.gained[rounds.lane] += rounds.emitted
        super().update(rounds)

    def index(self, context: Context) -> Floats:
        bonus = self.beta * (self.pool.max_draft_length + 1) * np.sqrt(2 * self.log_t / self.n)
        rate = np.where(self.spent > 0, self.gained / np.maximum(self.spent, 1e-300), 0.0)
        return self.mean + bonus - rate[:, None] * self.cost(context)


class Goodput(Timed):
    """Goodput: the arm with the most expected tokens per second, (1 - a^(l + 1)) / (1 - a) / cost; plain has l = 0.

    SmartSpec / TurboSpec (arXiv 2406.14066): a is the drafter's acceptance rate of one token, a discounted ratio of
    accepted to judged tokens; l the arm's draft length, or what the remaining budget leaves of it.

    decay: weight kept of the past after each round of the drafter. prior: a before the first round, as strong as
    ``weight`` judged tokens; optimistic, so that every drafter gets its chance.
    """

    def __init__(
        self, decay: float = 0.95, prior: float = 0.8, weight: float = 2.0, stay: float = 10.0, mask: bool = True
    ) -> None:
        super().__init__(stay, mask)
        self.decay, self.prior = within("decay", decay, 0, 1), within("prior", prior, 0, 1)
        self.weight = within("weight", weight, TINY)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        drafters = max(len(self.pool.drafters), 1)
        self.accepted = np.zeros((lanes, drafters))
        self.rejected = np.zeros((lanes, drafters))

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.accepted[lanes], self.rejected[lanes] = 0, 0

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, reward)
        drafting = ~self.pool.plain[rounds.arm]
        lane, drafter = rounds.lane[drafting], self.pool.drafter_of[rounds.arm[drafting]]
        # unmasked, a round without a draft counts as a token rejected
        rejected = ((rounds.stop == StopReason.REJECTED) | (rounds.drafted == 0))[drafting]
        for sums, new in ((self.accepted, rounds.accepted[drafting]), (self.rejected, rejected)):
            sums[lane, drafter] = self.decay * sums[lane, drafter] + new

    def index(self, context: Context) -> Floats:
        right = self.accepted + self.prior * self.weight
        rate = np.minimum(right / (self.accepted + self.rejected + self.weight), 0.9999)[:, self.pool.drafter_of]
        length = np.minimum(self.pool.draft_length, np.maximum(context.remaining - 1, 0)[:, None])
        return (1 - rate ** (length + 1)) / (1 - rate) / self.cost(context)

    def choose(self, context: Context, allowed: Bools) -> Ints:
        index = self.index(context)
        return best(np.where(np.isnan(index), np.inf, index), allowed)
