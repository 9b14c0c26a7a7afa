"""Measured regret of MetaSD-UCB on i.i.d. arms beside its bound, by reward, beta and length of the text.

python tools/regret.py [--prompts 200] [--lengths 64,256,1024]   # docs/theory.md holds what it printed

Five drafters of acceptance rates 0.7, 0.4, 0.4, 0.35, 0.3 at draft length 5. Regret is in rounds beyond the best
drafter's on the same texts, with the half-width of its 95 % interval over texts; share: rounds given to the best.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from scipy.stats import t as student

from metasd.policies.base import Policy
from metasd.sim.replay.run import replay
from metasd.sim.theory.feedback import feedback_ratio, moments
from metasd.sim.theory.growth import regret_bound
from metasd.traces import Trace, synthetic

ALPHAS = (0.7, 0.4, 0.4, 0.35, 0.3)
G = 5
SHORT = {"block_divergence": "BD", "block_efficiency": "BE"}
BETAS = {"block_divergence": (0.0, 0.05, 0.2, 1 / math.sqrt(G), 1.0), "block_efficiency": (0.0, 0.05, 0.1, 1.0)}


def measured(trace: Trace, policy: str | Policy) -> tuple[float, float, float, float]:
    """(rounds of the best drafter, regret, half-width of its 95 % interval, share of rounds of the best drafter)."""
    ours, best = replay(trace, policy), replay(trace, "fixed:arm=arm0")
    lost = ours.by_prompt(ours.ledger.rounds_of()) - best.by_prompt(best.ledger.rounds_of())
    half = float(student.isf(0.025, len(lost) - 1)) * lost.std(ddof=1) / math.sqrt(len(lost))
    rounds = ours.ledger.arms.sum(axis=0)
    return float(best.by_prompt(best.ledger.rounds_of()).mean()), float(lost.mean()), half, rounds[0] / rounds.sum()


def regrets(prompts: int, lengths: list[int]) -> None:
    """The table of regrets and bounds."""
    for length in lengths:
        trace = synthetic("iid", prompts=prompts, length=length, arms=len(ALPHAS), draft_length=G, alphas=ALPHAS)
        for reward, betas in BETAS.items():
            for beta in betas:
                best, lost, half, share = measured(trace, f"metasd-ucb:beta={beta},reward={reward}")
                bound = regret_bound(np.array([*ALPHAS, 0.0]), G, length, reward=reward, beta=beta)
                says = f"{bound:,.0f}" if bound < length - best else "nothing"
                row = f"{length:6} {best:7.1f} {SHORT[reward]} {beta:5.2f} {lost:8.1f} ± {half:4.1f} {share:5.0%}"
                print(row, f"{says:>8}", flush=True)


def strengths() -> None:
    """The feedback ratio of both rewards, overlaps being 0 or 1, over pairs of acceptance rates."""
    grid = np.round(np.arange(0.05, 1.0, 0.05), 2)
    for length in (2, 3, 5, 8):
        ratio = {}
        for reward in SHORT:
            found = {a: moments(float(a), length, reward) for a in grid}
            ratio[reward] = np.array([feedback_ratio(found[a], found[b]) for b in grid for a in grid if a < b])
        wins = ratio["block_divergence"] > ratio["block_efficiency"]
        high = np.array([b >= 0.5 for b in grid for a in grid if a < b])
        print(f"G = {length}: BD says more in {wins.mean():.0%} of pairs, in {wins[high].mean():.0%} with best >= 0.5")


def main() -> None:
    """Both tables."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--prompts", type=int, default=200)
    arguments.add_argument("--lengths", default="64,256,1024,16384")
    given = arguments.parse_args()
    strengths()
    print("tokens    best reward beta  regret        share    bound")
    regrets(given.prompts, [int(n) for n in given.lengths.split(",")])


if __name__ == "__main__":
    main()
