"""From a comparison to the document people and programs read: rows with intervals, comparators, curves.

Every rate comes from ``Ledger.totals`` and ``metasd.core.results.row``; this module adds intervals and paired
differences
(``metasd.sim.compare.bootstrap``). A row that covers several traces sums over all their prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.ledger import Totals
from metasd.core.results import BEST_FIXED, row
from metasd.core.results import document as result_document
from metasd.sim.compare import curves as figures
from metasd.sim.compare.bootstrap import Estimate, Statistic, holm, mean_of_ratios, ratio, ratio_difference, total
from metasd.sim.compare.by_prompt import MOST_PROMPTS, by_prompt, learning
from metasd.sim.compare.comparators import RANGES, SHARE, comparator_rows
from metasd.sim.compare.groups import Columns, Group, groups
from metasd.sim.compare.outcome import Comparison, Played
from metasd.sim.oracle.regret import speedup

# rate -> its columns. A count of switches has no interval: mostly zeros, none tried held its level.
_RATES = {
    "tokens_per_round": ("emitted", "rounds"),
    "fraction_of_optimum": ("optimum", "rounds"),
    "tokens_per_second": ("emitted", "seconds"),
    "speedup": ("plain_seconds", "seconds"),
    "fraction_of_optimum_seconds": ("optimum_seconds", "seconds"),
}
# regret -> its column; the hindsight ones keep their old names beside the plain ones
_REGRETS = {
    "pseudo_regret_rounds": "regret_rounds",
    "pseudo_regret_seconds": "regret_seconds",
    "domain_pseudo_regret_rounds": "regret_rounds_domain",
    "domain_pseudo_regret_seconds": "regret_seconds_domain",
    "hindsight_regret_rounds": "regret_rounds_hindsight",
    "hindsight_regret_seconds": "regret_seconds_hindsight",
    "regret_rounds": "regret_rounds_hindsight",
    "regret_seconds": "regret_seconds_hindsight",
}


SHOWN_ROUNDS = 180_000
"""Rounds in the timelines of a document, of all policies and traces: three bytes each in a report."""


def document(comparison: Comparison, *, reference: str | None = None) -> dict[str, Any]:
    """The JSON document of a comparison.

    reference: label of the policy that differences are taken to; by default the best fixed arm of each trace
        (chosen in hindsight over all its prompts, so it is a hard comparator). Raises UsageError if it did not play.
    """
    labels = list(dict.fromkeys(p.entry.label for o in comparison.traces for p in o.policies))
    if reference is not None and reference not in labels:
        raise UsageError(f"reference {reference!r} did not play; choose one of {', '.join(labels)}")
    parts = max(len(comparison.traces), 1)
    rows = [r for group in groups(comparison.traces, len(labels)) for r in _group_rows(group, labels, reference)]
    return result_document(
        "compare",
        comparison.config | {"reference": reference or BEST_FIXED, "confidence": 0.95},
        rows,
        traces=[figures.facts(o) for o in comparison.traces],
        comparators=[r for o in comparison.traces for r in comparator_rows(o)],
        skipped=comparison.skipped,
        curves=[c for o in comparison.traces for c in figures.curves(o)],
        shares=[s for o in comparison.traces for s in figures.shares(o)],
        timelines=[t for o in comparison.traces for t in figures.timelines(o, SHOWN_ROUNDS // parts)],
        histograms=[h for o in comparison.traces for h in figures.histograms(o)],
        learning=[c for o in comparison.traces for c in learning(o)],
        by_prompt=[by_prompt(o, max(MOST_PROMPTS // parts, 1)) for o in comparison.traces],
    )


def _group_rows(group: Group, labels: Sequence[str], reference: str | None) -> list[dict[str, Any]]:
    """One row a policy that played on all of the group's traces.

    The reference's own row, and one that plays as it does, is no comparison: Holm's correction does not count it.
    """
    found = []
    for label in labels:
        played = [next((p for p in o.policies if p.entry.label == label), None) for o in group.outcomes]
        known = [p for p in played if p is not None]
        if len(known) == len(played):
            found.append((known, group.gather(known)))
    side = _reference(group, reference)
    against, linked = group.gather(side), _keeps(side)
    rows, own = [], []
    for entry, cols in found:
        own.append(all(bool((cols[c] == against[c]).all()) for c in ("emitted", group.currency)))
        paired = _paired(group, cols, against, linked=linked or _keeps(entry))
        rows.append(_row(group, entry, cols) | {"paired": paired})
    adjusted = holm([None if same else r["paired"]["p_value"] for r, same in zip(rows, own, strict=True)])
    for r, p in zip(rows, adjusted, strict=True):
        r["paired"]["p_holm"] = p
    return rows


def _keeps(played: Sequence[Played]) -> bool:
    """Whether the policy keeps what it learned, so that prompts of a run are linked."""
    return played[0].settings["reset"] != "prompt"


def _reference(group: Group, reference: str | None) -> list[Played]:
    """What differences are taken to: the named policy, or each trace's best fixed arm."""
    if reference is not None:
        return [next(p for p in o.policies if p.entry.label == reference) for o in group.outcomes]
    return [o.fixed[int(np.argmin(o.fixed_costs().sum(axis=0)))] for o in group.outcomes]


