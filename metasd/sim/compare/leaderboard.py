"""From a comparison to the document people and programs read: rows with intervals, comparators, curves.

Every rate comes from ``Ledger.totals`` and ``metasd.core.results.row``; this module adds intervals and paired differences
(``metasd.sim.compare.bootstrap``). A row that covers several traces sums over all their prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.records import Ints
from metasd.core.errors import UsageError
from metasd.core.ledger import Totals
from metasd.core.results import ALL, BEST_FIXED, row
from metasd.core.results import document as result_document
from metasd.sim.compare import curves as figures
from metasd.sim.compare.job import SHOWN_PROMPTS
from metasd.sim.compare.outcome import Comparison, Played, TraceOutcome
from metasd.sim.oracle.regret import speedup
from metasd.sim.compare.bootstrap import (
    Clusters,
    Estimate,
    Values,
    holm,
    mean_of_ratios,
    ratio,
    ratio_difference,
    total,
)
from metasd.sim.compare.comparators import comparator_rows

# interval name -> (columns, statistic)
_INTERVALS = {
    "tokens_per_round": (("emitted", "rounds"), ratio),
    "fraction_of_optimum": (("optimum", "rounds"), ratio),
    "regret_rounds": (("regret",), total),
    "switches": (("switches",), total),
    "tokens_per_second": (("emitted", "seconds"), ratio),
    "speedup": (("plain_seconds", "seconds"), ratio),
    "fraction_of_optimum_seconds": (("optimum_seconds", "seconds"), ratio),
    "regret_seconds": (("regret_seconds",), total),
}


@dataclass(slots=True)
class Group:
    """Prompts that a row sums over: some of a trace's, or all of several traces'.

    rows: of each outcome, the indices of its prompts.
    """

    trace: str
    domain: str
    outcomes: list[TraceOutcome]
    rows: list[Ints]
    clusters: Clusters

    @property
    def currency(self) -> str:
        """ "seconds" where every trace has a clock, else "rounds": what rows are ranked and compared by."""
        return "seconds" if all(o.currency == "seconds" for o in self.outcomes) else "rounds"

    def gather(self, played: Sequence[Played]) -> dict[str, Values]:
        """By-prompt columns of a policy's outcomes on the group's traces; NaN where there is no clock."""
        parts = [columns(o, p) for o, p in zip(self.outcomes, played, strict=True)]
        return {k: np.concatenate([c[k][r] for c, r in zip(parts, self.rows, strict=True)]) for k in parts[0]}


def document(comparison: Comparison, *, reference: str | None = None) -> dict[str, Any]:
    """The JSON document of a comparison.

    reference: label of the policy that differences are taken to; by default the best fixed arm of each trace
        (chosen in hindsight over all its prompts, so it is a hard comparator). Raises UsageError if it did not play.
    """
    labels = list(dict.fromkeys(p.entry.label for o in comparison.traces for p in o.policies))
    if reference is not None and reference not in labels:
        raise UsageError(f"reference {reference!r} did not play; choose one of {', '.join(labels)}")
    shown = max(SHOWN_PROMPTS // max(len(comparison.traces), 1), 1)
    rows = [r for group in groups(comparison.traces) for r in _group_rows(group, labels, reference)]
    return result_document(
        "compare",
        comparison.config | {"reference": reference or BEST_FIXED, "confidence": 0.95},
        rows,
        traces=[figures.facts(o) for o in comparison.traces],
        comparators=[r for o in comparison.traces for r in comparator_rows(o)],
        skipped=comparison.skipped,
        curves=[c for o in comparison.traces for c in figures.curves(o)],
        shares=[s for o in comparison.traces for s in figures.shares(o)],
        timelines=[t for o in comparison.traces for t in figures.timelines(o, shown)],
    )


def groups(outcomes: Sequence[TraceOutcome]) -> Iterator[Group]:
    """Every domain of every trace, every trace, and all traces together where there are several."""
    for outcome in outcomes:
        labels = np.asarray(outcome.trace.domains, object)
        domains = list(dict.fromkeys(outcome.trace.domains))
        picked = [(d, np.flatnonzero(labels == d)) for d in domains if len(domains) > 1]
        for domain, rows in [*picked, (ALL, np.arange(len(labels)))]:
            yield Group(outcome.name, domain, [outcome], [rows], Clusters(np.zeros(len(rows))))
    if len(outcomes) > 1:
        rows_of = [np.arange(len(o.trace)) for o in outcomes]
        strata = np.repeat(np.arange(len(outcomes)), [len(r) for r in rows_of])
        yield Group(ALL, ALL, list(outcomes), rows_of, Clusters(strata))


def columns(outcome: TraceOutcome, played: Played) -> dict[str, Values]:
    """[P] each: what a policy's statistics are sums of, as means over seeds."""
    fixed_seconds = outcome.fixed_seconds()
    unknown = np.full(len(outcome.trace), np.nan)
    seconds = played.seconds()
    seconds = unknown if seconds is None else seconds
    best_seconds = unknown if fixed_seconds is None else fixed_seconds.min(axis=1)
    plain_seconds = outcome.plain_seconds()
    rounds = played.count("rounds")
    return {
        "rounds": rounds,
        "emitted": played.count("emitted"),
        "switches": played.count("switches"),
        "optimum": np.asarray(outcome.optimum, np.float64),
        "optimum_seconds": unknown if outcome.optimum_seconds is None else np.asarray(outcome.optimum_seconds),
        "regret": rounds - outcome.fixed_rounds.min(axis=1),
        "seconds": seconds,
        "plain_seconds": unknown if plain_seconds is None else plain_seconds,
        "regret_seconds": seconds - best_seconds,
    }


