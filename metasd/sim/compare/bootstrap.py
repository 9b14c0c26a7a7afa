"""Intervals for quantities that are sums over prompts: the bootstrap clustered by prompt.

A prompt is a cluster: all its seeds, and all policies that played it, are resampled together. Seeds of one prompt are
not independent data, and a difference between two policies on the same prompts is far sharper than two intervals side
by side. Knows arrays only, neither policies nor traces.

Every statistic here is a function of column sums, so one matrix of resampling weights serves all of them, and two
statistics of one ``Clusters`` see the same resamples: paired differences come out of it for free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Values = NDArray[np.float64]
Statistic = Callable[[Values], Values]
"""From column sums [..., m] to one number [...]."""

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; ``low`` and ``high`` are None where no spread can be known (fewer than 2 prompts)."""

    value: float
    low: float | None
    high: float | None
    replicates: Values  # [R] the statistic on every resample

    @property
    def interval(self) -> list[float] | None:
        """[low, high] to six digits (resampling has no more), None where unknown: what the JSON holds."""
        return None if self.low is None or self.high is None else [float(f"{v:.6g}") for v in (self.low, self.high)]

    def p_value(self) -> float | None:
        """Two-sided bootstrap p-value of "the true value is 0", at least 1 / (R + 1); None where no spread is known."""
        if self.low is None:
            return None
        below = (self.replicates <= 0).sum() + 1
        above = (self.replicates >= 0).sum() + 1
        return float(min(1.0, 2 * min(below, above) / (len(self.replicates) + 1)))


class Clusters:
    """P prompts to resample, within strata (traces) if there are several.

    Attributes:
        weights: [R, P] how often each prompt is in each resample.
    """

    def __init__(self, strata: Sequence[Any] | NDArray[Any], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        labels = np.unique(np.asarray(strata), return_inverse=True)[1]
        rng = np.random.default_rng(seed)
        self.size = len(labels)
        self.weights: Values = np.zeros((resamples, self.size))
        for stratum in range(labels.max(initial=-1) + 1):
            members = np.flatnonzero(labels == stratum)
            even = np.full(len(members), 1 / len(members))
            self.weights[:, members] = rng.multinomial(len(members), even, size=resamples)

    def estimate(self, columns: Values, statistic: Statistic, *, confidence: float = CONFIDENCE) -> Estimate:
        """``statistic`` of the sums of ``columns`` [P, m], with its bias-corrected accelerated (BCa) interval.

        Source: Efron 1987, "Better bootstrap confidence intervals"; acceleration from the jackknife over prompts.
        """
        total = columns.sum(axis=0)
        value = float(statistic(total))
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = statistic(self.weights @ columns)
            left_out = statistic(total - columns)
        replicates = replicates[np.isfinite(replicates)]
        if self.size < 2 or len(replicates) == 0 or not np.isfinite(value):
            return Estimate(value, None, None, np.full(1, value))
        low, high = _bca(value, replicates, left_out[np.isfinite(left_out)], confidence)
        return Estimate(value, low, high, replicates)

    def band(self, curves: Values, *, confidence: float = CONFIDENCE) -> tuple[Values, Values, Values]:
        """Mean [X] of ``curves`` [P, X] over prompts and a pointwise percentile band (low, high)."""
        mean = curves.mean(axis=0)
        tail = (1 - confidence) / 2
        low, high = np.quantile(self.weights @ curves / self.size, [tail, 1 - tail], axis=0)
        return mean, low, high


def _bca(value: float, replicates: Values, left_out: Values, confidence: float) -> tuple[float, float]:
    """The BCa interval. Ties with ``value`` count half, so a statistic that never varies gets [value, value]."""
    R = len(replicates)
    below = (replicates < value).sum() + 0.5 * (replicates == value).sum()
    bias = ndtri(np.clip(below / R, 0.5 / R, 1 - 0.5 / R))
    pull = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = (pull**2).sum()
    acceleration = (pull**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    levels = ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)


def total(sums: Values) -> Values:
    """The sum of the only column."""
    return sums[..., 0]


def ratio(sums: Values) -> Values:
    """Column 0 over column 1: a ratio of sums, never a mean of ratios."""
    return sums[..., 0] / sums[..., 1]


def ratio_difference(sums: Values) -> Values:
    """Column 0 over column 1, minus column 2 over column 3."""
    return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


def mean_of_ratios(sums: Values) -> Values:
    """The plain mean of several ratios of sums, columns (numerator, denominator) in turn: one ratio a trace."""
    return (sums[..., 0::2] / sums[..., 1::2]).mean(axis=-1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment for several comparisons (Holm 1979); unknown ones stay None."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        running = max(running, min(1.0, p * (len(known) - rank)))
        adjusted[i] = running
    return adjusted
