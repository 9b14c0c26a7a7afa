"""Synthetic worlds that every policy which can become the default must stand; ``tools/worlds.py`` runs them in full.

The bars are those of docs/default-policy.md, scaled to a few short texts: share of the clairvoyant optimum against the
best of three policies made for change, and the regret of the unluckiest of many runs where nothing changes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.run import replay
from metasd.traces import synthetic

DEFAULTS = ("default", "default:watch=free")
"""Every policy, with its settings, that can become the default."""

RIVALS = ("metasd-ucb", "discounted-ucb", "fixed-share")
SLACK = {"default": 3.0, "default:watch=free": 9.0}  # points of the optimum; watch=free sees one arm a round

CHANGING = {
    "drift": {},
    "two-language": {},
    "alternation": {},
    "flip": {"arms": 3},
}
STILL = {
    "iid": {},
    "near ties": {"alphas": (0.55, 0.6, 0.6, 0.62)},
    "one good": {"alphas": (0.1, 0.1, 0.8, 0.1)},
}


@lru_cache
def world(kind, free, **settings):
    law = {"near ties": "iid", "one good": "iid"}.get(kind, kind)
    how = {"prompts": 8, "length": 128, "arms": 4, "seed": 3} | settings
    return synthetic(law, overlap=True, free=free, **how)


def share(trace, spec, reset):
    outcome = replay(trace, spec, reset=reset, seeds=2)
    best = clairvoyant_rounds(trace, outcome.pool).sum() * 2
    return 100 * best / outcome.ledger.totals().rounds


@lru_cache
def bar(kind, reset):
    """What the best of the rivals reaches: none of them minds which drafters are free."""
    trace = world(kind, 0, **CHANGING[kind])
    return max(share(trace, spec, reset) for spec in RIVALS)


@pytest.mark.parametrize("spec", DEFAULTS)
@pytest.mark.parametrize("reset", ["prompt", "never"])
@pytest.mark.parametrize("kind", CHANGING)
def test_change_is_followed(kind, reset, spec):
    got = share(world(kind, 2, **CHANGING[kind]), spec, reset)
    assert got > bar(kind, reset) - SLACK[spec]


@pytest.mark.parametrize("spec", DEFAULTS)
@pytest.mark.parametrize("free", [0, 2])
@pytest.mark.parametrize("kind", STILL)
def test_no_run_locks_onto_the_wrong_arm(kind, free, spec):
    """16 runs side by side, each with its own order of the texts; one regret in all texts against the best arm."""
    trace = world(kind, free, **STILL[kind])
    runs = 16
    outcome = replay(trace, spec, reset="never", seeds=runs)
    rounds = outcome.ledger.rounds_of()
    taken = np.array([rounds[outcome.seed == s].sum() for s in range(runs)])
    regret = taken - fixed_arm_rounds(trace, outcome.pool).sum(axis=0).min()
    assert regret.max() <= max(3 * np.median(regret), 0.15 * taken.mean())  # the second: a short run is luck
