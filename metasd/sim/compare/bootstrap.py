"""Intervals and p-values for quantities that are sums over prompts, from one construction: the studentised bootstrap.

A prompt is a cluster: all its seeds, and all policies that played it, stay together. Seeds of one prompt are not
independent data, and a difference between two policies on the same prompts is far sharper than two intervals side by
side. For a policy that keeps what it learned the prompts of a run are linked, so the spread over runs is added.

The statistic is a function of column sums. Its error is the jackknife's; how far it can lie from the truth in units of
that error is asked of resampled prompts (Efron and Tibshirani 1993, section 12.5, with the symmetric limits of Hall
1992, section 3.6), or of Student's law from ``LARGE`` prompts on, so memory does not grow with prompts times resamples.
Below ``LEAST`` prompts no construction tried held its level: nothing is claimed. Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Values = NDArray[np.float64]
Statistic = Callable[[Values], tuple[Values, Values]]
"""From column sums [..., m] to the statistic [...] and its derivatives by the sums [..., m]."""

LEAST = 8
"""Prompts an interval needs."""
LARGE = 256
RESAMPLES = 1999
CONFIDENCE = 0.95
_ROUNDING = 1e-12  # an error below this share of what is summed is arithmetic, not spread


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its uncertainty.

    error: its standard error over prompts; None where no spread can be known (fewer than 2 prompts).
    halves: [R] half-widths, widest first: the interval that errs with probability k / (R + 1) is value +-
        halves[k - 1]. Empty where no interval can be trusted.
    """

    value: float
    error: float | None
    halves: Values

    def ends(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """The interval, None where withheld."""
        k = round((1 - confidence) * (len(self.halves) + 1))
        if k < 1 or not np.isfinite(half := self.halves[k - 1]):
            return None
        return self.value - float(half), self.value + float(half)

    @property
    def interval(self) -> list[float] | None:
        """``ends`` to six digits: what the JSON holds."""
        return self.within(-np.inf, np.inf)

    def within(self, least: float, most: float) -> list[float] | None:
        """``interval``, cut to what the quantity can be: no truth is lost by that, so its coverage stays."""
        ends = self.ends()
        return None if ends is None else [float(f"{min(max(v, least), most):.6g}") for v in ends]

    def p_value(self) -> float | None:
        """Two-sided p-value of "the true value is 0": the smallest error whose interval leaves 0 out.

        So p is at most 0.05 exactly where the 95 % interval excludes 0. At least 1 / (R + 1); None where withheld.
        """
        if not len(self.halves):
            return None
        return float((1 + (self.halves >= abs(self.value)).sum()) / (len(self.halves) + 1))


class Clusters:
    """P prompts to resample, within strata (traces) if there are several.

    resamples: R; the smallest p-value is 1 / (R + 1), so correction for many comparisons needs more of them.
    """

    def __init__(self, strata: Sequence[Any] | NDArray[Any], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self._stratum = np.unique(np.asarray(strata), return_inverse=True)[1]
        self._sizes = np.bincount(self._stratum)
        self.size, self.resamples = len(self._stratum), resamples
        self.missing = max(LEAST - self.size, 0)
        self._levels = np.arange(1, resamples + 1) / (resamples + 1)
        self._weights: Values = np.zeros((0, self.size))
        if self.size < LARGE and not self.missing:
            self._weights = np.zeros((resamples, self.size))  # how often each prompt is in each resample
            rng = np.random.default_rng(seed)
            for members in self._members():
                even = np.full(len(members), 1 / len(members))
                self._weights[:, members] = rng.multinomial(len(members), even, size=resamples)

    def estimate(self, columns: Values, statistic: Statistic, *, runs: Values | None = None) -> Estimate:
        """``statistic`` of the sums of ``columns`` [P, m].

        runs: [S, m] the sums of each independent run, where prompts of a run are linked; with fewer than 2 there is no
            interval. The two spreads add up.
        """
        total = columns.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value, slope = statistic(total)
            error = self._jackknife(columns, statistic)
        if self.size < 2 or self._sizes.min() < 2 or not (np.isfinite(value) and np.isfinite(error)):
            return Estimate(float(value), None, np.zeros(0))
        if error <= _ROUNDING * np.abs(slope * total).sum():
            error = 0.0
        if self.missing or (runs is not None and len(runs) < 2):
            return Estimate(float(value), error, np.zeros(0))
        halves = error * self._law(columns, statistic, float(value)) if error else np.zeros(self.resamples)
        if runs is not None:
            halves = np.hypot(halves, _over_runs(statistic(runs)[0]) * self._student(len(runs) - 1))
        return Estimate(float(value), error, halves)

    def band(self, curves: Values) -> tuple[Values, Values | None]:
        """Mean [X] of ``curves`` [P, X] over prompts and the half-width [X] of a pointwise 95 % band, None if
        withheld."""
        mean = curves.mean(axis=0)
        if self.missing:
            return mean, None
        error = curves.std(axis=0, ddof=1) / np.sqrt(self.size)
        k = round((1 - CONFIDENCE) * (self.resamples + 1))
        if not len(self._weights):
            return mean, error * self._student(self.size - 1)[k - 1]
        apart = curves - mean
        centre = self._weights @ apart / self.size
        squares = np.maximum(self._weights @ apart**2 / self.size - centre**2, 0)
        wide = _studentised(np.abs(centre), np.sqrt(squares / (self.size - 1)), error * _ROUNDING)
        return mean, np.where(error > 0, error * np.partition(wide, -k, axis=0)[-k], 0.0)

    def _members(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self._stratum == s) for s in range(len(self._sizes))]

    def _student(self, freedom: int) -> Values:
        """[R] quantiles of the absolute value of Student's t, largest first."""
        return np.asarray(stdtrit(freedom, 1 - self._levels / 2), np.float64)

    def _jackknife(self, columns: Values, statistic: Statistic) -> float:
        """The standard error of ``statistic``: one prompt left out at a time, its stratum keeping its weight."""
        n = self._sizes[self._stratum][:, None]
        sums = np.zeros((len(self._sizes), columns.shape[1]))
        np.add.at(sums, self._stratum, columns)
        left_out = columns.sum(axis=0) - (columns - (sums / self._sizes[:, None])[self._stratum]) * n / (n - 1)
        values = statistic(left_out)[0]
        means = np.bincount(self._stratum, weights=values) / self._sizes
        return float(np.sqrt(((values - means[self._stratum]) ** 2 * ((n - 1) / n)[:, 0]).sum()))

    def _law(self, columns: Values, statistic: Statistic, value: float) -> Values:
        """[R] how far from the truth ``statistic`` lies in units of its error, as an absolute value, farthest first."""
        if not len(self._weights):
            return self._student(self.size - len(self._sizes))
        sums = self._weights @ columns
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn, slopes = statistic(sums)
        each = slopes @ columns.T  # [R, P] what every prompt adds, to first order
        variance = np.zeros(len(drawn))
        for members in self._members():
            weight, part, n = self._weights[:, members], each[:, members], len(members)
            centre = (weight * part).sum(axis=1, keepdims=True) / n
            variance += n / (n - 1) * (weight * (part - centre) ** 2).sum(axis=1)
        tiny = _ROUNDING * np.abs(slopes * sums).sum(axis=1)
        far = _studentised(np.abs(drawn - value), np.sqrt(variance), tiny)
        return np.sort(np.where(np.isnan(far), np.inf, far))[::-1]


def _studentised(distance: Values, error: Values, tiny: Values) -> Values:
    """``distance`` / ``error``; where the error is none, nothing or infinitely far."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > tiny, distance / error, np.where(distance > tiny, np.inf, 0.0))


def _over_runs(values: Values) -> float:
    """The standard error of a mean over independent runs [S]."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def total(sums: Values) -> tuple[Values, Values]:
    """The sum of the only column."""
    return sums[..., 0], np.ones_like(sums)


def ratio(sums: Values) -> tuple[Values, Values]:
    """Column 0 over column 1: a ratio of sums, never a mean of ratios."""
    return mean_of_ratios(sums)


def ratio_difference(sums: Values) -> tuple[Values, Values]:
    """Column 0 over column 1, minus column 2 over column 3."""
    a, da = ratio(sums[..., :2])
    b, db = ratio(sums[..., 2:])
    return a - b, np.concatenate([da, -db], axis=-1)


def mean_of_ratios(sums: Values) -> tuple[Values, Values]:
    """The plain mean of several ratios of sums, columns (numerator, denominator) in turn: one ratio a trace."""
    below = sums[..., 1::2]
    each = sums[..., 0::2] / below
    slopes = np.stack([1 / below, -each / below], axis=-1).reshape(sums.shape)
    return each.mean(axis=-1), slopes / each.shape[-1]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment for several comparisons (Holm 1979); unknown ones stay None."""
    known = [(p, i) for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(sorted(known)):
        running = max(running, min(1.0, p * (len(known) - rank)))
        adjusted[i] = running
    return adjusted
