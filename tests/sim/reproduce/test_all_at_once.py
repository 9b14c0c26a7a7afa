"""All drafters in every round, held against choosing: on the shipped trace, by the trace's own clock and another."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.sim.replay.run import replay
from metasd.sim.reproduce.finding import REPRODUCED, Setting
from metasd.sim.reproduce.together import run
from metasd.traces import synthetic, take_prompts
from metasd.traces.find import REFERENCE, find_trace


def test_rounds_and_seconds_of_all_drafters():
    trace = take_prompts(find_trace(REFERENCE), np.arange(0, 48, 4))
    outcome = run(Setting(trace, 1, True))
    rows = outcome.tables["Every drafter in every round, against choosing"]
    assert [r["clock"] for r in rows] == ["the trace's own"] * 4 + ["gpu-b1"] * 4
    played = replay(trace, "draft-with-all")
    counts = {k: int(v.sum()) for k, v in played.ledger.counts.items()}
    assert rows[0]["policy"] == "draft-with-all"
    assert rows[0]["tokens per round"] == pytest.approx(counts["emitted"] / counts["rounds"])
    assert rows[0]["checked a round"] == pytest.approx(counts["checked"] / counts["rounds"])
    assert rows[4]["checked a round"] > 2 * rows[5]["checked a round"]  # a GPU's clock knows wide passes
    spent, plain = (replay(trace, spec).ledger.seconds_of().sum() for spec in ("draft-with-all", "fixed:arm=plain"))
    assert rows[0]["times plain, s"] == pytest.approx(plain / spent)
    said = {f.what: f for f in outcome.findings}
    assert said["all drafters over UCB, tokens per round (gpu-b1 clock)"].verdict == REPRODUCED
    assert said["planner over all drafters, tokens/s (gpu-b1 clock)"].value > 1.5


def test_a_trace_without_prompts_is_told():
    outcome = run(Setting(synthetic("iid", prompts=8, length=40, arms=2, draft_length=4), 1, True))
    assert (outcome.findings, outcome.tables) == ([], {})
    assert "prompts' tokens" in outcome.lacks
