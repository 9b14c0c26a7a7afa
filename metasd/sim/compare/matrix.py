"""Which drafter suits which domain: tokens per round of every fixed arm by domain, with intervals, and their ratios."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.core.results import ALL
from metasd.sim.compare.bootstrap import Clusters, Estimate, ratio
from metasd.sim.oracle.rounds import expected_arm_rounds
from metasd.traces.trace import Trace


class Matrix:
    """Rounds of every fixed arm on every prompt of ``trace``: expected ones where it was sampled.

    Attributes: pool; domains, those of the trace and ``all``; rounds [P, K].
    """

    def __init__(self, trace: Trace, draft_length: int | None = None) -> None:
        self.pool: Pool = trace.pool(draft_length).with_plain()
        self.domains = [*dict.fromkeys(trace.domains), ALL]
        self.rounds: Floats = expected_arm_rounds(trace, self.pool)
        self._labels = np.asarray(trace.domains, object)
        self._emitted = trace.lengths.astype(np.float64)

    def rows(self, domain: str) -> Ints:
        """Indices of the prompts of ``domain``."""
        every = np.arange(len(self._labels))
        return every if domain == ALL else every[self._labels == domain]

    def rate(self, domain: str, arm: int) -> Estimate:
        """Tokens per round of ``arm`` on the prompts of ``domain``: a ratio of sums."""
        at = self.rows(domain)
        return _over(self._emitted[at], self.rounds[at, arm])

    def times(self, domain: str, arm: int, other: int) -> Estimate:
        """Tokens per round of ``arm`` over those of ``other`` on the same prompts."""
        at = self.rows(domain)
        return _over(self.rounds[at, other], self.rounds[at, arm])

    def cells(self) -> list[dict[str, Any]]:
        """One row a (domain, arm): domain, arm, drafter, prompts, tokens_per_round and its interval."""
        found = []
        for domain in self.domains:
            for k, arm in enumerate(self.pool.arms):
                rate = self.rate(domain, k)
                found.append(
                    {
                        "domain": domain,
                        "arm": arm.name,
                        "drafter": None if arm.drafter < 0 else self.pool.drafters[arm.drafter].name,
                        "prompts": len(self.rows(domain)),
                        "tokens_per_round": rate.value,
                        "interval": rate.interval,
                    }
                )
        return found


def token_costs(costs: CostModel | None, pool: Pool) -> dict[str, float] | None:
    """Seconds of one drafted token over those of the target's pass of one token, by drafter; None without a clock.

    What a draft costs besides its tokens is spread over the longest draft of the drafter's arms.
    """
    if costs is None:
        return None
    columns = costs.columns(pool)
    plain = float(costs.verify(np.array([0]), np.array([costs.context]))[0])
    each = zip(pool.drafters, columns, pool.longest, strict=True)
    return {d.name: float(costs.draft(np.array([c]), np.array([n]))[0]) / n / plain for d, c, n in each}


def _over(top: Floats, below: Floats) -> Estimate:
    return Clusters(np.zeros(len(top))).estimate(np.stack([top, below], axis=1), ratio)
