"""Growth and bounds of one policy's regret on a trace: what ``metasd growth`` prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core import rewards, specs
from metasd.core.errors import UsageError
from metasd.policies import make
from metasd.sim.theory.bounds import lai_robbins_constant, length_law
from metasd.sim.theory.growth import Growth, growth, regret_at_doublings, regret_bound, rounds_played
from metasd.traces import Trace

FIRST = 4
"""Rounds at which the doublings begin, if the shortest text allows no later start."""


def measure(trace: Trace, spec: str, *, seeds: int = 1) -> dict[str, Any]:
    """Pseudo-regret of ``spec`` in accepted tokens, an arm's mean being its mean accepted length over all rows.

    Keys: ``rounds`` (T, of the shortest episode), ``regret`` (mean of an episode after T rounds), ``exponent`` and
    ``error`` of its growth (None where a doubling added nothing), ``lai_robbins`` (C of the asymptotic lower bound
    C ln T), ``bound`` (of docs/theory.md (3), in rounds; None unless the trace's law is i.i.d. and the policy is
    metasd-ucb).
    Raises UsageError for texts of fewer than ``4 * FIRST`` rounds: two doublings are needed.
    """
    pool = trace.pool()
    law = length_law(trace, pool)
    means = law @ np.arange(law.shape[1])
    arms, _ = rounds_played(trace, spec, seeds=seeds)
    T = arms.shape[1]
    if T < 4 * FIRST:
        raise UsageError(f"the shortest text of {trace.name} takes {T} rounds; growth needs {4 * FIRST} or more")
    loss = (means.max() - means)[arms]
    doublings = max(2, min(8, int(np.log2(T / FIRST))))
    regret = regret_at_doublings(loss, first=max(FIRST, T >> doublings))
    try:
        found: Growth | None = growth(regret)
    except ValueError:  # it lost nothing in some doubling: there is no slope to speak of
        found = None
    return {
        "policy": spec,
        "rounds": T,
        "regret": float(loss.sum(axis=1).mean()),
        "exponent": None if found is None else found.exponent,
        "error": None if found is None else found.error,
        "lai_robbins": lai_robbins_constant(law),
        "bound": _bound(trace, spec),
    }


def _bound(trace: Trace, spec: str) -> float | None:
    """Bound (3) for MetaSD-UCB on i.i.d. arms whose acceptance rates the trace states."""
    stated = trace.manifest.get("config", {}).get("law", {})
    if stated.get("kind") != "iid" or specs.parse(spec)[0] != "metasd-ucb":
        return None
    settings = make(spec).settings()
    reward = rewards.resolve(settings["reward_name"], overlap=trace.overlap is not None)
    if reward not in ("block_divergence", "block_efficiency"):
        return None
    rates = np.array([*stated["rates"], 0.0])  # plain is an arm that accepts nothing
    tokens = int(trace.lengths.min())
    bound = regret_bound(rates, trace.depth, tokens, reward=reward, beta=settings["beta"])
    return bound if np.isfinite(bound) else None
