"""The comparators of a comparison: fixed arms, the best ones in hindsight, and the clairvoyant optimum.

"Best in hindsight" is chosen on the very prompts it is scored on, so these are upper comparators, not policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from metasd.core.results import BEST_FIXED
from metasd.sim.compare.outcome import TraceOutcome
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
    best = int(rounds.sum(axis=0).argmin())
    yield BEST_FIXED, names[best], rounds[:, best]
    yield BY_DOMAIN, None, _routed(outcome, rounds)
    yield BY_PROMPT, None, rounds.min(axis=1)
    yield OPTIMUM, None, np.asarray(outcome.optimum, np.float64)


def _routed(outcome: TraceOutcome, rounds: Values) -> Values:
    """[P] rounds where every domain has the arm that is best for it in total: the ideal router by domain."""
    labels = np.asarray(outcome.trace.domains)
    out = np.empty(len(labels))
    for domain in dict.fromkeys(outcome.trace.domains):
        at = labels == domain
        out[at] = rounds[at][:, rounds[at].sum(axis=0).argmin()]
    return out


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
