"""Choosing among weighted or preferred arms, for all lanes at once."""

from __future__ import annotations

import numpy as np

from metasd.core import Bools, Floats, Ints


def prefer(wanted: Bools, allowed: Bools) -> Bools:
    """[B, K] the allowed arms that are wanted; all the allowed ones in rows where none is."""
    both = wanted & allowed
    return np.where(both.any(axis=1, keepdims=True), both, allowed)


def draw(weights: Floats, uniform: Floats) -> Ints:
    """[B] one arm a lane with probability proportional to ``weights`` [B, K] >= 0; ``uniform`` [B] in (0, 1].

    An arm of weight 0 is never drawn. Every row must have a positive weight.
    """
    reached = np.cumsum(weights, axis=1)
    return np.argmax(reached >= uniform[:, None] * reached[:, -1:], axis=1)


def softmax(logits: Floats, allowed: Bools) -> Floats:
    """[B, K] probabilities proportional to exp(logits) over the allowed arms, 0 elsewhere.

    Rows whose allowed arms all have weight 0 (logits of -inf) are uniform over them.
    """
    masked = np.where(allowed, logits, -np.inf)
    top = masked.max(axis=1, keepdims=True)
    lost = np.isneginf(top)
    if lost.any():
        masked = np.where(lost & allowed, 0.0, masked)
        top = np.where(lost, 0.0, top)
    weights = np.exp(masked - top)
    return weights / weights.sum(axis=1, keepdims=True)