def _group_rows(group: Group, labels: Sequence[str], reference: str | None) -> list[dict[str, Any]]:
    """One row a policy that played on all of the group's traces."""
    found = []
    for label in labels:
        played = [next((p for p in o.policies if p.entry.label == label), None) for o in group.outcomes]
        known = [p for p in played if p is not None]
        if len(known) == len(played):
            found.append((known, group.gather(known)))
    against = _reference(group, reference)
    rows = [_row(group, played, cols) | {"paired": _paired(group, cols, against)} for played, cols in found]
    adjusted = holm([None if r["policy"] == reference else r["paired"]["p_value"] for r in rows])
    for r, p in zip(rows, adjusted, strict=True):
        r["paired"]["p_holm"] = p
    return rows


def _reference(group: Group, reference: str | None) -> dict[str, Values]:
    """Columns of what differences are taken to: the named policy, or each trace's best fixed arm."""
    if reference is not None:
        named = [next(p for p in o.policies if p.entry.label == reference) for o in group.outcomes]
        return group.gather(named)
    return group.gather([o.fixed[int(np.argmin(o.fixed_costs().sum(axis=0)))] for o in group.outcomes])


def _row(group: Group, played: Sequence[Played], cols: dict[str, Values]) -> dict[str, Any]:
    totals = [
        p.ledger.totals(np.flatnonzero(np.isin(p.prompt, rows)), p.seeds)
        for p, rows in zip(played, group.rows, strict=True)
    ]
    oracle = float(cols["optimum"].sum())
    summed = add(totals)
    plain = float(cols["plain_seconds"].sum())
    base = row(
        summed,
        policy=played[0].entry.label,
        reset=str(played[0].settings["reset"]),
        domain=group.domain,
        speedup=speedup(plain, summed.seconds) if np.isfinite(plain) else None,
        regret_rounds=float(cols["regret"].sum()),
        oracle_rounds=oracle,
    )
    regret_seconds, oracle_seconds = float(cols["regret_seconds"].sum()), float(cols["optimum_seconds"].sum())
    intervals = {name: _estimate(group, cols, name).interval for name in _INTERVALS}
    extra: dict[str, Any] = {
        "trace": group.trace,
        "currency": group.currency,
        "seeds": played[0].seeds,
        "settings": played[0].settings,
        "fraction_of_optimum": oracle / summed.rounds if summed.rounds else None,
        "fraction_of_optimum_seconds": _share(oracle_seconds, summed.seconds),
        "regret_seconds": regret_seconds if np.isfinite(regret_seconds) else None,
        "oracle_seconds": oracle_seconds if np.isfinite(oracle_seconds) else None,
        "oracle_seconds_exact": all(o.optimum_seconds_exact for o in group.outcomes),
        "intervals": intervals,
    }
    mean = _mean_of_traces(group, cols) if len(group.outcomes) > 1 else None
    extra["fraction_of_optimum_mean_of_traces"] = None if mean is None else mean.value
    intervals["fraction_of_optimum_mean_of_traces"] = None if mean is None else mean.interval
    return base | extra


def _share(optimum: float, seconds: float | None) -> float | None:
    return optimum / seconds if seconds and np.isfinite(optimum) else None


def _estimate(group: Group, cols: dict[str, Values], name: str) -> Estimate:
    used, statistic = _INTERVALS[name]
    return group.clusters.estimate(np.stack([cols[c] for c in used], axis=1), statistic)


def _mean_of_traces(group: Group, cols: dict[str, Values]) -> Estimate:
    """Fraction of the optimum of each trace, averaged over traces: long texts do not count for more."""
    owner = np.repeat(np.arange(len(group.rows)), [len(r) for r in group.rows])
    parts = [cols[name] * (owner == t) for t in range(len(group.rows)) for name in ("optimum", "rounds")]
    return group.clusters.estimate(np.stack(parts, axis=1), mean_of_ratios)


def _paired(group: Group, cols: dict[str, Values], against: dict[str, Values]) -> dict[str, Any]:
    """Difference to the reference in tokens per round and per second, on the same prompts and the same noise.

    p_value: of the difference in the group's currency.
    variance_reduction: how many times smaller the variance of the paired difference is than that of independent runs.
    """
    out: dict[str, Any] = {}
    for name, bottom in (("tokens_per_round", "rounds"), ("tokens_per_second", "seconds")):
        four = (cols["emitted"], cols[bottom], against["emitted"], against[bottom])
        found = group.clusters.estimate(np.stack(four, axis=1), ratio_difference)
        out[name] = found.value if np.isfinite(found.value) else None
        out[f"{name}_interval"] = found.interval
        if bottom == group.currency:
            out |= {"p_value": found.p_value(), "variance_reduction": _reduction(group, four, found)}
    return out


def _reduction(group: Group, four: Sequence[NDArray[np.float64]], paired: Estimate) -> float | None:
    sides = [group.clusters.estimate(np.stack(four[i : i + 2], axis=1), ratio).replicates for i in (0, 2)]
    variance = float(paired.replicates.var())
    return float((sides[0].var() + sides[1].var()) / variance) if variance > 1e-18 else None


def add(parts: Sequence[Totals]) -> Totals:
    """The sum of totals over different texts; arms of the same name are taken together."""
    if len(parts) == 1:
        return parts[0]
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(Totals) if f.name != "arms"):
        numbers = [getattr(p, name) for p in parts]
        values[name] = None if any(n is None for n in numbers) else sum(numbers)
    arms: dict[str, float] = {}
    for part in parts:
        for arm, n in part.arms.items():
            arms[arm] = arms.get(arm, 0) + n
    return Totals(**values, arms=arms)
