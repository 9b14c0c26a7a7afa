"""The trace that ships with the package, and what every policy does on it, to the round."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import metasd
from metasd.sim.compare.run import default_policies
from metasd.sim.oracle.regret import rows
from metasd.sim.oracle.rounds import clairvoyant_rounds, fixed_arm_rounds
from metasd.sim.replay.run import replay
from metasd.traces import validate
from metasd.traces.find import find_trace
from metasd.traces.shipped import REFERENCE

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
LIMIT = 2_000_000  # bytes


def test_it_is_small_whole_and_varied() -> None:
    folder = Path(metasd.__file__).parent / "data" / "reference"
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) <= LIMIT
    assert validate(folder)
    trace = find_trace(REFERENCE)
    domains = Counter(trace.domains)
    assert len(domains) >= 6
    assert min(domains.values()) >= 8
    assert len(trace.drafters) >= 4
    assert trace.overlap is not None
    assert trace.signals is not None
    assert trace.costs is not None


def test_every_policy_has_golden_counts() -> None:
    assert set(GOLDEN) == set(default_policies()), "run python tools/golden.py"


@pytest.mark.parametrize("spec", GOLDEN)
def test_counts_are_golden(spec: str) -> None:
    """A change here is a change of behaviour; if it is meant, run ``python tools/golden.py`` and say why."""
    total = rows(replay(find_trace(REFERENCE), spec))[-1]
    assert {key: total[key] for key in GOLDEN[spec]} == GOLDEN[spec]
    assert total["oracle_rounds"] <= total["rounds"]


def test_no_policy_beats_the_optimum_on_any_prompt_and_none_is_needed_to_reach_the_best_arm() -> None:
    trace = find_trace(REFERENCE)
    pool = trace.pool()
    optimum, fixed = clairvoyant_rounds(trace, pool), fixed_arm_rounds(trace, pool)
    assert np.all(optimum <= fixed.min(axis=1))
    for spec in ("random", "metasd-ucb", "default", "hedgespec"):
        outcome = replay(trace, spec, seeds=2)
        assert np.all(outcome.ledger.rounds_of() >= optimum[outcome.prompt])
