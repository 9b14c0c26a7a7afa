"""Contextual bandits, linear in the signals."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.records import Bools, Context, Floats, Ints, Rounds
from metasd.core.signals import SIGNALS, F
from metasd.policies.base import TINY, IndexPolicy, within

# Counts are clipped at these values and then taken as logarithms, so that no feature runs away in a long text.
CAPS = {"match_length": 64.0, "proposal_length": 32.0, "depth": 32.0, "failures": 8.0, "run": 32.0}
_CAP = np.array([CAPS.get(name, 1.0) for name in SIGNALS])


def features(signals: Floats) -> Floats:
    """[..., F + 1] in [0, 1]: each signal clipped at its cap and scaled, NaN as 0, and a constant 1 at the end."""
    clipped = np.clip(np.nan_to_num(np.asarray(signals, np.float64), nan=0.0), 0.0, _CAP)
    scaled = np.where(_CAP > 1, np.log1p(clipped) / np.log1p(_CAP), clipped)
    return np.concatenate([scaled, np.ones((*scaled.shape[:-1], 1))], axis=-1)


class LinUCB(IndexPolicy):
    """LinUCB, disjoint, on the signals of each arm's own drafter: theta.x + alpha sqrt(x A^-1 x), theta = A^-1 b.

    Li, Chu, Langford, Schapire 2010, Algorithm 1: A = ridge I + sum of x x', b = sum of reward x. A^-1 is kept and
    updated by the Sherman-Morrison formula. Every arm is tried once first, since at a zero prior an arm never tried
    looks worthless. What it learns is worth keeping between texts: its default is reset=never.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"signals"})
    default_reset = "never"

    def __init__(self, alpha: float = 0.15, ridge: float = 1.0, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.alpha, self.ridge = within("alpha", alpha, 0), within("ridge", ridge, TINY)

    def allocate(self, lanes: int, arms: int) -> None:
        super().allocate(lanes, arms)
        self.inverse = np.zeros((lanes, arms, F + 1, F + 1))
        self.b = np.zeros((lanes, arms, F + 1))
        self.x = np.zeros((lanes, arms, F + 1))  # features of the round in play

    def clear(self, lanes: Ints) -> None:
        super().clear(lanes)
        self.inverse[lanes], self.b[lanes], self.x[lanes] = np.eye(F + 1) / self.ridge, 0, 0

    def choose(self, context: Context, allowed: Bools) -> Ints:
        if context.signals is None:
            raise UsageError("linucb needs signals, which are not recorded here; use another policy")
        if context.signals.shape[1]:
            own = features(context.signals)[:, self.pool.drafter_of]
            self.x[:] = np.where(self.pool.plain[:, None], np.eye(F + 1)[-1], own)
        else:
            self.x[:] = np.eye(F + 1)[-1]
        return super().choose(context, allowed)

    def index(self, context: Context) -> Floats:
        column = self.x[..., None]
        solved = np.matmul(self.inverse, column)[..., 0]
        return (self.b * solved).sum(axis=-1) + self.alpha * np.sqrt((self.x * solved).sum(axis=-1))

    def learn(self, rounds: Rounds, reward: Floats) -> None:
        super().learn(rounds, reward)
        played = rounds.lane, rounds.arm
        x, inverse = self.x[played], self.inverse[played]
        solved = np.matmul(inverse, x[..., None])[..., 0]
        scale = 1 + (x * solved).sum(axis=1)
        self.inverse[played] = inverse - solved[:, :, None] * solved[:, None, :] / scale[:, None, None]
        self.b[played] += reward[:, None] * x
