"""Whether and how deep to ask a model drafter, given the tree that costs nothing to grow.

A model's token at depth j adds its chance to stand there, less what the free tree covers: the gain of g tokens is
sum over j < g of S_j (1 - F_j), S its survival and F_j the chance that the free tree is alive at depth j + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metasd.core.records import Floats
from metasd.policies.planner.cells import DEEPEST, depth_class

WIDTH = 8
HOPE = 0.85
"""Logit of a model's first tokens before anything was learned: seven in ten."""
OPTIMISM = 0.5
"""Standard deviations of the logit by which survival is overrated, in the yes or no of asking alone."""


def cold_weights() -> Floats:
    """[WIDTH] weights before anything was learned."""
    weights = np.zeros(WIDTH)
    weights[: DEEPEST + 1] = HOPE
    return weights


def alive(values: Sequence[float], depths: Sequence[int], longest: int) -> list[float]:
    """[longest] chance that a free node stands at depth 1, 2, ..: F_j."""
    chance = [0.0] * longest
    for value, depth in zip(values, depths, strict=True):
        if depth < longest:
            chance[depth] += value
    return [min(c, 1.0) for c in chance]


def rows(free: Sequence[float]) -> Floats:
    """[longest, WIDTH] what is known of a model's token at each depth: how deep, and how the free tree fares."""
    x = np.zeros((len(free), WIDTH))
    for j in range(len(free)):
        x[j, depth_class(j)] = 1.0
    x[:, 4], x[:, 5], x[:, 6] = free, free[0], sum(free) / 4
    x[:, 7] = free[0] == 0
    return x


def gains(x: Floats, free: Sequence[float], weights: Floats, moments: Floats | None) -> tuple[Floats, Floats]:
    """Tokens gained by 1, 2, .. tokens of the model [longest], and the chance of each given those before it.

    moments: of the regression, for the optimistic gain; None for the expected one.
    """
    logit = x @ weights
    if moments is not None:
        spread = (x * np.linalg.solve(moments, x.T).T).sum(axis=1)
        logit = logit + OPTIMISM * np.sqrt(np.maximum(spread, 0.0))
    chance = 1 / (1 + np.exp(-logit))
    return np.cumsum(np.cumprod(chance) * (1 - np.asarray(free))), chance
