"""Experiment e: how often MetaSD-UCB changes its drafter, what catching up costs, how often it plays the best arm."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.core.records import Rounds
from metasd.sim.compare.matrix import Matrix
from metasd.sim.oracle.rounds import best_fixed
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, found, over, rounds

SPECS = ("metasd-ucb", "metasd-ucb:beta=1", "sequential-halving", "random", "default:objective=rounds")
STEPS = (5, 10, 20, 40, 80)
"""Ends of the spans of rounds of a text over which the share of the best arm is told."""


def run(setting: Setting) -> Outcome:
    """Switches and catch-up by policy, then the share of the best arm as a text goes on."""
    outcome, matrix = Outcome(), Matrix(setting.trace)
    drafting = np.flatnonzero(~matrix.pool.plain)
    best = drafting[best_fixed(matrix.rounds[:, drafting], setting.trace.domains)[1]]
    shares = {}
    for spec in SPECS:
        kept = setting.play(spec, keep_rounds=True)
        counts = {k: kept.by_prompt(v) for k, v in kept.ledger.counts.items()}
        switched = over(100 * counts["switches"], rounds(kept))
        row: dict[str, Any] = {"policy": spec, "switches of 100 rounds": switched.value, "interval": switched.interval}
        row["re-read tokens of 100"] = over(100 * counts["catch_up"], counts["emitted"]).value
        row["catch-up, share of seconds"] = None
        if kept.ledger.timed:
            spent = kept.ledger.seconds_of()
            assert spent is not None
            caught = kept.by_prompt(kept.ledger.times["catch_up_seconds"])
            row["catch-up, share of seconds"] = over(caught, kept.by_prompt(spent)).value
            if spec == SPECS[0]:
                small = Claim("negligible in most experiments", "M", high=0.05)
                share = over(caught, kept.by_prompt(spent))
                outcome.findings.append(found("UCB, catch-up of all seconds", share, small, unit="share"))
        outcome.tables.setdefault("Switches and what they cost", []).append(row)
        hits, met = _hits(kept.rounds, kept.prompt, best, len(setting.trace), kept.seeds)
        shares[spec] = over(hits.sum(axis=1), met.sum(axis=1))
        spans = {f"to round {end}": _part(hits[:, i], met[:, i]) for i, end in enumerate(STEPS)}
        outcome.tables.setdefault("Share of the best drafter of the domain, by round", []).append(
            {"policy": spec} | spans
        )
        if spec == SPECS[0]:
            outcome.findings.append(found("UCB, switches of 100 rounds", switched, Claim("not recovered"), unit=""))
    below = Claim("stays below 80 %", "H", high=0.8)
    outcome.findings.append(
        found("UCB, rounds with the best drafter of the domain", shares[SPECS[0]], below, unit="share")
    )
    more = Claim("text: UCB finds it fastest; caption: SH has the higher share", "H")
    outcome.findings.append(found("SH, the same share", shares["sequential-halving"], more, unit="share"))
    return outcome


def _hits(
    kept: list[Rounds], prompt: np.ndarray, best: np.ndarray, prompts: int, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """[P, S] rounds with the best arm and rounds, by span of ``STEPS``, mean over seeds; later ones join the last."""
    hits, met = np.zeros((2, prompts, len(STEPS)))
    count = np.zeros(len(prompt), np.int64)
    for played in kept:
        of = prompt[played.prompt]
        span = np.minimum(np.searchsorted(STEPS, count[played.prompt], side="right"), len(STEPS) - 1)
        np.add.at(hits, (of, span), played.arm == best[of])
        np.add.at(met, (of, span), 1)
        count[played.prompt] += 1
    return hits / seeds, met / seeds


def _part(hits: np.ndarray, met: np.ndarray) -> float | None:
    return float(hits.sum() / met.sum()) if met.sum() else None
