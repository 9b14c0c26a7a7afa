"""No interval of a rate leaves what the rate can be, however few and wild the runs: of rows and of comparators."""

from __future__ import annotations

import numpy as np

from metasd.core.costs import CostModel
from metasd.sim.compare.comparators import RANGES
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare
from metasd.traces import synthetic


def test_rates_are_never_negative_and_shares_at_most_one() -> None:
    """Two runs of policies that keep what they learned: Student's law with one degree of freedom is wide."""
    trace = synthetic("two-language", prompts=16, length=5, arms=3, draft_length=4, seed=2)
    names, none = tuple(d.name for d in trace.drafters), np.zeros(3)
    dear = np.array([0.0, 1.0, 3.0])  # seconds a draft, where a pass of the target takes 0.1
    clock = CostModel(names, np.array([1.0, 9.0]), np.array([0.1, 0.12]), dear, none, none, none)
    policies = ["random", "exp3", "thompson-beta", "tsallis-switch"]
    made = document(compare([trace], policies, 2, workers=1, reset="never", costs=clock))
    rows = [*made["results"], *made["comparators"]]
    ends = [(name, row["intervals"][name]) for row in rows for name in RANGES if row["intervals"].get(name)]
    assert len(ends) > 20
    assert all(RANGES[name][0] <= low <= high <= RANGES[name][1] for name, (low, high) in ends)
    assert any(low == 0 for _, (low, _) in ends)
    assert any(high == 1 for name, (_, high) in ends if "fraction" in name)
