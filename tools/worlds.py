"""Play the default in the synthetic worlds of tests/policies/frontier/test_worlds.py at full size.

python tools/worlds.py [RUNS] [POLICY ...]

Regret of each of RUNS runs (100) on i.i.d. arms by trace seed and number of free drafters, then shares of the optimum
where the best arm changes. Some minutes a policy; ``docs/default-policy.md`` holds what it printed.
"""

from __future__ import annotations

import sys

import numpy as np

from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.run import replay
from metasd.traces import synthetic

RIVALS = ("metasd-ucb", "discounted-ucb", "fixed-share")


def still(spec: str, runs: int) -> None:
    """Median and worst regret where nothing changes, the runs side by side, each with its own order of the texts."""
    for seed, free in ((0, 0), (1, 0), (2, 2), (3, 5)):
        trace = synthetic("iid", prompts=20, length=256, seed=seed, free=free)
        outcome = replay(trace, spec, reset="never", seeds=runs)
        rounds = outcome.ledger.rounds_of()
        taken = np.array([rounds[outcome.seed == s].sum() for s in range(runs)])
        regret = taken - fixed_arm_rounds(trace, outcome.pool).sum(axis=0).min()
        print(f"{spec:22} iid seed {seed} free {free}: median {np.median(regret):.0f} worst {regret.max()}", flush=True)


def changing(spec: str) -> None:
    """Share of the optimum, kept and reset at every text."""
    for kind in ("drift", "two-language", "alternation", "flip"):
        for free in (0, 2, 5):
            trace = synthetic(kind, prompts=20, length=256, free=free)
            best = clairvoyant_rounds(trace, trace.pool()).sum() * 4
            plays = [replay(trace, spec, reset=reset, seeds=4) for reset in ("never", "prompt")]
            shares = [f"{100 * best / play.ledger.totals().rounds:5.1f}" for play in plays]
            print(f"{spec:22} {kind:13} free {free}: kept, reset {' '.join(shares)}", flush=True)
            if spec in RIVALS:  # which drafters are free makes no difference to them
                break


def main() -> None:
    """Everything, one policy after the other."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for spec in sys.argv[2:] or ("default", "default:watch=free", *RIVALS):
        if spec not in RIVALS:
            still(spec, runs)
        changing(spec)


if __name__ == "__main__":
    main()
