"""Local levels: how far each arm's yield lies, here in the text, from what the regression expects of it.

Knows residuals only: no signals, no pool. A few hypotheses of change are kept side by side. Under each the level of an
arm is an autoregressive process, forgotten over ``SPANS`` tokens, with stationary variance ``STRENGTHS`` times the
noise, and is tracked by the Kalman filter (West and Harrison 1997, section 4.3, in units of the noise). The hypotheses
are weighed by how well they predicted what came next, with a small share given back to each (Herbster and Warmuth
1998), so that a stationary world is found to be one and a changing one is followed. What is predicted is always the
next thing seen of an arm that the past alone chose, so choosing does not bias the weights.
"""

from __future__ import annotations

import numpy as np

from metasd.core.records import Floats, Ints

SPANS = np.array([np.inf, 200.0, 50.0, 20.0])  # tokens
STRENGTHS = np.array([0.0, 0.5, 1.0, 1.0])  # variance of a level over that of one row; 0: no change
BELIEFS = np.array([0.7, 0.1, 0.1, 0.1])
SHARE = 0.002
BETWEEN = 30.0  # tokens that the way from one text to the next counts for
NOISE = 1.0  # variance of one row before any is seen, in tokens squared
CLIP = 25.0  # of a squared standardised error: one surprise must not decide


class Levels:
    """The state of B lanes, K arms and H hypotheses.

    Drafters of either kind (free 0, model 1) share one noise: ``squares`` [B, 2, 2] holds sums of squares, and rows.
    """

    def __init__(self, lanes: int, arms: int) -> None:
        shape = (lanes, len(SPANS), arms)
        self.mean = np.zeros(shape)  # tokens
        self.spread = np.zeros(shape)  # variance, in units of the noise
        self.odds = np.zeros(shape[:2])  # ln of the weights, which sum to 1
        self.squares = np.zeros((lanes, 2, 2))
        self.gone = np.zeros(lanes)  # tokens gone by since the levels were last asked for

    def clear(self, lanes: Ints) -> None:
        """Forget everything on ``lanes``."""
        self.mean[lanes], self.spread[lanes] = 0.0, STRENGTHS[:, None]
        self.odds[lanes] = np.log(BELIEFS)
        self.squares[lanes] = (NOISE, 1.0)

    def noise(self) -> Floats:
        """[B, 2] variance of a row, in tokens squared, of free and of model drafters."""
        ratio: Floats = self.squares[:, :, 0] / self.squares[:, :, 1]
        return ratio

    def here(self) -> Floats:
        """[B, K] level of each arm where the text now is, in tokens: the mean over the hypotheses."""
        self._fade()
        return np.einsum("bh,bhk->bk", np.exp(self.odds), self.mean)

    def _fade(self) -> None:
        """Let the tokens that went by take effect: levels fade, their uncertainty returns."""
        keep = np.exp(-self.gone[:, None] / SPANS)[:, :, None]
        self.mean *= keep
        self.spread *= keep**2
        self.spread += (1.0 - keep**2) * STRENGTHS[:, None]
        self.gone[:] = 0.0

    def see(self, lane: Ints, kind: Ints, arms: Ints, residual: Floats, weight: Floats) -> None:
        """Learn mean ``residual`` [n, M] of rows that weigh ``weight`` [n] together, at ``arms`` [n, M] of one drafter.

        No (lane, drafter) may come twice; the last arm, the longest draft, tells the hypotheses apart.
        """
        at = lane[:, None], slice(None), arms
        mean, spread = self.mean[at], self.spread[at]  # [n, M, H]
        error = residual[:, :, None] - mean
        total = spread + 1.0 / weight[:, None, None]
        self.mean[at] = mean + spread / total * error
        self.spread[at] = spread / (weight[:, None, None] * total)
        error, total = error[:, -1], total[:, -1]
        noise = (self.squares[lane, kind, 0] / self.squares[lane, kind, 1])[:, None]
        fit = -0.5 * (np.log(total) + np.minimum(error**2 / (noise * total), CLIP))
        expected = (np.exp(self.odds[lane]) * error**2 / total).sum(axis=1)
        np.add.at(self.squares, (lane, kind), np.stack((expected, np.ones(len(lane))), axis=1))
        np.add.at(self.odds, lane, fit)
        self.odds[lane] = _shared(self.odds[lane])


def _shared(odds: Floats) -> Floats:
    """[n, H] ln of normalised weights, a ``SHARE`` of them dealt out anew as in the beginning."""
    weight = np.exp(odds - odds.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.log((1.0 - SHARE) * weight + SHARE * BELIEFS)
