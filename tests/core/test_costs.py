"""The cost model: parts add up, unknown drafters are refused, files round-trip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.core.pool import DrafterInfo, Pool

MODEL = CostModel(
    drafters=("a", "m"),
    widths=np.array([1.0, 2.0, 4.0, 9.0]),
    verify_seconds=np.array([1.0, 2.0, 1.5, 2.5]),
    draft_fixed=np.array([0.1, 0.2]),
    draft_per_token=np.array([0.0, 1.0]),
    catch_up_fixed=np.array([0.0, 0.5]),
    catch_up_per_token=np.array([0.0, 0.25]),
    context=100.0,
    verify_per_context=0.01,
)
POOL = Pool(
    [DrafterInfo("m", "model", False, False), DrafterInfo("a", "lookup", True, True)], [(0, 3), (1, 8), (-1, 0)]
)


def test_expected_cost_is_the_sum_of_the_parts() -> None:
    cost = MODEL.expected(POOL, remaining=np.array([50]), context=np.array([100]), lag=np.array([[4, 0]]))
    model = MODEL.verify(np.array([3]), np.array([100])) + 0.2 + 3 * 1.0 + 0.5 + 4 * 0.25
    assert cost[0].tolist() == pytest.approx([float(model[0]), 2.5 + 0.1, 1.0])


def test_a_round_near_the_budget_is_cheaper_and_a_longer_context_dearer() -> None:
    args = {"context": np.array([100]), "lag": np.array([[0, 0]])}
    assert MODEL.expected(POOL, remaining=np.array([1]), **args)[0].tolist() == pytest.approx([1.0, 1.0, 1.0])
    longer = MODEL.expected(POOL, np.array([50]), np.array([200]), np.array([[0, 0]]))
    assert (longer - MODEL.expected(POOL, np.array([50]), np.array([100]), np.array([[0, 0]])))[0] == pytest.approx(1.0)


def test_it_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    MODEL.save(path)
    again = CostModel.load(path)
    assert again.to_json() == MODEL.to_json()


def test_a_foreign_file_and_a_missing_drafter_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"schema": 99}))
    with pytest.raises(TraceError, match="schema 99"):
        CostModel.load(path)
    path.write_text("not json")
    with pytest.raises(TraceError, match=r"costs\.json"):
        CostModel.load(path)
    other = Pool([DrafterInfo("new", "lookup", True, True)], [(0, 3)])
    with pytest.raises(TraceError, match="'new'"):
        MODEL.columns(other)


def test_a_share_of_a_pass_of_several_texts_is_that_of_a_wider_one() -> None:
    names, one = ("a",), np.ones(1)
    widths, seconds = np.array([1.0, 4.0, 8.0, 16.0]), np.array([1.0, 1.6, 2.0, 3.6])
    costs = CostModel(names, widths, seconds, one, one, one, one, context=10.0, verify_per_context=0.01, overhead=0.4)
    lanes, drafted = 4, np.array([0, 1, 3])
    share = costs.shared(lanes)
    whole = np.array([1.6, 2.0, 3.6]) + 0.4  # passes of 4, 8 and 16 tokens
    assert share.verify(drafted, np.full(3, 10)) == pytest.approx(whole / lanes)
    assert share.verify(drafted, np.full(3, 30)) == pytest.approx(whole / lanes + 20 * 0.01), "its own context"
    assert share.draft(np.array([0]), np.array([2])) == costs.draft(np.array([0]), np.array([2]))
    assert costs.shared(1).to_json() == costs.to_json()
