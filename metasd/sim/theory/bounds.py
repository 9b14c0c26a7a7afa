"""The lower bound on regret where arms are i.i.d., from the lengths a trace holds. The environment's side only."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from metasd.core.pool import Pool
from metasd.core.records import Floats
from metasd.sim.oracle.board import Boards
from metasd.sim.oracle.rounds import episodes
from metasd.traces.trace import Trace


def length_law(trace: Trace, pool: Pool) -> Floats:
    """[K, G + 1] how often each accepted length occurs over all rows, each arm played there."""
    boards = Boards(trace, pool)
    law = np.zeros((len(pool), pool.max_draft_length + 1))
    texts, judge = episodes(trace, None, 0)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        for k in range(len(pool)):
            law[k] += np.bincount(board.accepted[:, k], minlength=law.shape[1])
    return law / law.sum(axis=1, keepdims=True)


def kl_inf(law: Floats, values: Floats, mean: float) -> float:
    """Least KL(law, other) over laws on ``values`` with a mean of at least ``mean`` (Honda, Takemura 2010, the dual).

    = max over 0 <= x <= 1 / (max(values) - mean) of E log(1 - x (value - mean)); infinite if no law reaches ``mean``.
    """
    top = float(values.max())
    if float(law @ values) >= mean:
        return 0.0
    if mean >= top:
        return float("inf")
    inside = law > 0

    def negative(x: float) -> float:
        return -float(law[inside] @ np.log1p(-x * (values[inside] - mean)))

    found = minimize_scalar(
        negative, bounds=(0.0, (1 - 1e-12) / (top - mean)), method="bounded", options={"xatol": 1e-12}
    )
    return -float(found.fun)


def lai_robbins_constant(law: Floats, values: Floats | None = None) -> float:
    """C of the asymptotic lower bound C ln(rounds) on regret, in units of ``values``, for i.i.d. arms.

    C = sum over worse arms of gap / kl_inf(arm, best mean) (Lai, Robbins 1985; Burnetas, Katehakis 1996), with the
    discrete ``law`` [K, G + 1] of lengths, ``values`` 0..G by default. Dividing by the best arm's emitted tokens a
    round turns tokens lost into rounds lost.
    """
    support = np.arange(law.shape[1], dtype=np.float64) if values is None else np.asarray(values, np.float64)
    means = law @ support
    best = float(means.max())
    worse = [k for k in range(len(law)) if means[k] < best]
    return sum(float(best - means[k]) / kl_inf(law[k], support, best) for k in worse)
