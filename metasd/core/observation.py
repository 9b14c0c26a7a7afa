"""A round's context as one flat vector of numbers, for learners that want arrays: the same live and in replay.

Knows what a policy may know (``Context``, its own ``Rounds``) and nothing else. Every entry is finite and within
[-1, 1]; -1 stands for "unknown". Gymnasium is not needed here: ``metasd.sim`` makes spaces of it, and a learned policy
encodes with the same class when it decodes live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import UNKNOWN_BUDGET, Context, Ints, Rounds
from metasd.core.signals import INDEX, SIGNALS

DEFAULT = ("position", "available", "last")
GROUPS = (*DEFAULT, "history", "signals", "lag", "cost")
READS = {"signals": "signals", "lag": "lag", "cost": "cost"}
_COUNTS = [INDEX[name] for name in ("match_length", "proposal_length", "depth", "failures", "run")]
_UNKNOWN = -1.0


class ContextEncoder:
    """Encodes B lanes of ``pool``. Groups, in the order given, with K arms, D drafters, G the longest draft length:

    position [1]: share of the token budget used.
    available [K]: 1 where the arm has a proposal now (plain arms always), else 0.
    last [K + 2]: the previous round of the text: arm one-hot, drafted / G, accepted / G. Zeros before the first.
    history [2 K]: accepted / G averaged over the arm's rounds of the text (-1: none), and the arm's share of rounds.
    signals [D F]: ``metasd.core.signals`` drafter by drafter; counts n as n / (n + 8), -1 where a drafter has none.
    lag [D]: tokens n to catch up as n / (n + 32).
    cost [K]: expected seconds over those of the dearest arm; -1 without a clock.

    Raises UsageError for an unknown group or the same one twice.
    """

    def __init__(self, pool: Pool, lanes: int, groups: Sequence[str] = DEFAULT) -> None:
        for name in groups:
            if name not in GROUPS or list(groups).count(name) > 1:
                raise UsageError(f"observe {name!r} is unknown or given twice; choose from {', '.join(GROUPS)}")
        self.pool, self.lanes, self.groups = pool, lanes, tuple(groups)
        K = len(pool)
        self._ks = np.arange(K, dtype=np.int16)[:, None]
        self.scale = np.float32(1 / max(pool.max_draft_length, 1))
        signals = [f"{d.name}.{s}" for d in pool.drafters for s in SIGNALS]
        names = {
            "position": ["used"],
            "available": pool.names,
            "last": [*pool.names, "drafted", "accepted"],
            "history": [*(f"{n}.mean" for n in pool.names), *(f"{n}.share" for n in pool.names)],
            "signals": signals,
            "lag": [d.name for d in pool.drafters],
            "cost": pool.names,
        }
        self.labels = [f"{group}.{name}" for group in self.groups for name in names[group]]
        self.width = len(self.labels)
        self.reads = frozenset(READS[g] for g in self.groups if g in READS)
        self.low = np.array([_UNKNOWN if g in ("history", "signals", "cost") else 0.0 for g in self._of(names)])
        self._arm = np.full(lanes, -1, np.int16)  # of the previous round, -1 before the first
        self._drafted, self._accepted = np.zeros((2, lanes), np.float32)
        tracked = lanes if "history" in self.groups else 0
        self._n, self._sum = np.zeros((tracked, K)), np.zeros((tracked, K))

    def offset(self, group: str) -> int:
        """Where the entries of ``group`` begin, -1 without them."""
        return next((i for i, label in enumerate(self.labels) if label.startswith(f"{group}.")), -1)

    def _of(self, names: dict[str, list[str]]) -> list[str]:
        return [group for group in self.groups for _ in names[group]]

    def begin(self, lanes: Ints) -> None:
        """``lanes`` start a new text."""
        self._arm[lanes] = -1
        self._drafted[lanes] = self._accepted[lanes] = 0
        if len(self._n):
            self._n[lanes], self._sum[lanes] = 0, 0

    def update(self, rounds: Rounds) -> None:
        """Take note of finished rounds."""
        if "last" in self.groups:
            self._note_last(rounds)
        if len(self._n):
            self._n[rounds.lane, rounds.arm] += 1
            self._sum[rounds.lane, rounds.arm] += rounds.accepted * self.scale

    def _note_last(self, rounds: Rounds) -> None:
        at = slice(None) if len(rounds) == self.lanes else rounds.lane  # all lanes come in order
        self._arm[at] = rounds.arm
        self._drafted[at] = rounds.drafted
        self._accepted[at] = rounds.accepted

    def encode(self, context: Context, lanes: Ints | None = None) -> NDArray[np.float32]:
        """[width, n] a fresh array: one column a lane, of all lanes or of those that ``context`` is about."""
        out = np.empty((self.width, len(context.position)), np.float32)
        row = 0
        for group in self.groups:
            row = getattr(self, f"_{group}_group")(out, row, context, slice(None) if lanes is None else lanes)
        return out

    def _position_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        t = context.position.astype(np.float32)
        budget = (context.position + context.remaining).astype(np.float32)
        if (unknown := context.remaining >= UNKNOWN_BUDGET).any():
            budget[unknown] = np.inf
        np.divide(t, np.maximum(budget, 1, out=budget), out=out[row])
        return row + 1

    def _available_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        return _put(out, row, context.available.T)

    def _last_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        row = _put(out, row, self._arm[at] == self._ks)
        np.multiply(self._drafted[at], self.scale, out=out[row])
        np.multiply(self._accepted[at], self.scale, out=out[row + 1])
        return row + 2

    def _history_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        n = self._n[at]
        mean = np.where(n > 0, self._sum[at] / np.maximum(n, 1), _UNKNOWN)
        row = _put(out, row, mean.T)
        return _put(out, row, (n / np.maximum(n.sum(axis=1, keepdims=True), 1)).T)

    def _signals_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        if context.signals is None:
            raise UsageError("the observation includes signals, which this context lacks; read them")
        values = np.nan_to_num(context.signals.astype(np.float32), nan=_UNKNOWN)
        counts = values[..., _COUNTS]
        values[..., _COUNTS] = np.where(counts >= 0, counts / (np.abs(counts) + 8), _UNKNOWN)
        return _put(out, row, np.clip(values, -1, 1).reshape(len(values), -1).T)

    def _lag_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        if context.lag is None:
            raise UsageError("the observation includes lag, which this context lacks; read it")
        return _put(out, row, (context.lag / (context.lag + 32)).T)

    def _cost_group(self, out: NDArray[np.float32], row: int, context: Context, at: slice | Ints) -> int:
        if context.cost is None:
            raise UsageError("the observation includes cost, which this context lacks; read it")
        dearest = context.cost.max(axis=1, keepdims=True)
        return _put(out, row, np.nan_to_num(context.cost / dearest, nan=_UNKNOWN).T)


def _put(out: NDArray[np.float32], row: int, block: NDArray[Any]) -> int:
    """Write ``block`` [rows, n]; the row behind it. Booleans go as bytes: numpy turns those into floats faster."""
    out[row : row + len(block)] = block.view(np.uint8) if block.dtype == np.bool_ else block
    return row + len(block)
