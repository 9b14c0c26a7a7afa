"""What a page says beside its numbers: remarks, the gap of the optimum in seconds, replay against live; its size."""

from __future__ import annotations

import copy
from html import escape
from typing import Any

import numpy as np
import pytest
from hand_trace import POLICY, hand_trace

from metasd.core.costs import CostModel
from metasd.report.html.page import page
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare, default_policies
from metasd.traces import synthetic
from metasd.traces.alike import sentences


def body(made: dict[str, Any]) -> str:
    return page(made).partition("<script")[0]


@pytest.fixture(scope="module")
def timed() -> dict[str, Any]:
    return document(compare([hand_trace()], [POLICY], 1, workers=1))


def test_remarks_on_drafters_are_on_the_page(timed: dict[str, Any]) -> None:
    made = copy.deepcopy(timed)
    pair = {"drafter": "copy", "other": "<twin>", "positions": 9, "same": 1.0, "shared": 0.97}
    made["traces"][0]["notes"] += sentences([pair])
    assert len(made["traces"][0]["notes"]) >= 2
    for note in made["traces"][0]["notes"]:
        assert f'<p class="what note">{escape(note)}</p>' in body(made)
    assert "copy and &lt;twin&gt; are nearly one drafter: the same first token at 97.0%" in body(made)


def test_an_optimum_that_is_a_bound_names_its_gap(timed: dict[str, Any]) -> None:
    made = copy.deepcopy(timed)
    for row in made["results"]:
        row |= {"oracle_seconds_exact": False, "oracle_seconds_gap": 0.0345}
    said = "The optimum in seconds is a lower bound, so shares of it are too: at most 3.5% below the best."
    assert said in body(made)
    for row in made["results"]:
        row["oracle_seconds_exact"] = True
    assert "lower bound" not in body(made)


def run_document() -> dict[str, Any]:
    row = {"policy": "default", "reset": "prompt", "domain": "all", "prompts": 3, "seconds": 2.0, "switches": 4}
    row |= {"tokens_per_round": 2.5, "tokens_per_second": 31.0, "regret_rounds": None, "oracle_rounds": None}
    row |= {"speedup": 1.2}
    run = {"schema": 1, "command": "run", "versions": {"python": "3"}, "config": {"target": "t"}, "results": [row]}
    run |= {name: [] for name in ("traces", "comparators", "shares", "skipped", "curves", "timelines")}
    run |= {name: [] for name in ("histograms", "learning", "by_prompt")}
    run |= {"remarks": ["times <mean> nothing"], "losses": ["skip cost more than it saved"]}
    run["fidelity"] = {"rounds": 1234, "differing": 5, "texts_differing": 2}
    known = {"policy": "default", "predicted": 33.5, "live": 31.0, "error": 33.5 / 31 - 1}
    run["forecasts"] = [known, {"policy": "plain", "predicted": None, "live": 20.0, "error": None}]
    return run


def test_a_checked_run_shows_what_replay_promised() -> None:
    made = body(run_document())
    assert "1,234 rounds run, 5 of them differ from the replay; 2 texts differ from the recorded ones." in made
    for words in ("predicted, tokens/s", "live, tokens/s", "error of the prediction", "33.5", "+8.1%"):
        assert words in made
    assert '<p class="what note">times &lt;mean&gt; nothing</p><p class="what note">skip cost more' in made
    assert "<b>default</b>, with 31.0 tokens per second, 1.20 times plain decoding" in made
    unchecked = run_document() | {"fidelity": None, "forecasts": None}
    assert "Replay against live" not in body(unchecked)


def as_many_as_there_are(made: dict[str, Any], policies: int) -> dict[str, Any]:
    """``made``, of one policy, as if ``policies`` had played like it."""
    full, names = copy.deepcopy(made), [f"policy-number-{i:02}" for i in range(policies)]
    for part in ("results", "curves", "shares", "histograms", "learning"):
        full[part] = [{**row, "policy": name} for name in names for row in made[part]]
    for line in full["timelines"]:
        line["rounds"] = dict.fromkeys(names, line["rounds"]["metasd-ucb"])
        line["texts"] = [" token"] * len(line["tokens"])
    for line in full["by_prompt"]:
        for key in ("rounds", "seconds"):
            line[key] |= dict.fromkeys(names, line[key]["metasd-ucb"])
    return full


def test_a_page_of_all_policies_on_a_trace_like_the_reference_is_below_3_mb() -> None:
    """One policy plays for all: what takes room is how many there are, and of the trace, not what they decide."""
    trace = synthetic("two-language", prompts=96, length=128, arms=5, draft_length=8, seed=2)
    trace.domains = [f"domain-{i % 6}" for i in range(96)]
    names, flat = tuple(d.name for d in trace.drafters), np.full(5, 0.01)
    clock = CostModel(names, np.array([1.0, 9.0]), np.array([0.1, 0.12]), flat, flat, flat, flat)
    made = document(compare([trace], ["metasd-ucb"], 1, workers=1, costs=clock, reset="prompt"))
    size = len(page(as_many_as_there_are(made, len(default_policies()))).encode())
    assert 2_000_000 < size < 2_900_000  # 0.1 MB is left for settings: the real ones have more of them
