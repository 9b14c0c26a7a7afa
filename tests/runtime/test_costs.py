"""Costs of live runs: measured once, kept under all that they depend on, and never believed blindly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.errors import TraceError
from metasd.core.pool import Pool
from metasd.drafters import LookupDrafter
from metasd.runtime import costs, kept
from metasd.runtime.load import Target


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "metasd" / "costs"


def build(length: int = 3) -> tuple[list[Any], Pool]:
    drafters = [LookupDrafter(draft_length=length)]
    return drafters, Pool([d.info for d in drafters], [(0, length), (-1, 0)])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Measuring takes no time and finds another number every time."""
    made: list[float] = []

    def measure(target: Target, drafters: Any, pool: Pool, text: list[int], **how: Any) -> CostModel:
        made.append(float(len(made) + 1))
        zero = np.zeros(len(drafters))
        about = {"date": f"2031-01-0{len(made)}T12:00:00", "machine": {}}
        names = tuple(d.info.name for d in drafters)
        return CostModel(names, np.array([1.0]), np.array(made[-1:]), zero, zero, zero, zero, measured=about)

    monkeypatch.setattr(costs, "measure_costs", measure)
    return made


def seconds(found: costs.Known) -> float:
    assert found.costs is not None
    return float(found.costs.verify_seconds[0])


def test_measured_once_and_read_again(target: Target, measured: list[float], home: Path) -> None:
    first = costs.known("auto", ["default"], target, build)
    again = costs.known("auto", ["default"], target, build)
    assert (seconds(first), seconds(again), len(measured)) == (1.0, 1.0, 1)
    assert again.said is not None and "measured 2031-01-01T12:00:00" in again.said  # noqa: PT018
    assert seconds(costs.known("measure", ["fixed:arm=lookup"], target, build)) == 2.0
    assert seconds(costs.known("auto", ["default"], target, build)) == 2.0
    assert [name for name, _ in kept.kept("costs")] == [file.name for file in home.iterdir()]
    assert CostModel.load(next(home.iterdir())).measured["key"]["draft_lengths"] == [3]


def test_whatever_they_depend_on_gives_others(
    target: Target, measured: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs.known("auto", ["default"], target, build)
    costs.known("auto", ["default"], target, lambda: build(4))
    costs.known("auto", ["default"], replace(target, revision="other"), build)
    monkeypatch.setattr(costs, "machine", lambda device: {"threads": 99})
    costs.known("auto", ["default"], target, build)
    assert len(measured) == 4


def test_only_policies_that_weigh_time_are_measured_for(target: Target, measured: list[float]) -> None:
    for policy in (
        "fixed:arm=plain",
        "fixed:arm=lookup",
        "metasd-ucb",
        "default:objective=rounds",
        "planner:objective=rounds",
    ):
        assert costs.known("auto", [policy], target, build) == costs.Known(None)
    assert costs.known("none", ["default"], target, build) == costs.Known(None)
    assert costs.known("auto", ["default"], target, lambda: ([], Pool([], [(-1, 0)]))) == costs.Known(None)
    assert measured == []
    costs.known("auto", ["default"], target, build)
    assert len(measured) == 1
    for policy in ("default", "planner", "ratio-ucb", "goodput"):
        assert costs.known("auto", [policy], target, build).costs is not None
    for policy in ("default", "planner", "ratio-ucb", "goodput"):
        costs.known("measure", [policy], target, build)
    assert len(measured) == 5


@pytest.mark.parametrize("change", ["cut", "foreign", "shape"])
def test_a_kept_file_that_is_of_no_use_is_replaced(
    target: Target, measured: list[float], home: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    costs.known("auto", ["default"], target, build)
    file = next(home.iterdir())
    data = json.loads(file.read_text())
    data["measured"]["key"]["machine" if change == "foreign" else "cut"] = {}
    data["verify_seconds"] = [1.0, 2.0] if change == "shape" else data["verify_seconds"]
    file.write_text(json.dumps(data)[: 40 if change == "cut" else None])
    assert seconds(costs.known("auto", ["default"], target, build)) == 2.0
    said = "of another machine or model" if change == "foreign" else "not a costs file"
    err = capsys.readouterr().err
    assert f"costs: {file.name} in the cache folder is {said}" in err
    assert seconds(costs.known("auto", ["default"], target, build)) == 2.0


def test_a_file_or_costs_that_are_given_are_taken(target: Target, measured: list[float], tmp_path: Path) -> None:
    made = costs.known("measure", ["default"], target, build).costs
    assert made is not None
    made.save(tmp_path / "mine.json")
    assert seconds(costs.known(tmp_path / "mine.json", ["default"], target, build)) == 1.0
    assert costs.known(made, ["default"], target, build).costs is made
    with pytest.raises(TraceError, match="mesure"):
        costs.known("mesure", ["default"], target, build)
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_costs_the_measurement_only(
    target: Target, measured: list[float], home: Path
) -> None:
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder should be")
    found = costs.known("auto", ["default"], target, build)
    assert seconds(found) == 1.0
    assert found.said is not None and "not kept" in found.said  # noqa: PT018


def test_a_real_measurement_is_short_and_says_what_of(target: Target) -> None:
    found = costs.known("auto", ["default"], target, build).costs
    assert found is not None
    assert found.widths.tolist() == [1, 2, 3, 4]
    assert (found.verify_seconds > 0).all()
    assert {"date", "machine", "versions", "key"} <= set(found.measured)
    assert found.measured["machine"]["threads"] == found.measured["key"]["machine"]["threads"]
