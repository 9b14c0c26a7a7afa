"""All drafters in every round, held against choosing: on the shipped trace, by the trace's own clock and another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.sim.replay.run import replay
from metasd.sim.reproduce.every import _missing, run
from metasd.sim.reproduce.finding import REPRODUCED, Setting
from metasd.traces import synthetic, take_prompts
from metasd.traces.find import find_trace
from metasd.traces.shipped import REFERENCE


def test_rounds_and_seconds_of_all_drafters():
    trace = take_prompts(find_trace(REFERENCE), np.arange(0, 48, 4))
    outcome = run(Setting(trace, 1, True))
    rows = outcome.tables["Every drafter in every round, against choosing"]
    assert [r["clock"] for r in rows] == ["the trace's clock"] * 4 + ["clock gpu-b1"] * 4
    played = replay(trace, "draft-with-all")
    counts = {k: int(v.sum()) for k, v in played.ledger.counts.items()}
    assert rows[0]["policy"] == "draft-with-all"
    assert rows[0]["tokens per round"] == pytest.approx(counts["emitted"] / counts["rounds"])
    assert rows[0]["checked a round"] == pytest.approx(counts["checked"] / counts["rounds"])
    assert rows[4]["checked a round"] > 2 * rows[5]["checked a round"]  # a GPU's clock knows wide passes
    spent, plain = (replay(trace, spec).ledger.seconds_of().sum() for spec in ("draft-with-all", "fixed:arm=plain"))
    assert rows[0]["times plain, s"] == pytest.approx(plain / spent)
    said = {f.what: f for f in outcome.findings}
    assert said["all drafters over UCB, tokens per round (clock gpu-b1)"].verdict == REPRODUCED
    narrow = said["metasd-ucb over all drafters, tokens/s (the trace's clock)"]
    assert narrow.reason == "the clock knows passes of 9 tokens, all drafts need up to 41"
    assert said["planner over all drafters, tokens/s (clock gpu-b1)"].value > 1.5


def lacks(trace):
    return _missing(trace, CostModel.load(clocks.find(Path("gpu-b1"))))


def test_where_not_all_drafters_take_part_nothing_is_judged():
    whole = find_trace(REFERENCE)
    assert lacks(whole) == ""
    assert lacks(replace(whole, draft_tokens=None)) == "the trace does not say what skip drafts in a tree"
    models = [replace(d, free=False, kind="model") for d in whole.drafters]
    manifest = {k: v for k, v in whole.manifest.items() if k != "pool"}
    assert "the pool has several" in lacks(replace(whole, drafters=models, manifest=manifest))
    bare = [replace(d, kind="suffix") if d.name == "lookup" else d for d in whole.drafters]
    assert lacks(replace(whole, drafters=bare, manifest=manifest)) == "lookup suggests no branches"
    assert _missing(whole, None) == ""


def test_what_trees_cannot_be_made_of_is_told(tmp_path):
    outcome = run(Setting(synthetic("iid", prompts=8, length=40, arms=2, draft_length=4), 1, True))
    assert (outcome.findings, outcome.tables) == ([], {})
    assert "prompts' tokens" in outcome.lacks
    whole = take_prompts(find_trace(REFERENCE), np.arange(8))
    gone = replace(whole.drafters[1], settings=whole.drafters[1].settings | {"path": str(tmp_path / "gone")})
    drafters = [whole.drafters[0], gone, *whole.drafters[2:]]
    manifest = {k: v for k, v in whole.manifest.items() if k != "pool"}
    assert "gone" in run(Setting(replace(whole, drafters=drafters, manifest=manifest), 1, True)).lacks
