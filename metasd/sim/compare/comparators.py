"""The comparators of a comparison: fixed arms, the best ones in hindsight, and the clairvoyant optimum.

"Best in hindsight" is chosen on the very prompts it is scored on, so these are upper comparators, not policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from metasd.core.results import ALL, BEST_FIXED
from metasd.sim.compare.outcome import TraceOutcome
from metasd.sim.oracle.rounds import best_fixed
from metasd.sim.compare.bootstrap import Clusters, Values, ratio

BY_DOMAIN = "best fixed arm of each domain"
BY_PROMPT = "best fixed arm of each prompt"
OPTIMUM = "clairvoyant optimum"


def comparator_rows(outcome: TraceOutcome) -> list[dict[str, Any]]:
    """One row a comparator over all prompts of a trace: rounds, tokens per round and fraction of the optimum."""
    clusters = Clusters(np.zeros(len(outcome.trace)))
    return [_row(outcome, clusters, *one) for one in comparators(outcome)]


def comparators(outcome: TraceOutcome) -> Iterator[tuple[str, str | None, Values]]:
    """Name, arm (where it is a single one) and [P] rounds of each comparator."""
    rounds = np.asarray(outcome.fixed_rounds, np.float64)
    names = outcome.pool.names
    for k, name in enumerate(names):
        yield "fixed arm", name, rounds[:, k]
    overall, arm = best_fixed(rounds, [ALL] * len(rounds))
    yield BEST_FIXED, names[arm[0]], overall
    yield BY_DOMAIN, None, best_fixed(rounds, outcome.trace.domains)[0]
    yield BY_PROMPT, None, best_fixed(rounds)[0]
    yield OPTIMUM, None, np.asarray(outcome.optimum, np.float64)


def _row(outcome: TraceOutcome, clusters: Clusters, name: str, arm: str | None, rounds: Values) -> dict[str, Any]:
    emitted = outcome.trace.lengths.astype(np.float64)
    optimum = np.asarray(outcome.optimum, np.float64)
    speed = clusters.estimate(np.stack([emitted, rounds], axis=1), ratio)
    share = clusters.estimate(np.stack([optimum, rounds], axis=1), ratio)
    return {
        "trace": outcome.name,
        "comparator": name,
        "arm": arm,
        "rounds": float(rounds.sum()),
        "tokens_per_round": speed.value,
        "fraction_of_optimum": share.value,
        "intervals": {"tokens_per_round": speed.interval, "fraction_of_optimum": share.interval},
    }
