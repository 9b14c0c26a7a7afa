"""Choosing among weighted or preferred arms, for all lanes at once."""

from __future__ import annotations

import functools

import numpy as np

from metasd.core.records import Bools, Floats, Ints


def row_sum(x: Floats) -> Floats:
    """[B, 1] sum over the arms of x [B, K], in pool order whatever B is; for few arms far faster than x.sum(axis=1)."""
    return functools.reduce(np.add, x.T)[:, None]


def row_max(x: Floats) -> Floats:
    """[B, 1] largest entry of each row of x [B, K]; see ``row_sum``."""
    return functools.reduce(np.maximum, x.T)[:, None]


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
    top = row_max(masked)
    lost = np.isneginf(top)
    if lost.any():
        masked = np.where(lost & allowed, 0.0, masked)
        top = np.where(lost, 0.0, top)
    weights = np.exp(masked - top)
    return weights / row_sum(weights)
