"""From signals to the clipped vectors that the default policy's linear indices read.

Knows signals only: no pool, no counts, no tokens. Everything is clipped, because an unclipped linear fit is wrecked
by one text that runs away into a loop of thousands of tokens.
"""

from __future__ import annotations

import numpy as np

from metasd.core.records import Bools, Floats, Ints
from metasd.core.signals import INDEX

STEPS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 25, 49], np.float64)
"""Match lengths at which a coefficient begins: a staircase, so that scarce long matches borrow from shorter ones."""

_SCALED = {
    "share": 1.0,
    "latest": 1.0,
    "depth": 20.0,
    "proposal_length": 20.0,
    "failures": 3.0,
    "run": 20.0,
    "hit_fast": 1.0,
    "hit_slow": 1.0,
    "in_prompt": 1.0,
    "from_table": 1.0,
}
_COLUMNS = np.array([INDEX[name] for name in _SCALED])
_SCALES = np.array(list(_SCALED.values()))
_MATCH = INDEX["match_length"]
_REACH = 8.0

NAMES = ("one", *(f"match>={int(s)}" for s in STEPS), *_SCALED, "beside")
"""Names of the W columns. ``beside``: for a free drafter, by how much another one's match is longer (-1..1); for a
model drafter, 1 where no free drafter has anything to say."""

W = len(NAMES)
BESIDE = W - 1
FROM_TABLE = NAMES.index("from_table")


def own_features(signals: Floats) -> Floats:
    """[..., W] features of signals [..., F]; unknown (NaN) entries count as 0, ``beside`` is 0."""
    x = np.zeros((*signals.shape[:-1], W))
    x[..., 0] = 1.0
    x[..., 1 : 1 + len(STEPS)] = signals[..., _MATCH, None] >= STEPS
    x[..., 1 + len(STEPS) : BESIDE] = np.minimum(np.fmax(signals.take(_COLUMNS, axis=-1) / _SCALES, 0.0), 1.0)
    return x


def speaker(signals: Floats, free: Bools) -> tuple[Ints, Floats]:
    """Which free drafter speaks for the text: the one with the longest match, first in pool order.

    Args: signals [n, D, F], free [D]. Returns ([n] its index, [n, D] match lengths, -1 where there is nothing said).
    """
    match = _said(signals, free)
    return np.argmax(match, axis=1), match


def _said(signals: Floats, free: Bools) -> Floats:
    """[n, D] match lengths, -1 for drafters that say nothing."""
    return np.where(free, np.fmax(signals[:, :, _MATCH], -1.0), -1.0)


def features(signals: Floats, free: Bools) -> Floats:
    """[n, D, W] what each drafter's index looks at.

    A free drafter sees its own signals. A model drafter, which has none, sees those of the free drafter that speaks
    for the text: they say how well the text can be copied, thus what it would have to beat.

    Args: signals [n, D, F], free [D].
    """
    best, match = speaker(signals, free)
    x = own_features(signals)
    rows = np.arange(len(signals))
    silent = match[rows, best] < 0
    shared = x[rows, best]
    shared[silent, 1:] = 0.0
    shared[silent, BESIDE] = 1.0
    model = np.flatnonzero(~free)
    if len(model):
        x[:, model] = shared[:, None, :]
    if len(free) - len(model) > 1:
        _compare(x, match, free)
    return x


def free_features(signals: Floats, free: Bools, drafter: Ints) -> Floats:
    """[r, W] ``features(signals, free)[row, drafter[row]]`` of free drafters, nothing else computed."""
    rows = np.arange(len(drafter))
    x = own_features(signals[rows, drafter])
    if np.count_nonzero(free) > 1:
        match = _said(signals, free)
        own = match[rows, drafter]
        match[rows, drafter] = -1.0
        x[:, BESIDE] = _ahead(match.max(axis=1), own)
    return x


def _compare(x: Floats, match: Floats, free: Bools) -> None:
    """Fill ``beside`` of the free drafters: the longest match among the others, minus their own."""
    drafter = np.arange(len(free))
    others = np.where(drafter[:, None] == drafter, -1.0, match[:, None, :]).max(axis=2)
    x[:, free, BESIDE] = _ahead(others, match)[:, free]


def _ahead(others: Floats, own: Floats) -> Floats:
    """By how much the longest match of ``others`` (-1: none) is longer, scaled and clipped to -1..1."""
    return np.minimum(np.maximum((np.maximum(others, 0.0) - own) / _REACH, -1.0), 1.0)
