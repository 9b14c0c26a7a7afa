"""What a replay is held against: its result rows, with the best fixed arm and the clairvoyant optimum beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.ledger import Totals
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.core.results import by_domain, row
from metasd.sim.oracle.rounds import best_fixed, clairvoyant_rounds, expected_arm_rounds, fixed_arm_rounds
from metasd.sim.replay.run import Replay
from metasd.traces.trace import Trace


def rows(outcome: Replay) -> list[dict[str, Any]]:
    """Result rows (``metasd.core.results.row``) by domain and in total; counts are means over seeds."""
    optimum, arms = comparators(outcome.trace, outcome.pool, np.unique(outcome.seed))
    fixed = arms[np.arange(len(arms)), best_fixed(expected_arm_rounds(outcome.trace, outcome.pool))[1]]
    plain = None if outcome.costs is None else plain_seconds(outcome.trace, outcome.costs)

    def make_row(totals: Totals, at: Ints, domain: str) -> dict[str, Any]:
        prompts = outcome.prompt[at]
        return row(
            totals,
            policy=outcome.policy,
            reset=outcome.reset,
            domain=domain,
            speedup=None if plain is None else speedup(plain[prompts].sum().item() / outcome.seeds, totals.seconds),
            regret_rounds=totals.rounds - fixed[prompts].sum().item() / outcome.seeds,
            oracle_rounds=optimum[prompts].sum().item() / outcome.seeds,
        )

    domains = [outcome.trace.domains[p] for p in outcome.prompt]
    return by_domain(outcome.ledger, domains, make_row, outcome.seeds)


def plain_seconds(trace: Trace, costs: CostModel) -> Floats:
    """[P] modelled seconds of decoding each text plainly: a pass of the target for every token."""
    position = np.arange(len(trace.tokens)) - np.repeat(trace.offsets[:-1], trace.lengths)
    context = np.repeat(trace.prompt_lengths, trace.lengths) + position
    spent = costs.verify(np.zeros(len(context), np.int64), context)
    return np.asarray(np.bincount(np.repeat(np.arange(len(trace)), trace.lengths), spent, len(trace)), np.float64)


def speedup(plain: float, seconds: float | None) -> float | None:
    """How many times as fast as plain decoding of the same texts, given the seconds of both."""
    return plain / seconds if seconds else None


def comparators(trace: Trace, pool: Pool, seeds: Ints) -> tuple[Floats, Floats]:
    """[P] rounds of the clairvoyant optimum and [P, K] rounds of each arm played throughout, means over ``seeds``.

    Above temperature 0 each seed has the luck that policies meet under it; at 0 one seed says all.
    """
    which = seeds if trace.sampled else seeds[:1]
    P, S = len(trace), len(which)
    episodes: dict[str, Any] = {"prompts": np.tile(np.arange(P), S), "seeds": np.repeat(which, P)}
    optimum = clairvoyant_rounds(trace, pool, **episodes).reshape(S, P).mean(axis=0)
    return optimum, fixed_arm_rounds(trace, pool, **episodes).reshape(S, P, len(pool)).mean(axis=0)
