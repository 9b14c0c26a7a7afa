"""Experiment b: block divergence against block efficiency as feedback: variance, zeros, gap, ratio, end result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from metasd.core.records import Floats, Ints, Rounds
from metasd.core.rewards import REWARDS
from metasd.sim.compare.bootstrap import Values
from metasd.sim.replay.drafts import Outcomes
from metasd.sim.replay.run import Replay, replay
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, estimate, found, over, times
from metasd.sim.theory.feedback import Moments, feedback_ratio

BD, BE = "block_divergence", "block_efficiency"


def run(setting: Setting) -> Outcome:
    """Rewards of every drafter played alone, then MetaSD-UCB under either. Empty for a trace without overlap."""
    outcome = Outcome()
    trace = setting.trace
    if trace.overlap is None:
        outcome.lacks = "the trace has no overlap"
        return outcome
    pool = trace.pool()
    alone = {a.name: replay(trace, f"fixed:arm={a.name}", keep_rounds=True) for a in pool.arms if a.drafter >= 0}
    sums = {name: {r: _sums(each, r) for r in (BD, BE)} for name, each in alone.items()}
    order = sorted(alone, key=lambda name: alone[name].ledger.rounds_of().sum())
    best = order[0]
    n, zeros = sums[best][BE][:, 0], sums[best][BE][:, 3]
    half = Claim("about half of all rounds, for the best drafter", "M", low=0.35, high=0.65)
    outcome.findings.append(found(f"BE, share of zero rewards ({best})", over(zeros, n), half, unit="share"))
    fewer = Claim("BD has fewer zeros", "M", high=0)
    apart = estimate(np.stack([n, zeros, sums[best][BD][:, 3]], axis=1), lambda s: (s[..., 2] - s[..., 1]) / s[..., 0])
    outcome.findings.append(found(f"zeros, BD minus BE ({best})", apart, fewer, unit="share"))
    less = Claim("BD has the lower variance", "M", high=1)
    both = np.concatenate([sums[best][BD], sums[best][BE]], axis=1)
    varied = estimate(both, lambda s: _variance(s[..., :4]) / _variance(s[..., 4:]))
    outcome.findings.append(found(f"variance, BD over BE ({best})", varied, less))
    outcome.findings += [_gap(sums, best, other) for other in order[1:2]]
    stronger = 0
    for other in order[1:]:
        row: dict[str, Any] = {"best": best, "other": other}
        for reward, short in ((BD, "BD"), (BE, "BE")):
            a, b = _moments(sums[best][reward]), _moments(sums[other][reward])
            row |= {f"{short} gap": a.mean - b.mean, f"{short} R": feedback_ratio(b, a)}
        stronger += row["BD R"] > row["BE R"]
        row["gaps of one sign"] = "yes" if (row["BD gap"] > 0) == (row["BE gap"] > 0) else "no"
        outcome.tables.setdefault("Feedback ratio of the best drafter and each other", []).append(row)
    for name in order:
        row = {"drafter": name}
        for reward, short in ((BD, "BD"), (BE, "BE")):
            m = _moments(sums[name][reward])
            row |= {f"{short} mean": m.mean, f"{short} variance": m.variance, f"{short} zeros": m.zeros}
        outcome.tables.setdefault("Rewards of each drafter alone", []).append(row)
    for beta in (0.1, 1.0):
        ours, theirs = (setting.play(f"metasd-ucb:beta={beta},reward={r}") for r in (BD, BE))
        claim = Claim("BD better than BE, small models", "M", low=1)
        outcome.findings.append(found(f"UCB with BD over BE, beta {beta:g}", times(ours, theirs), claim))
    return outcome


def _gap(sums: dict[str, dict[str, Floats]], best: str, other: str) -> Any:
    """The gap in BD over the gap in BE, of the best drafter and the next."""
    columns = np.concatenate([sums[name][reward][:, :2] for reward in (BD, BE) for name in (best, other)], axis=1)

    def gaps(s: Values) -> Values:
        means = [s[..., 2 * i + 1] / s[..., 2 * i] for i in range(4)]
        return np.asarray((means[0] - means[1]) - (means[2] - means[3]))

    wider = Claim("BD has the larger mean gap", "M", low=0)
    return found(f"gap of {best} to {other}, BD minus BE", estimate(columns, gaps), wider, unit="reward")


def _sums(alone: Replay, reward: str) -> Floats:
    """[P, 4] rounds, sum, sum of squares and number of zeros of the reward, by prompt."""
    out, outcomes = np.zeros((len(alone.trace), 4)), Outcomes(alone.trace, alone.pool)
    for played in alone.rounds:
        of = alone.prompt[played.prompt]
        value = REWARDS[reward](_with_overlap(alone, outcomes, played, of) if reward == BD else played, alone.pool)
        np.add.at(out, of, np.stack([np.ones_like(value), value, value**2, value == 0], axis=1))
    return out


def _with_overlap(alone: Replay, outcomes: Outcomes, played: Rounds, prompt: Ints) -> Rounds:
    """``played`` with the overlap of what was drafted: a fixed arm learns from nothing, so it is not handed any."""
    row = np.asarray(alone.trace.offsets)[prompt] + played.position
    cell = row * len(alone.pool.drafters) + alone.pool.drafter_of[played.arm]
    overlap = outcomes.overlap(cell, played.drafted, played.accepted, played.stop)
    return replace(played, overlap=overlap)


def _variance(sums: Values) -> Values:
    return np.asarray(sums[..., 2] / sums[..., 0] - (sums[..., 1] / sums[..., 0]) ** 2)


def _moments(by_prompt: Floats) -> Moments:
    s = by_prompt.sum(axis=0)
    return Moments(float(s[1] / s[0]), float(_variance(s)), float(s[3] / s[0]))
