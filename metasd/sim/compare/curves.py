"""The numbers behind the report's figures: regret by position, arm shares, timelines. Small, rounded, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.sim.compare.bootstrap import Clusters
from metasd.sim.compare.comparators import arms_differ
from metasd.sim.compare.job import POINTS, SHOWN_TOKENS, edges, shown_prompts
from metasd.sim.compare.notes import notes
from metasd.sim.compare.outcome import Played, TraceOutcome
from metasd.sim.oracle.rounds import best_fixed
from metasd.traces.alike import nearly_one

_DIGITS = 4
_SHARE_BINS = 16  # a divisor of POINTS; fewer than curves have, since shares are not cumulative


def facts(outcome: TraceOutcome) -> dict[str, Any]:
    """What a reader must know of a trace to judge results on it."""
    trace = outcome.trace
    config, pairs = trace.manifest.get("config", {}), nearly_one(trace)
    return {
        "name": outcome.name,
        "fingerprint": outcome.fingerprint,
        "target": config.get("target"),
        "prompts": len(trace),
        "tokens": int(trace.lengths.sum()),
        "domains": list(dict.fromkeys(trace.domains)),
        "arms": outcome.pool.names,
        "drafters": [d.name for d in outcome.pool.drafters],
        "arm_drafters": [a.drafter for a in outcome.pool.arms],
        "sampled": trace.sampled,
        "exact": trace.exact,
        "approximation": None if trace.exact else trace.manifest.get("approximation"),
        "clock": outcome.fixed_seconds() is not None,
        "arms_differ": arms_differ(outcome),
        "nearly_one": pairs,
        "notes": notes(outcome, pairs),
    }


def regret_curve(outcome: TraceOutcome, played: Played) -> NDArray[np.float64]:
    """[P, X + 1] rounds to reach each position beyond those of the prompt's best fixed arm.

    A finished prompt keeps its final regret, so the mean at the end is the row's regret_rounds over prompts.
    """
    P = len(outcome.trace)
    best = best_fixed(outcome.expected_rounds)[1]
    baseline = np.stack([p.starts for p in outcome.fixed], axis=1)[np.arange(P), best]
    ahead = np.cumsum(played.starts - baseline, axis=1)
    return np.concatenate([np.zeros((P, 1)), ahead], axis=1)


def curves(outcome: TraceOutcome) -> Iterator[dict[str, Any]]:
    """Mean hindsight regret over prompts by position with a pointwise 95 % band, one entry a policy.

    ``low`` and ``high`` are None where no band can be trusted: too few prompts, or prompts that are linked because the
    policy keeps what it learned.
    """
    clusters = Clusters(np.zeros(len(outcome.trace)))
    position = [*edges(outcome.trace).tolist(), int(outcome.trace.lengths.max(initial=0))]
    for played in outcome.policies:
        mean, half = clusters.band(regret_curve(outcome, played))
        if half is None or played.settings["reset"] != "prompt":
            values: dict[str, Any] = {"mean": _short(mean), "low": None, "high": None}
        else:
            values = {"mean": _short(mean), "low": _short(mean - half), "high": _short(mean + half)}
        yield {"trace": outcome.name, "policy": played.entry.label, "position": position, **values}


def shares(outcome: TraceOutcome) -> Iterator[dict[str, Any]]:
    """Share of each arm among the rounds begun in each bin of position; None where no round began."""
    wide = POINTS // _SHARE_BINS
    position = edges(outcome.trace)[::wide].tolist()
    for played in outcome.policies:
        rounds = played.arm_starts.reshape(len(outcome.pool), _SHARE_BINS, wide).sum(axis=2)
        total = rounds.sum(axis=0)
        with np.errstate(invalid="ignore"):
            share = np.where(total > 0, rounds / total, np.nan)
        by_arm = {name: _short(share[k]) for k, name in enumerate(outcome.pool.names)}
        yield {"trace": outcome.name, "policy": played.entry.label, "position": position, "arms": by_arm}


def timelines(outcome: TraceOutcome, most: int) -> Iterator[dict[str, Any]]:
    """The first prompt of each domain: its tokens, and every policy's rounds (position, arm, accepted, emitted).

    most: prompts at most, so that a comparison of many traces stays small.
    """
    trace = outcome.trace
    for p in shown_prompts(trace)[:most].tolist():
        low, high = int(trace.offsets[p]), int(trace.offsets[p + 1])
        rounds = {played.entry.label: played.shown[played.shown[:, 0] == p, 1:].tolist() for played in outcome.policies}
        yield {
            "trace": outcome.name,
            "id": trace.ids[p],
            "domain": trace.domains[p],
            "length": high - low,
            "tokens": np.asarray(trace.tokens[low : min(high, low + SHOWN_TOKENS)]).tolist(),
            "texts": None,
            "rounds": rounds,
        }


def _short(values: NDArray[np.float64]) -> list[float | None]:
    return [round(float(v), _DIGITS) if np.isfinite(v) else None for v in values]
