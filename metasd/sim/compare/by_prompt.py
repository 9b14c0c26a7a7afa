"""What a comparison says prompt by prompt: paired rounds and seconds, and how they add up in the order met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.results import ALL
from metasd.sim.compare.outcome import Played, TraceOutcome
from metasd.sim.oracle.rounds import best_fixed
from metasd.sim.replay.run import order_of

MOST_PROMPTS = 1000
"""Prompts listed one by one, of all traces together; of more a part is shown, evenly spread."""
_LEARNING_POINTS = 60


def by_prompt(outcome: TraceOutcome, most: int) -> dict[str, Any]:
    """Every prompt (at most ``most``, evenly spread) and what each policy and fixed arm took on it, mean over runs.

    rounds, seconds: by policy, in the order of ``ids``; seconds is None without a clock.
    """
    trace = outcome.trace
    rows = np.unique(np.linspace(0, len(trace) - 1, min(most, len(trace))).round().astype(np.int64))
    everyone = [*outcome.policies, *outcome.fixed]
    seconds = {p.entry.label: p.seconds() for p in everyone}
    timed = all(s is not None for s in seconds.values())
    return {
        "trace": outcome.name,
        "of": len(trace),
        "ids": [trace.ids[p] for p in rows],
        "domains": [trace.domains[p] for p in rows],
        "tokens": trace.lengths[rows].tolist(),
        "rounds": {p.entry.label: _short(p.count("rounds").mean(axis=0)[rows]) for p in everyone},
        "seconds": {k: _short(s.mean(axis=0)[rows]) for k, s in seconds.items() if s is not None} if timed else None,
    }


def learning(outcome: TraceOutcome) -> Iterator[dict[str, Any]]:
    """By number of prompts met: regret so far to the best fixed arm of all prompts, in the trace's currency.

    mean: over runs; low, high: the least and the most of them. A policy that keeps what it learned meets the prompts of
    every run in that run's order. ``rate``: tokens per second (or per round) so far.
    """
    costs, lengths = outcome.fixed_costs(), outcome.trace.lengths.astype(np.float64)
    best = best_fixed(costs, [ALL] * len(costs))[0]
    at = np.unique(np.linspace(1, len(lengths), min(_LEARNING_POINTS, len(lengths))).round().astype(np.int64))
    for played in outcome.policies:
        seconds = played.seconds()
        spent = played.count("rounds") if outcome.currency == "rounds" or seconds is None else seconds
        orders = _orders(outcome, played)
        regret = np.cumsum(np.take_along_axis(spent - best, orders, axis=1), axis=1)[:, at - 1]
        so_far = np.cumsum(np.take_along_axis(spent, orders, axis=1), axis=1)[:, at - 1].sum(axis=0)
        rate = np.cumsum(lengths[orders], axis=1)[:, at - 1].sum(axis=0) / so_far
        yield {
            "trace": outcome.name,
            "policy": played.entry.label,
            "prompts": at.tolist(),
            "mean": _short(regret.mean(axis=0)),
            "low": _short(regret.min(axis=0)),
            "high": _short(regret.max(axis=0)),
            "rate": _short(rate),
        }


def _orders(outcome: TraceOutcome, played: Played) -> NDArray[np.int64]:
    """[S, P] the prompts of each run, in the order met."""
    kept = played.settings["reset"] == "never"
    return np.stack([order_of(outcome.trace, seed if kept else 0) for seed in range(played.seeds)])


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{v:.5g}") for v in values]
