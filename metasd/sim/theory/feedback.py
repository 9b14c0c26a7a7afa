"""Block divergence against block efficiency where acceptance is i.i.d.: moments and the strength of the feedback."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metasd.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of a reward of one round, and how often it is exactly 0."""

    mean: float
    variance: float
    zeros: float


def moments(alpha: float, draft_length: int, reward: str, *, concentration: float | None = None) -> Moments:
    """Of a drafter with acceptance rate ``alpha`` in every position, all positions independent (docs/theory.md, A1-A3).

    block_efficiency: accepted / G with P(accepted >= d) = alpha^d, so that E[a^2] = sum (2 d - 1) alpha^d.
    block_divergence: the mean of G independent overlaps of mean alpha and variance alpha (1 - alpha) / (1 + c), c the
    ``concentration`` of their Beta law; None: overlaps are 0 or 1, as at temperature 0, and c = 0.

    Raises UsageError for another reward, or values out of range.
    """
    if not 0 <= alpha <= 1 or draft_length < 1:
        raise UsageError(f"alpha {alpha}, draft length {draft_length}: use 0 to 1, and 1 or more")
    G = draft_length
    if reward == "block_divergence":
        if concentration is None:
            return Moments(alpha, alpha * (1 - alpha) / G, (1 - alpha) ** G)
        return Moments(alpha, alpha * (1 - alpha) / (1 + concentration) / G, float(alpha == 0))
    if reward != "block_efficiency":
        raise UsageError(f"reward {reward!r} is neither block_divergence nor block_efficiency")
    depth = np.arange(1, G + 1)
    powers = alpha**depth
    mean = float(powers.sum())
    second = float(((2 * depth - 1) * powers).sum())
    return Moments(mean / G, (second - mean**2) / G**2, 1 - alpha)


def feedback_ratio(worse: Moments, best: Moments) -> float:
    """Squared gap over the larger variance: how much one round says about which of two arms is better.

    R of arXiv 2604.05417 as its arXiv version has it (larger is better). Infinite where neither varies.
    """
    gap, noise = best.mean - worse.mean, max(worse.variance, best.variance)
    return gap**2 / noise if noise > 0 else float("inf") if gap else 0.0
