"""Bandits for rewards that drift: they forget, gradually, by a window, or when a change is detected."""

from __future__ import annotations

import numpy as np

from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.policies.base import TINY, IndexPolicy, within


def entropy(p: Floats) -> Floats:
    """Entropy of Bernoulli(p) in nats, elementwise; p is first clipped to [1e-15, 1 - 1e-15]."""
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


class DiscountedUCB(IndexPolicy):
    """Discounted UCB: mean and counts weigh a round that lies s rounds back by gamma^s.

    index = X / N + beta sqrt(2 ln(sum of N) / N), N and X the discounted counts and rewards (Garivier and Moulines
    2011, with B sqrt(xi) written as beta / sqrt(2)).
    """

    def __init__(self, gamma: float = 0.98, beta: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.gamma, self.beta = within("gamma", gamma, TINY, 1), within("beta", beta, 0)

    def index(self, context: Context) -> Floats:
        return self.total / self.n + self.beta * np.sqrt(2 * self.log_t / self.n)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        self.n[rounds.lane] *= self.gamma
        self.total[rounds.lane] *= self.gamma
        super().learn(rounds, reward)


class SlidingWindowUCB(IndexPolicy):
    """Sliding-window UCB: mean and counts over the last ``window`` rounds of the lane.

    index = mean + beta sqrt(2 ln(min(t, window)) / n), n the arm's rounds inside the window (Garivier and Moulines
    2011). An arm that has left the window is tried again.
    """

    def __init__(self, window: int = 50, beta: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.window, self.beta = within("window", window, 1), within("beta", beta, 0)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.t = np.zeros(lanes, np.int64)
        self.arms = np.zeros((lanes, self.window), np.int64)
        self.rewards = np.zeros((lanes, self.window))

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.t[lanes] = 0

    def index(self, context: Context) -> Floats:
        return self.total / self.n + self.beta * np.sqrt(2 * self.log_t / self.n)

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


class GLRUCB(IndexPolicy):
    """UCB restarted by a change detector, the Bernoulli generalised likelihood ratio (Besson et al. 2022, GLR-klUCB).

    After every round the rewards of the arm played, x_1 .. x_m, are split at each s; a change is found when
        max over s of s kl(mean x_1..s, mean) + (m - s) kl(mean x_s+1..m, mean) > ln(3 m sqrt(m) / delta),
    and the lane forgets all its arms (global restart). Every K / explore rounds each arm is played once, so that
    changes of idle arms are seen too. The index is MetaSD-UCB's.

    delta: larger finds changes sooner and raises more false alarms; the test is cautious where rewards vary less than
        Bernoulli ones of the same mean. memory: rewards kept of each arm, the newest; at least 2.
    """

    def __init__(
        self,
        beta: float = 0.05,
        delta: float = 0.5,
        explore: float = 0.05,
        memory: int = 64,
        reward: str = "auto",
        mask: bool = True,
    ) -> None:
        super().__init__(reward, mask)
        self.beta, self.delta = within("beta", beta, 0), within("delta", delta, TINY)
        self.explore, self.memory = within("explore", explore, TINY, 1), within("memory", memory, 2)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.history = np.zeros((lanes, arms, self.memory))  # newest last

    def index(self, context: Context) -> Floats:
        return self.mean + self.beta * np.sqrt(2 * self.log_t / self.n)

    def choose(self, context: Context, allowed: Bools) -> Ints:
        greedy = super().choose(context, allowed)
        arms = self.n.shape[1]
        turn = self.n.sum(axis=1).astype(np.int64) % int(arms / self.explore)
        forced = np.minimum(turn, arms - 1)
        due = (turn < arms) & allowed[np.arange(self.lanes), forced]
        return np.where(due, forced, greedy)

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, reward)
        played = rounds.lane, rounds.arm
        old = self.history[played]
        self.history[played] = np.concatenate([old[:, 1:], reward[:, None]], axis=1)
        parts = [slice(i, i + 256) for i in range(0, len(rounds), 256)]  # temporaries that stay in cache
        self.clear(rounds.lane[np.concatenate([self.changed(rounds.lane[p], rounds.arm[p]) for p in parts])])

    def changed(self, lane: Ints, arm: Ints) -> Bools:
        """[n] whether the kept rewards of ``arm`` on ``lane`` show a change."""
        kept = np.minimum(self.n[lane, arm], self.memory)[:, None]
        sums = np.cumsum(self.history[lane, arm][:, ::-1], axis=1)  # over the newest 1, 2, .. rewards
        new = np.arange(1, self.memory)[None, :]
        total = np.take_along_axis(sums, kept.astype(np.int64) - 1, axis=1)
        mean, after = total / kept, sums[:, :-1] / new
        before = (total - sums[:, :-1]) / np.maximum(kept - new, 1)
        ratio = kept * entropy(mean) - (kept - new) * entropy(before) - new * entropy(after)  # the two kl terms
        strongest = np.where(new < kept, ratio, 0.0).max(axis=1)
        return strongest > np.log(3 * kept[:, 0] ** 1.5 / self.delta)