def _row(group: Group, played: Sequence[Played], cols: Columns) -> dict[str, Any]:
    totals = [
        p.ledger.totals(np.flatnonzero(np.isin(p.prompt, rows)), p.seeds)
        for p, rows in zip(played, group.rows, strict=True)
    ]
    sums = {name: known(c.mean(axis=0).sum()) for name, c in cols.items()}
    summed, plain = add(totals), sums["plain_seconds"]
    base = row(
        summed,
        policy=played[0].entry.label,
        reset=str(played[0].settings["reset"]),
        domain=group.domain,
        speedup=None if plain is None else speedup(plain, summed.seconds),
        oracle_rounds=sums["optimum"],
    )
    intervals = {
        name: _estimate(group, cols, played, used, ratio).within(*RANGES[name]) for name, used in _RATES.items()
    }
    intervals |= {name: _estimate(group, cols, played, (c,), total).interval for name, c in _REGRETS.items()}
    extra: dict[str, Any] = {name: sums[column] for name, column in _REGRETS.items()} | {
        "trace": group.trace,
        "currency": group.currency,
        "seeds": played[0].seeds,
        "runs": _runs(played, cols),
        "interval_unit": "run" if _keeps(played) else "prompt",
        "prompts_missing": group.clusters.missing,
        "settings": played[0].settings,
        "fraction_of_optimum": _share(sums["optimum"], summed.rounds),
        "fraction_of_optimum_seconds": _share(sums["optimum_seconds"], summed.seconds),
        "oracle_seconds": sums["optimum_seconds"],
        "oracle_seconds_gap": _gap(sums["optimum_seconds"], sums["reached_seconds"]),
        "oracle_seconds_exact": all(o.optimum_seconds_exact for o in group.outcomes),
        "intervals": intervals,
    }
    mean = _mean_of_traces(group, cols, played) if len(group.outcomes) > 1 else None
    extra["fraction_of_optimum_mean_of_traces"] = None if mean is None else mean.value
    intervals["fraction_of_optimum_mean_of_traces"] = None if mean is None else mean.within(*SHARE)
    return base | extra


def known(value: float) -> float | None:
    """``value``, None where it is not a number."""
    return float(value) if np.isfinite(value) else None


def _share(optimum: float | None, spent: float | None) -> float | None:
    return optimum / spent if spent and optimum is not None else None


def _gap(least: float | None, reached: float | None) -> float | None:
    """By which share what was shown to be reachable takes longer than the bound; None without a clock."""
    return reached / least - 1 if least and reached is not None else None


def _runs(played: Sequence[Played], cols: Columns) -> dict[str, Any]:
    """How much runs differ: the standard deviation over seeds of the rates; None for a single run.

    alike: whether every run was the same, so that seeds do nothing. None where there was one run only.
    """
    several = played[0].seeds > 1
    out: dict[str, Any] = {"alike": all(p.alike() for p in played) if several else None}
    for name, bottom in (("tokens_per_round", "rounds"), ("tokens_per_second", "seconds")):
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = cols["emitted"].sum(axis=1) / cols[bottom].sum(axis=1)
        out[f"{name}_sd"] = known(rates.std(ddof=1)) if several else None
    return out


def _estimate(
    group: Group, cols: Columns, played: Sequence[Played], used: Sequence[str], statistic: Statistic
) -> Estimate:
    return group.estimate([cols[c] for c in used], statistic, linked=_keeps(played))


def _mean_of_traces(group: Group, cols: Columns, played: Sequence[Played]) -> Estimate:
    """Fraction of the optimum of each trace, averaged over traces: long texts do not count for more."""
    owner = np.repeat(np.arange(len(group.rows)), [len(r) for r in group.rows])
    parts = [cols[name] * (owner == t) for t in range(len(group.rows)) for name in ("optimum", "rounds")]
    return group.estimate(parts, mean_of_ratios, linked=_keeps(played))


def _paired(group: Group, cols: Columns, against: Columns, *, linked: bool) -> dict[str, Any]:
    """Difference to the reference in tokens per round and per second, on the same prompts and the same noise.

    p_value: of the difference in the group's currency.
    variance_reduction: how many times smaller the variance of the paired difference is than that of independent runs.
    """
    out: dict[str, Any] = {}
    for name, bottom in (("tokens_per_round", "rounds"), ("tokens_per_second", "seconds")):
        four = (cols["emitted"], cols[bottom], against["emitted"], against[bottom])
        found = group.estimate(four, ratio_difference, linked=linked)
        out[name] = known(found.value)
        out[f"{name}_interval"] = found.interval
        if bottom == group.currency:
            apart = [group.estimate(pair, ratio, linked=False).error for pair in (four[:2], four[2:])]
            out |= {"p_value": found.p_value(), "variance_reduction": _reduction(apart, found.error)}
    return out


def _reduction(apart: Sequence[float | None], paired: float | None) -> float | None:
    if not paired or None in apart:
        return None
    return sum(e**2 for e in apart if e is not None) / paired**2


def add(parts: Sequence[Totals]) -> Totals:
    """The sum of totals over different texts; arms and sources of the same name are taken together."""
    if len(parts) == 1:
        return parts[0]
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(Totals) if f.name not in ("arms", "sources")):
        numbers = [getattr(p, name) for p in parts]
        values[name] = None if any(n is None for n in numbers) else sum(numbers)
    return Totals(**values, arms=_together([p.arms for p in parts]), sources=_together([p.sources for p in parts]))


def _together(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for name, n in part.items():
            found[name] = found.get(name, 0) + n
    return found
