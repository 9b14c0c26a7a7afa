"""Token tables: what the last tokens and the proposed token say of a draft's yield beyond the signals.

Numpy only. Each table holds shrunk means of what the linear index left unexplained, by key; the strength of the
shrinkage is chosen by cross-validation over texts, and a table that does not help held-out texts is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metasd.core.records import Bools, Floats, Ints
from metasd.policies.frontier.features import speaker

SHRINKAGES = (3.0, 10.0, 30.0, 100.0, 300.0)  # rows that the belief in "nothing to add" is worth
SMALLEST = 0.02  # offsets below it, in tokens, are not kept
KEYS = ("last", "pair", "proposal", "bridge")
_SHIFT = np.int64(1 << 31)


def token_keys(tail: Ints, proposal: Ints) -> dict[str, Ints]:
    """[n] keys of the token tables, -1 where unknown: last token, last two, proposed one, last and proposed.

    Args: tail [n, 2] newest last, proposal [n].
    """
    older, last = tail[:, 0].astype(np.int64), tail[:, 1].astype(np.int64)
    proposal = proposal.astype(np.int64)

    def both(a: Ints, b: Ints) -> Ints:
        return np.where((a >= 0) & (b >= 0), a * _SHIFT + b, -1)

    return {"last": last, "pair": both(older, last), "proposal": proposal, "bridge": both(last, proposal)}


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Offsets in tokens by key: sorted ``keys`` [n], ``values`` [n, M]."""

    keys: Ints
    values: Floats

    def __call__(self, keys: Ints) -> Floats:
        """[m, M] offsets of ``keys`` [m], 0 where a key was never seen."""
        if not len(self.keys):
            return np.zeros((len(keys), self.values.shape[1]))
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[at] == keys)[:, None], self.values[at], 0.0)


def speaker_proposal(signals: Floats, proposal: Ints, free: Bools) -> Ints:
    """[n] first token proposed by the free drafter that speaks for the text, -1 where none does."""
    best, match = speaker(signals, free)
    rows = np.arange(len(best))
    return np.where(match[rows, best] >= 0, proposal[rows, best], -1)


def fit_tables(keys: Mapping[str, Ints], text: Ints, residual: Floats, weight: Floats) -> dict[str, TokenTable]:
    """Fit the tables one after the other, each to what those before it left.

    Args: keys by table [N], text [N] index of each row's text, residual and weight [N, M] (weight 0: no such row).
    """
    found: dict[str, TokenTable] = {}
    left = residual.copy()
    for name in KEYS:
        table = _fit_one(keys[name], text, left, weight)
        if len(table.keys):
            found[name] = table
            left -= table(keys[name])
    return found


def _fit_one(keys: Ints, text: Ints, residual: Floats, weight: Floats) -> TokenTable:
    distinct, code = np.unique(keys, return_inverse=True)
    columns = [_column(code, len(distinct), text, residual[:, m], weight[:, m]) for m in range(residual.shape[1])]
    values = np.stack(columns, axis=1)
    values[distinct < 0] = 0.0
    kept = np.abs(values).max(axis=1) >= SMALLEST
    return TokenTable(distinct[kept], np.round(values[kept], 3))


def _column(code: Ints, count: int, text: Ints, residual: Floats, weight: Floats) -> Floats:
    """[count] shrunk means of one column, 0 throughout unless they predict held-out texts."""
    fold = text % 2
    sums = [_sums(code[fold == f], count, residual[fold == f], weight[fold == f]) for f in (0, 1)]

    def loss(strength: float) -> float:
        """Squared error on each half with the means of the other, relative to predicting 0."""
        total = 0.0
        for f in (0, 1):
            (mass, first), (other_mass, other_first) = sums[f], sums[1 - f]
            value = other_first / (other_mass + strength)
            total += float((value * (value * mass - 2 * first)).sum())
        return total

    losses = [loss(s) for s in SHRINKAGES]
    at = int(np.argmin(losses))
    if losses[at] >= 0:
        return np.zeros(count)
    return (sums[0][1] + sums[1][1]) / (sums[0][0] + sums[1][0] + SHRINKAGES[at])


def _sums(code: Ints, count: int, residual: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Per key: summed weight, and summed weight x residual."""
    mass: Floats = np.bincount(code, weight, count).astype(np.float64)
    return mass, np.bincount(code, weight * residual, count).astype(np.float64)
