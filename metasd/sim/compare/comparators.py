"""The comparators of a comparison: fixed arms, the best ones in hindsight, and the clairvoyant optimum.

"Best in hindsight" is chosen on the very prompts it is scored on, so these are upper comparators, not policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from metasd.core.results import ALL, BEST_FIXED, OPTIMUM, SIGNIFICANT
from metasd.sim.compare.bootstrap import Clusters, Values, holm, ratio, ratio_difference
from metasd.sim.compare.outcome import TraceOutcome
from metasd.sim.oracle.rounds import best_fixed

RATE, SHARE = (0.0, np.inf), (0.0, 1.0)
RANGES = {
    "tokens_per_round": RATE,
    "fraction_of_optimum": SHARE,
    "tokens_per_second": RATE,
    "speedup": RATE,
    "fraction_of_optimum_seconds": SHARE,
}
"""What each rate can be: an interval that is symmetric about its estimate can reach beyond it."""
BY_DOMAIN = "best fixed arm of each domain"
BY_PROMPT = "best fixed arm of each prompt"


def comparator_rows(outcome: TraceOutcome) -> list[dict[str, Any]]:
    """One row a comparator over all prompts of a trace, in rounds and, where a clock is known, in seconds."""
    clusters = Clusters(np.zeros(len(outcome.trace)))
    return [_row(outcome, clusters, *one) for one in comparators(outcome)]


def comparators(outcome: TraceOutcome) -> Iterator[tuple[str, str | None, Values, Values]]:
    """Name, arm (where it is a single one), [P] rounds and [P] seconds (NaN without a clock) of each comparator.

    "Best" is cheapest in the trace's currency. The optimum in rounds and that in seconds are two ways of playing.
    """
    rounds = np.asarray(outcome.fixed_rounds, np.float64)
    known = outcome.fixed_seconds()
    seconds = np.full_like(rounds, np.nan) if known is None else known
    names = outcome.pool.names
    for k, name in enumerate(names):
        yield "fixed arm", name, rounds[:, k], seconds[:, k]
    every = np.arange(len(rounds))
    groups = {BEST_FIXED: [ALL] * len(rounds), BY_DOMAIN: outcome.trace.domains, BY_PROMPT: None}
    for label, group in groups.items():
        arm = best_fixed(outcome.fixed_costs(), group)[1]
        yield label, names[arm[0]] if label == BEST_FIXED else None, rounds[every, arm], seconds[every, arm]
    ideal = np.full(len(rounds), np.nan) if outcome.optimum_seconds is None else outcome.optimum_seconds
    yield OPTIMUM, None, np.asarray(outcome.optimum, np.float64), np.asarray(ideal, np.float64)


def arms_differ(outcome: TraceOutcome) -> bool | None:
    """Whether some drafting arm is shown to be slower than the fastest one (5 %, Holm); None with too few prompts."""
    costs, emitted = outcome.fixed_costs()[:, ~outcome.pool.plain], outcome.trace.lengths.astype(np.float64)
    if costs.shape[1] < 2:
        return False
    clusters, best = Clusters(np.zeros(len(emitted))), int(costs.sum(axis=0).argmin())
    others = (costs[:, k] for k in range(costs.shape[1]) if k != best)
    pairs = (np.stack([emitted, costs[:, best], emitted, cost], axis=1) for cost in others)
    adjusted = holm([clusters.estimate(pair, ratio_difference).p_value() for pair in pairs])
    known = [p for p in adjusted if p is not None]
    return min(known) <= SIGNIFICANT if known else None


def _row(
    outcome: TraceOutcome, clusters: Clusters, name: str, arm: str | None, rounds: Values, seconds: Values
) -> dict[str, Any]:
    emitted = outcome.trace.lengths.astype(np.float64)
    optimum = np.asarray(outcome.optimum, np.float64)
    speed = clusters.estimate(np.stack([emitted, rounds], axis=1), ratio)
    share = clusters.estimate(np.stack([optimum, rounds], axis=1), ratio)
    timed = {name: _timed(clusters, *pair, RANGES[name]) for name, pair in _rates(outcome, emitted, seconds).items()}
    return {
        "trace": outcome.name,
        "comparator": name,
        "arm": arm,
        "rounds": float(rounds.sum()),
        "tokens_per_round": speed.value,
        "fraction_of_optimum": share.value,
        "seconds": float(seconds.sum()) if np.isfinite(seconds).all() else None,
        **{name: value for name, (value, _) in timed.items()},
        "intervals": {"tokens_per_round": speed.within(*RATE), "fraction_of_optimum": share.within(*SHARE)}
        | {name: interval for name, (_, interval) in timed.items()},
    }


def _rates(outcome: TraceOutcome, emitted: Values, seconds: Values) -> dict[str, tuple[Values | None, Values]]:
    """Numerator and denominator of each rate in seconds."""
    ideal = outcome.optimum_seconds
    return {
        "tokens_per_second": (emitted, seconds),
        "speedup": (outcome.plain_seconds(), seconds),
        "fraction_of_optimum_seconds": (None if ideal is None else np.asarray(ideal, np.float64), seconds),
    }


def _timed(
    clusters: Clusters, top: Values | None, seconds: Values, range_: tuple[float, float]
) -> tuple[float | None, list[float] | None]:
    """A rate in seconds with its interval, None without a clock."""
    if top is None or not np.isfinite(seconds).all():
        return None, None
    found = clusters.estimate(np.stack([top, seconds], axis=1), ratio)
    return found.value, found.within(*range_)
