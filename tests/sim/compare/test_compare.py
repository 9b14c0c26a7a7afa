"""Comparisons: rows as replay gives them, in any number of processes, resumed cell by cell."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.policies import POLICIES
from metasd.policies.rules import Fixed
from metasd.sim.compare import job as cells
from metasd.sim.compare.curves import regret_curve
from metasd.sim.compare.job import JobOutcome, play
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.outcome import Comparison
from metasd.sim.compare.run import compare, default_policies
from metasd.sim.oracle.regret import rows
from metasd.sim.replay.run import replay
from metasd.traces import Trace, save_trace, synthetic


def small(seed: int = 0, **more: Any) -> Trace:
    return synthetic("two-language", prompts=6, length=40, arms=3, draft_length=4, seed=seed, **more)


def without_versions(made: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in made.items() if k != "versions"}, sort_keys=True)


def rows_of(made: dict[str, Any], policy: str, domain: str = "all") -> dict[str, Any]:
    return next(r for r in made["results"] if r["policy"] == policy and r["domain"] == domain)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_are_those_of_replay(temperature: float, seeds: int) -> None:
    trace = small(temperature=temperature)
    made = document(compare([trace], ["random", "metasd-ucb"], seeds, workers=1))
    for policy in ("random", "metasd-ucb"):
        for expected in rows(replay(trace, policy, seeds=seeds)):
            found = rows_of(made, policy, expected["domain"])
            for name in ("regret_rounds", "hindsight_regret_rounds"):
                assert found[name] == pytest.approx(expected.pop(name))
            assert found["oracle_rounds"] == pytest.approx(expected.pop("oracle_rounds"))
            assert {k: found[k] for k in expected} == expected


def test_seed_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = document(compare([small()], ["random"], 5, workers=1))
    monkeypatch.setattr("metasd.sim.compare.run.SEED_BLOCK", 2)
    assert without_versions(document(compare([small()], ["random"], 5, workers=1))) == without_versions(whole)


def test_processes_change_nothing(outcome: Comparison) -> None:
    trace = outcome.traces[0].trace
    spread = compare([trace], outcome.config["policies"], 3, workers=2)
    assert without_versions(document(spread)) == without_versions(document(outcome))


def test_resume_plays_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compare([small()], ["random", "metasd-ucb"], 3, workers=1, resume_dir=tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert all(path.suffix == ".npz" for path in kept)
    kept[0].unlink()
    played = []
    monkeypatch.setattr("metasd.sim.compare.workers.play", lambda job: played.append(job.spec) or play(job))
    again = compare([small()], ["random", "metasd-ucb"], 3, workers=1, resume_dir=tmp_path)
    assert len(played) == 1
    assert sorted(tmp_path.iterdir()) == kept
    assert without_versions(document(again)) == without_versions(document(first))


def test_another_setting_is_another_cell(tmp_path: Path) -> None:
    compare([small()], ["random"], 1, workers=1, resume_dir=tmp_path)
    before = len(list(tmp_path.iterdir()))
    compare([small()], ["random"], 1, workers=1, resume_dir=tmp_path, reset="never")
    compare([small(seed=1)], ["random"], 1, workers=1, resume_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 * before


def test_a_cell_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = cells.Job(small(), "x", "random", 0, 2)
    cell, path = play(job), tmp_path / "cell.npz"

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("metasd.core.files.os.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        cell.save(path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    cell.save(path)
    back = JobOutcome.load(path)
    assert back.config == job.config()
    np.testing.assert_array_equal(back.arms, cell.arms)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"cell\.npz is not a result"):
        JobOutcome.load(path)


def test_regret_curve_ends_at_the_row(outcome: Comparison, made: dict[str, Any]) -> None:
    for played in outcome.traces[0].policies:
        curve = regret_curve(outcome.traces[0], played)
        row = rows_of(made, played.entry.label)
        assert curve[:, -1].sum() == pytest.approx(row["regret_rounds"])
        assert (curve[:, 0] == 0).all()


def test_yardsticks_are_ordered(made: dict[str, Any]) -> None:
    rounds = {c["comparator"]: c["rounds"] for c in made["comparators"] if c["comparator"] != "fixed arm"}
    single = [c["rounds"] for c in made["comparators"] if c["comparator"] == "fixed arm"]
    best, domain, prompt, optimum = rounds.values()
    assert best == min(single)
    assert best >= domain >= prompt >= optimum
    for row in made["results"]:
        assert row["oracle_rounds"] <= row["rounds"]
        assert row["fraction_of_optimum"] == row["oracle_rounds"] / row["rounds"]


def test_a_fixed_arm_has_no_difference_to_itself(outcome: Comparison) -> None:
    trace, pool = outcome.traces[0].trace, outcome.traces[0].pool
    best = pool.names[int(outcome.traces[0].fixed_rounds.sum(axis=0).argmin())]
    made = document(compare([trace], [f"fixed:arm={best}", "random"], 2, workers=1))
    paired = rows_of(made, f"fixed:arm={best}")["paired"]
    assert (paired["tokens_per_round"], paired["tokens_per_round_interval"], paired["p_value"]) == (0, [0, 0], 1)
    assert paired["variance_reduction"] is None
    assert paired["p_holm"] is None  # the reference's own row is no comparison, and leaves the other's p as it is
    other = rows_of(made, "random")["paired"]
    assert other["p_holm"] == other["p_value"]


def test_reference_can_be_a_policy(outcome: Comparison) -> None:
    made = document(outcome, reference="random")
    assert rows_of(made, "random")["paired"]["tokens_per_round"] == 0
    gap = rows_of(made, "metasd-ucb")["tokens_per_round"] - rows_of(made, "random")["tokens_per_round"]
    assert rows_of(made, "metasd-ucb")["paired"]["tokens_per_round"] == pytest.approx(gap)
    with pytest.raises(UsageError, match="'nobody' did not play"):
        document(outcome, reference="nobody")


def test_several_traces_are_also_taken_together() -> None:
    made = document(compare([small(0), small(1)], ["random"], 2, workers=1))
    one, two, both = (r for r in made["results"] if r["domain"] == "all")
    assert [one["trace"], two["trace"], both["trace"]] == ["synthetic two-language", "synthetic two-language #2", "all"]
    assert both["rounds"] == one["rounds"] + two["rounds"]
    assert both["prompts"] == 12
    mean = (one["fraction_of_optimum"] + two["fraction_of_optimum"]) / 2
    assert both["fraction_of_optimum_mean_of_traces"] == pytest.approx(mean)
    assert {frozenset(r) for r in made["results"]} == {frozenset(both)}  # unknown keys are null, never absent


def test_every_interval_holds_its_value(made: dict[str, Any]) -> None:
    for row in made["results"]:
        for name, ends in row["intervals"].items():
            if ends is not None:
                slack = 1e-5 * abs(row[name])  # ends are rounded
                assert ends[0] - slack <= row[name] <= ends[1] + slack


def test_shares_sum_to_one_and_timelines_tile_the_text(made: dict[str, Any]) -> None:
    for share in made["shares"]:
        columns = [c for c in zip(*share["arms"].values(), strict=True) if None not in c]
        assert columns
        assert all(sum(c) == pytest.approx(1, abs=2e-3) for c in columns)
    for line in made["timelines"]:
        for rounds in line["rounds"].values():
            position = 0
            for at, _, accepted, emitted in rounds:
                assert at == position
                assert accepted <= emitted
                position += emitted
            assert position == line["length"]


def test_time_regret_needs_a_clock_and_gets_one(made: dict[str, Any]) -> None:
    assert all(r["regret_seconds"] is None for r in made["results"])
    trace = small()
    names = tuple(d.name for d in trace.drafters)
    flat = np.full(len(names), 0.01)
    clock = CostModel(names, np.array([1.0, 9.0]), np.array([0.1, 0.1]), flat, flat, 0 * flat, 0 * flat)
    timed = document(compare([trace], ["random", "fixed:arm=arm1"], 2, workers=1, costs=clock))
    for row in timed["results"]:
        assert row["seconds"] > row["oracle_seconds"]
        assert row["regret_seconds"] >= row["pseudo_regret_seconds"]


def test_without_policies_everything_that_can_run_does() -> None:
    found = compare([small()], (), 1, workers=1)
    played = {p.entry.label for p in found.traces[0].policies}
    left_out = {s["policy"] for s in found.skipped}
    assert played | left_out == set(default_policies())
    assert "metasd-ucb" in played
    assert "lookup-first" in left_out  # this trace has no lookup drafter
    with pytest.raises(UsageError, match="lookup"):
        compare([small()], ["lookup-first"], 1, workers=1)


def test_a_prior_that_nobody_takes_is_refused() -> None:
    with pytest.raises(UsageError, match="none of the policies random takes a prior"):
        compare([small()], ["random"], 1, workers=1, prior={"a": 1})


class Told(Fixed):
    """Plays the arm that its prior names."""

    def __init__(self) -> None:
        super().__init__("arm0")

    def set_prior(self, prior: Mapping[str, Any]) -> None:
        self.arm = prior["arm"]


def test_a_policy_that_takes_a_prior_plays_with_and_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "told", Told)
    made = document(compare([small()], ["told", "random"], 1, workers=1, prior={"arm": "arm2"}))
    assert made["config"]["policies"] == ["told +prior", "told", "random"]
    assert rows_of(made, "told +prior")["arms"]["arm2@4"] == rows_of(made, "told +prior")["rounds"]
    assert rows_of(made, "told")["arms"]["arm0@4"] == rows_of(made, "told")["rounds"]


def test_traces_whose_names_clash_stay_apart(tmp_path: Path) -> None:
    names = ["all", "x", "x #2", "other/x", "another/x"]
    made = [synthetic("iid", prompts=2, length=5, arms=2, seed=i) for i in range(len(names))]
    traces = [save_trace(trace, tmp_path / name) for trace, name in zip(made, names, strict=True)]
    result = document(compare(traces, ["random"], 1, workers=1))
    assert [t["name"] for t in result["traces"]] == ["all #2", "x", "x #2", "x #3", "x #4"]
    counted = [(r["trace"], r["prompts"]) for r in result["results"] if r["domain"] == "all"]
    assert sorted(counted) == [("all", 10), ("all #2", 2), ("x", 2), ("x #2", 2), ("x #3", 2), ("x #4", 2)]
