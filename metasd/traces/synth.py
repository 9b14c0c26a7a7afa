"""Synthetic traces whose acceptance law is known: positive controls for policies and regret.

How a [start, depth] table gets its lengths (``coupling``):

* ``position`` (default): one accept-or-not bit for each (text position, drafter), as for a drafter whose next token
  depends on the prefix only. The length at a start is the run of ones from there, so length(t) = 1 + length(t + 1)
  while the bit at t is one. A round judges bits up to its first rejection or its limit and the next round starts
  behind them, so no bit is ever used twice and the lengths along any policy's path are independent truncated
  geometric draws: Assumption 1 of arXiv 2604.05417 holds exactly.
* ``start``: fresh bits at every start, as for a drafter that depends on where its block began.

Overlap is Beta(c a, c (1 - a)) with mean a, the position's acceptance rate, and each bit is Bernoulli(overlap). Behind
the first rejection the drafter's chain has left the text: overlap there is a fresh draw of the same law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_DRAFT, LONGEST_TEXT
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Bools, Ints
from metasd.traces.laws import Codes, Law, law
from metasd.traces.save import refuse_used, save_trace
from metasd.traces.trace import Trace

_QUANTILES = 1024
_CHUNK_CELLS = 1 << 21  # table cells made at a time: bounds the scratch memory
_VOCABULARY = 1000


@dataclass(frozen=True, slots=True)
class _Table:
    """Draws overlaps: [M, Q] equally likely values for each of M rates."""

    values: NDArray[np.float16]

    @classmethod
    def of(cls, made: Law, concentration: float) -> _Table:
        u = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        rows = [cls._row(float(rate), u, concentration if made.noise else None) for rate in made.rates]
        return cls(np.stack(rows).astype(np.float16))

    @staticmethod
    def _row(rate: float, u: NDArray[np.float64], concentration: float | None) -> NDArray[np.float64]:
        if concentration is None or rate in (0.0, 1.0):
            return np.full(len(u), rate)
        values = betaincinv(concentration * rate, concentration * (1 - rate), u)
        return np.clip(values + (rate - values.mean()), 0, 1)

    def draw(self, rng: np.random.Generator, codes: Codes) -> NDArray[np.float16]:
        at = rng.integers(0, _QUANTILES, size=codes.shape, dtype=np.uint16)
        return self.values[codes, at]


def synthetic(
    kind: str,
    *,
    prompts: int = 64,
    length: int = 128,
    arms: int = 5,
    draft_length: int = 5,
    seed: int = 0,
    temperature: float = 0.0,
    alphas: Sequence[float] | None = None,
    overlap: bool = True,
    coupling: str = "position",
    period: int | None = None,
    concentration: float = 8.0,
    free: int = 0,
) -> Trace:
    """A trace in memory of ``prompts`` texts of ``length`` tokens each; kinds: see ``metasd.traces.laws``.

    Above temperature 0 the trace is a sampled one: ``accept`` holds (overlap + bit) / 2, whose mean is the overlap.
    The first ``free`` drafters count as free, as those that work on tokens alone; the others as models.
    ``overlap=False`` leaves the overlap out (2 D G bytes a position). Equal arguments give equal traces.
    Raises UsageError for an unknown kind or a value out of range.
    """
    for name, value, low, high in (
        ("prompts", prompts, 1, 1 << 40),
        ("draft_length", draft_length, 1, LONGEST_DRAFT),
        ("length", length, 1, LONGEST_TEXT),
        ("seed", seed, 0, 1 << 64),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name} {value} is outside {low}..{high}; choose one within")
    made = law(kind, length=length, arms=arms, alphas=alphas, period=period)
    _check(coupling, temperature, concentration)
    if not 0 <= free <= arms:
        raise UsageError(f"free {free} is outside 0..{arms}, the number of arms; choose one within")
    law_settings = {
        "kind": kind,
        "coupling": coupling,
        "rates": made.rates.tolist(),
        "period": period,
        "concentration": concentration,
        "free": free,
    }
    trace = _empty(made, law_settings, prompts, length, arms, draft_length, seed, temperature, overlap)
    table = _Table.of(made, concentration)
    step = max(1, _CHUNK_CELLS // (length * arms))
    for low in range(0, prompts, step):
        rows = np.arange(low, min(low + step, prompts))
        _fill(trace, rows, length, made, table, coupling, np.random.default_rng([seed, low]))
    return trace


def _check(coupling: str, temperature: float, concentration: float) -> None:
    if coupling not in ("position", "start"):
        raise UsageError(f"unknown coupling {coupling!r}; choose position or start")
    if not 0 <= temperature < math.inf or not 0 < concentration < math.inf:
        raise UsageError(f"temperature {temperature} and concentration {concentration} must be >= 0 and > 0")


def synth(kind: str, out: str | Path, **settings: Any) -> Path:
    """Write ``synthetic(kind, **settings)`` into the new folder ``out``: one shard, which opens as a memory map.

    Raises UsageError as ``synthetic`` does, and when ``out`` holds files.
    """
    refuse_used(Path(out))
    return save_trace(synthetic(kind, **settings), out)


def _empty(
    made: Law,
    law_settings: dict[str, Any],
    prompts: int,
    length: int,
    arms: int,
    draft_length: int,
    seed: int,
    temperature: float,
    overlap: bool,
) -> Trace:
    """The trace with its tables allocated."""
    rows = prompts * length
    drafters = tuple(
        DrafterInfo(f"arm{i}", "synthetic", free=i < law_settings["free"], deterministic=False) for i in range(arms)
    )
    pool = Pool(drafters, [(d, draft_length) for d in range(arms)])
    deep = (rows, arms, draft_length)
    config = {
        "target": "synthetic",
        "drafters": pool.to_json()["drafters"],
        "acceptance": "ratio" if temperature > 0 else "exact-match",
        "temperature": temperature,
        "seed": seed,
        "max_new_tokens": length,
        "law": law_settings,
    }
    return Trace(
        drafters=drafters,
        draft_lengths=np.full(arms, draft_length, np.int64),
        ids=[f"{law_settings['kind']}-{p}" for p in range(prompts)],
        domains=[made.domains[p % len(made.domains)] for p in range(prompts)],
        offsets=np.arange(prompts + 1, dtype=np.int64) * length,
        ended=np.ones(prompts, bool),
        prompt_lengths=np.zeros(prompts, np.int64),
        tokens=np.empty(rows, np.int32),
        proposed=np.full((rows, arms), draft_length, np.uint8),
        accepted=np.zeros((rows, arms), np.uint8),
        accept=np.zeros(deep, np.float16) if temperature > 0 else None,
        overlap=np.empty(deep, np.float16) if overlap else None,
        manifest={"config": config, "pool": pool.to_json(), "exact": True},
    )


def _fill(
    trace: Trace, prompts: Ints, length: int, made: Law, table: _Table, coupling: str, rng: np.random.Generator
) -> None:
    """Draw the tables of the consecutive ``prompts``, depth by depth."""
    at = slice(int(prompts[0]) * length, (int(prompts[-1]) + 1) * length)
    trace.tokens[at] = rng.integers(0, _VOCABULARY, size=len(prompts) * length)
    codes = made.codes(rng, prompts)
    fixed = _judge(rng, table, codes, made.twins) if coupling == "position" else None
    alive = np.ones(codes.shape, bool)
    flat = (-1, codes.shape[2])
    for depth in range(trace.depth):
        rates = _shift(codes, depth)
        if fixed is None:
            near, bits = _judge(rng, table, rates, made.twins)
        else:
            near, bits = (_shift(column, depth) for column in fixed)
        inside = (np.arange(length) + depth < length)[:, None]
        if trace.accept is not None:
            trace.accept[at, :, depth] = (0.5 * (near + bits) * inside).reshape(flat)
        if trace.overlap is not None:
            away = near if fixed is None else np.where(alive, near, table.draw(rng, rates))
            trace.overlap[at, :, depth] = away.reshape(flat)
        alive &= bits & inside
        trace.accepted[at] += alive.reshape(flat)


def _judge(rng: np.random.Generator, table: _Table, codes: Codes, twins: bool) -> tuple[NDArray[np.float16], Bools]:
    """Overlap and accept-or-not bit of every cell of ``codes``."""
    near = table.draw(rng, codes)
    bits = rng.random(codes.shape, dtype=np.float32) < near
    if twins:
        pair = np.arange(codes.shape[2]) // 2 * 2
        near, bits = near[..., pair], bits[..., pair]
    return near, bits


def _shift(column: NDArray[Any], depth: int) -> NDArray[Any]:
    """``column`` [p, L, D] read ``depth`` positions further on, the last position repeated beyond the end."""
    if depth == 0:
        return column
    at = np.minimum(np.arange(column.shape[1]) + depth, column.shape[1] - 1)
    return column[:, at]
