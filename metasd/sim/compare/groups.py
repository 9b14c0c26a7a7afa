"""Prompts that a row of a comparison sums over, and what is summed: columns by run and prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metasd.core.records import Floats, Ints
from metasd.core.results import ALL
from metasd.sim.compare.bootstrap import RESAMPLES, Clusters, Estimate, Statistic, Values
from metasd.sim.compare.outcome import Played, TraceOutcome
from metasd.sim.oracle.rounds import best_fixed

Columns = dict[str, Values]
"""[S, P] by name: one line a run (seed), NaN where there is no clock. A column that no run changes has [1, P]."""

_PER_COMPARISON = 40  # resamples: the smallest p-value times the comparisons stays at 1/40


@dataclass(slots=True)
class Group:
    """Some prompts of a trace, or all of several traces'.

    rows: of each outcome, the indices of its prompts. baselines: of each outcome, see ``baselines``.
    """

    trace: str
    domain: str
    outcomes: list[TraceOutcome]
    rows: list[Ints]
    baselines: list[dict[str, Values]]
    clusters: Clusters

    @property
    def currency(self) -> str:
        """ "seconds" where every trace has a clock, else "rounds": what rows are ranked and compared by."""
        return "seconds" if all(o.currency == "seconds" for o in self.outcomes) else "rounds"

    def gather(self, played: Sequence[Played]) -> Columns:
        """Columns of a policy's outcomes on the group's traces, prompts of all of them side by side."""
        parts = [columns(o, p, b) for o, p, b in zip(self.outcomes, played, self.baselines, strict=True)]
        found = {}
        for name in parts[0]:
            picked = [c[name][:, r] for c, r in zip(parts, self.rows, strict=True)]
            runs = max(len(c) for c in picked)
            found[name] = np.concatenate([np.broadcast_to(c, (runs, c.shape[1])) for c in picked], axis=1)
        return found

    def estimate(self, used: Sequence[Values], statistic: Statistic, *, linked: bool) -> Estimate:
        """``statistic`` of the sums of the columns ``used``.

        linked: whether a policy that keeps what it learned is among them: its runs are then the unit.
        """
        by_prompt = np.stack([c.mean(axis=0) for c in used], axis=1)
        if not linked:
            return self.clusters.estimate(by_prompt, statistic)
        runs = max(len(c) for c in used)
        by_run = np.stack([np.broadcast_to(c.sum(axis=1), runs) for c in used], axis=1)
        return self.clusters.estimate(by_prompt, statistic, runs=by_run)


def groups(outcomes: Sequence[TraceOutcome], comparisons: int) -> Iterator[Group]:
    """Every domain of every trace, every trace, and all traces together where there are several.

    comparisons: how many p-values a table will correct for each other.
    """
    resamples = max(RESAMPLES, _PER_COMPARISON * comparisons - 1)
    lines = [baselines(o) for o in outcomes]
    for outcome, line in zip(outcomes, lines, strict=True):
        labels = np.asarray(outcome.trace.domains, object)
        domains = list(dict.fromkeys(outcome.trace.domains))
        picked = [(d, np.flatnonzero(labels == d)) for d in domains if len(domains) > 1]
        for domain, rows in [*picked, (ALL, np.arange(len(labels)))]:
            clusters = Clusters(np.zeros(len(rows)), resamples=resamples)
            yield Group(outcome.name, domain, [outcome], [rows], [line], clusters)
    if len(outcomes) > 1:
        rows_of = [np.arange(len(o.trace)) for o in outcomes]
        strata = np.repeat(np.arange(len(outcomes)), [len(r) for r in rows_of])
        yield Group(ALL, ALL, list(outcomes), rows_of, lines, Clusters(strata, resamples=resamples))


def baselines(outcome: TraceOutcome) -> dict[str, Values]:
    """[P] what regrets are taken to: name of the regret's column to the cost of the arm it compares with.

    The arm is chosen by expected rounds (on a sampled trace too, so the choice does not follow the luck of a few
    seeds) or
    by seconds, and what is charged is that arm under the seeds that the policies meet.
    """
    domains = outcome.trace.domains
    of = {"": [ALL] * len(domains), "_domain": domains, "_hindsight": None}
    every = np.arange(len(domains))
    rounds, seconds = np.asarray(outcome.fixed_rounds, np.float64), outcome.fixed_seconds()
    found = {}
    for name, group in of.items():
        found[f"regret_rounds{name}"] = rounds[every, best_fixed(outcome.expected_rounds, group)[1]]
        unknown = np.full(len(domains), np.nan)
        found[f"regret_seconds{name}"] = unknown if seconds is None else best_fixed(seconds, group)[0]
    return found


def columns(outcome: TraceOutcome, played: Played, baseline: dict[str, Values]) -> Columns:
    """What a policy's statistics are sums of."""

    def same(values: Floats | None) -> Values:
        """A column that no run changes."""
        return np.full((1, len(outcome.trace)), np.nan) if values is None else np.asarray(values, np.float64)[None]

    rounds, spent = played.count("rounds"), played.seconds()
    seconds = same(None) if spent is None else spent
    return {
        "rounds": rounds,
        "emitted": played.count("emitted"),
        "switches": played.count("switches"),
        "optimum": same(outcome.optimum),
        "optimum_seconds": same(outcome.optimum_seconds),
        "reached_seconds": same(outcome.reached_seconds),
        "seconds": seconds,
        "plain_seconds": same(outcome.plain_seconds()),
        **{name: (rounds if "rounds" in name else seconds) - line for name, line in baseline.items()},
    }
