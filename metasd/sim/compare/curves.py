"""The numbers behind the report's figures: regret by position, arm shares, timelines. Small, rounded, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.results import ALL
from metasd.sim.compare.bootstrap import Clusters
from metasd.sim.compare.comparators import arms_differ
from metasd.sim.compare.notes import notes
from metasd.sim.compare.outcome import Played, TraceOutcome
from metasd.sim.compare.sums import POINTS, SHOWN_TOKENS, curve_prompts, edges, shown_prompts
from metasd.sim.oracle.rounds import best_fixed
from metasd.traces import Trace, texts
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
        "texts": _why_no_texts(trace),
    }


def _why_no_texts(trace: Trace) -> str | None:
    """Why timelines show token numbers instead of words; None where they do not."""
    if texts.kept(trace):
        return None
    if "law" in trace.manifest.get("config", {}):
        return "a synthetic trace has no words"
    return "the trace keeps no texts; metasd trace text DIR --tokenizer NAME adds them"


# name of a regret -> whether it is in seconds, and whether against the best arm of each prompt rather than of all
REGRETS = {
    "pseudo_regret_seconds": (True, False),
    "hindsight_regret_seconds": (True, True),
    "pseudo_regret_rounds": (False, False),
    "hindsight_regret_rounds": (False, True),
}


def regret_curve(
    outcome: TraceOutcome, played: Played, *, seconds: bool = False, hindsight: bool = True
) -> NDArray[np.float64]:
    """[Q, X + 1] of ``curve_prompts``, rounds (or seconds) to reach each position beyond those of the best fixed arm.

    hindsight: the best arm of each prompt, else that of all prompts together. A finished prompt keeps its final regret,
    so the end summed over prompts is the row's regret of that name.
    """
    rows = curve_prompts(outcome.trace)
    known = outcome.fixed_seconds() if seconds else None
    costs = outcome.expected_rounds if known is None else known
    best = best_fixed(costs, None if hindsight else [ALL] * len(outcome.trace))[1][rows]
    name = "start_seconds" if seconds else "starts"
    baseline = np.stack([getattr(p, name) for p in outcome.fixed], axis=1)[np.arange(len(rows)), best]
    ahead = np.cumsum(getattr(played, name) - baseline, axis=1)
    return np.concatenate([np.zeros((len(rows), 1)), ahead], axis=1)


def curves(outcome: TraceOutcome) -> Iterator[dict[str, Any]]:
    """Mean regret over prompts by position with a pointwise 95 % band, one entry a policy.

    ``regrets`` has one curve a name of ``REGRETS``, those in seconds where a clock is known; ``mean``, ``low`` and
    ``high`` are of hindsight regret in rounds. ``low`` and ``high`` are None where no band can be trusted: too few
    prompts, or prompts that are linked because the policy keeps what it learned.
    """
    clusters = Clusters(np.zeros(len(curve_prompts(outcome.trace))))
    position = [*edges(outcome.trace).tolist(), int(outcome.trace.lengths.max(initial=0))]
    names = {n: how for n, how in REGRETS.items() if outcome.currency == "seconds" or not how[0]}
    for played in outcome.policies:
        made = {n: _curve(outcome, played, clusters, *how) for n, how in names.items()}
        head = {"trace": outcome.name, "policy": played.entry.label, "position": position}
        yield head | made["hindsight_regret_rounds"] | {"regrets": made}


def _curve(outcome: TraceOutcome, played: Played, clusters: Clusters, seconds: bool, hindsight: bool) -> dict[str, Any]:
    mean, half = clusters.band(regret_curve(outcome, played, seconds=seconds, hindsight=hindsight))
    if half is None or played.settings["reset"] != "prompt":
        return {"mean": _short(mean), "low": None, "high": None}
    return {"mean": _short(mean), "low": _short(mean - half), "high": _short(mean + half)}


def histograms(outcome: TraceOutcome) -> Iterator[dict[str, Any]]:
    """Rounds of a run by what they came to: ``undrafted`` drafted nothing, ``accepted[n]`` had n draft tokens kept."""
    for played in outcome.policies:
        undrafted, *accepted = _short(played.accepted.astype(np.float64))
        head = {"trace": outcome.name, "policy": played.entry.label}
        yield head | {"undrafted": undrafted, "accepted": accepted}


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
    """Prompts round by round: tokens, their texts, and every policy's rounds (position, arm, accepted, emitted) of the
    first seed. The first prompt of each domain comes first, then the second of each.

    most: rounds at most, of all policies; one prompt is always there.
    """
    trace = outcome.trace
    which = shown_prompts(trace).tolist()
    spelled = texts.read(trace, [trace.ids[p] for p in which])
    for p in which:
        low, high = int(trace.offsets[p]), int(trace.offsets[p + 1])
        rounds = {played.entry.label: played.shown[played.shown[:, 0] == p, 1:].tolist() for played in outcome.policies}
        most -= sum(map(len, rounds.values()))
        yield {
            "trace": outcome.name,
            "id": trace.ids[p],
            "domain": trace.domains[p],
            "length": high - low,
            "tokens": np.asarray(trace.tokens[low : min(high, low + SHOWN_TOKENS)]).tolist(),
            "texts": None if spelled is None else spelled[1][trace.ids[p]][:SHOWN_TOKENS],
            "rounds": rounds,
        }
        if most <= 0:
            return


def _short(values: NDArray[np.float64]) -> list[float | None]:
    return [round(float(v), _DIGITS) if np.isfinite(v) else None for v in values]
