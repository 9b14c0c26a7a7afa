"""What a document says beside its rows: every part adds up to the row's own number."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from metasd.core.clocks import CLOCKS
from metasd.core.costs import CostModel
from metasd.sim.compare import sums
from metasd.sim.compare.by_prompt import by_prompt, learning
from metasd.sim.compare.curves import REGRETS, regret_curve, timelines
from metasd.sim.compare.job import Job, fingerprint, play
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.outcome import Comparison
from metasd.sim.compare.run import compare
from metasd.sim.replay.run import order_of
from metasd.traces import Trace, synthetic, take_prompts
from metasd.traces.find import find_trace
from metasd.traces.shipped import REFERENCE

POLICIES = ("metasd-ucb", "random", "linucb", "fixed:arm=plain")


@pytest.fixture(scope="module")
def timed() -> Comparison:
    trace = synthetic("two-language", prompts=10, length=50, arms=3, draft_length=4, seed=2)
    return compare([trace], POLICIES, 3, workers=1, costs=clock_of(trace))


def clock_of(trace: Trace) -> CostModel:
    names, flat = tuple(d.name for d in trace.drafters), np.full(len(trace.drafters), 0.01)
    return CostModel(names, np.array([1.0, 9.0]), np.array([0.1, 0.12]), flat, 2 * flat, flat, flat)


@pytest.fixture(scope="module")
def made(timed: Comparison) -> dict[str, Any]:
    return document(timed)


def total(made: dict[str, Any], policy: str) -> dict[str, Any]:
    return next(r for r in made["results"] if r["policy"] == policy and r["domain"] == "all")


@pytest.mark.parametrize("name", REGRETS)
def test_every_regret_curve_ends_at_its_row(timed: Comparison, made: dict[str, Any], name: str) -> None:
    seconds, hindsight = REGRETS[name]
    for played in timed.traces[0].policies:
        curve = regret_curve(timed.traces[0], played, seconds=seconds, hindsight=hindsight)
        assert curve[:, -1].sum() == pytest.approx(total(made, played.entry.label)[name])
        told = next(c for c in made["curves"] if c["policy"] == played.entry.label)["regrets"][name]
        assert told["mean"] == pytest.approx(curve.mean(axis=0), abs=1e-4)
        assert (told["low"] is None) == (played.settings["reset"] != "prompt")


def test_a_trace_without_a_clock_has_regret_in_rounds_alone() -> None:
    plain = document(compare([synthetic("iid", prompts=9, length=20, seed=1)], ["random"], 1, workers=1))
    assert list(plain["curves"][0]["regrets"]) == ["pseudo_regret_rounds", "hindsight_regret_rounds"]
    assert plain["by_prompt"][0]["seconds"] is None


def test_prompts_add_up_to_the_row(timed: Comparison, made: dict[str, Any]) -> None:
    found = made["by_prompt"][0]
    assert found["ids"] == list(timed.traces[0].trace.ids)
    assert list(found["rounds"])[: len(POLICIES)] == list(POLICIES)  # then every fixed arm
    for policy in POLICIES:
        assert sum(found["rounds"][policy]) == pytest.approx(total(made, policy)["rounds"], rel=1e-4)
        assert sum(found["seconds"][policy]) == pytest.approx(total(made, policy)["seconds"], rel=1e-4)


def test_of_many_prompts_an_even_part_is_listed(timed: Comparison) -> None:
    trace = timed.traces[0].trace
    part = by_prompt(timed.traces[0], 4)
    assert part["of"] == 10
    assert part["ids"] == [trace.ids[p] for p in (0, 3, 6, 9)]
    assert part["tokens"] == [int(trace.lengths[p]) for p in (0, 3, 6, 9)]


def test_learning_adds_up_in_the_order_met(timed: Comparison, made: dict[str, Any]) -> None:
    outcome = timed.traces[0]
    best = int(outcome.fixed_costs().sum(axis=0).argmin())
    for played, curve in zip(outcome.policies, learning(outcome), strict=True):
        row = total(made, played.entry.label)
        assert curve["prompts"] == list(range(1, 11))
        assert curve["mean"][-1] == pytest.approx(row["pseudo_regret_seconds"], rel=1e-3, abs=1e-6)
        assert curve["rate"][-1] == pytest.approx(row["tokens_per_second"], rel=1e-4)
        assert all(
            low <= mean <= high for low, mean, high in zip(*(curve[k] for k in ("low", "mean", "high")), strict=True)
        )
        kept = played.settings["reset"] == "never"
        firsts = [int(order_of(outcome.trace, seed)[0]) if kept else 0 for seed in range(3)]
        ahead = played.seconds() - outcome.fixed_costs()[:, best]
        assert curve["mean"][0] == pytest.approx(
            np.mean([ahead[s, p] for s, p in enumerate(firsts)]), rel=1e-3, abs=1e-6
        )
    assert len(set(firsts)) == 1
    assert len({int(order_of(outcome.trace, seed)[0]) for seed in range(3)}) > 1  # else the orders would not matter


def test_histograms_add_up_to_the_row(made: dict[str, Any]) -> None:
    for found in made["histograms"]:
        row = total(made, found["policy"])
        assert found["undrafted"] + sum(found["accepted"]) == pytest.approx(row["rounds"], rel=1e-4)
        kept = sum(n * rounds for n, rounds in enumerate(found["accepted"]))
        assert kept == pytest.approx(row["accepted"], rel=1e-4)
    plain = next(h for h in made["histograms"] if h["policy"] == "fixed:arm=plain")
    assert plain["undrafted"] > 0 == sum(plain["accepted"])


def test_timelines_begin_with_one_prompt_of_each_domain(timed: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = timed.traces[0].trace
    lines = list(timelines(timed.traces[0], 10**6))
    assert sorted(t["id"] for t in lines) == sorted(trace.ids)
    assert [t["domain"] for t in lines[:2]] == list(dict.fromkeys(trace.domains))
    assert [t["id"] for t in timelines(timed.traces[0], 1)] == [lines[0]["id"]]
    monkeypatch.setattr(sums, "SHOWN_ROWS", 120)
    assert len(sums.shown_prompts(trace)) == 2  # of 50 tokens each
    monkeypatch.setattr(sums, "SHOWN_ROWS", 1)
    assert len(sums.shown_prompts(trace)) == 1


def test_curves_of_many_prompts_are_of_a_part_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = synthetic("iid", prompts=30, length=20, arms=2, seed=4)
    whole = compare([trace], ["random"], 2, workers=1, reset="prompt").traces[0]
    every = regret_curve(whole, whole.policies[0])
    monkeypatch.setattr(sums, "CURVE_PROMPTS", 11)
    part = compare([trace], ["random"], 2, workers=1, reset="prompt")
    outcome = part.traces[0]
    assert [p.starts.shape[0] for p in (*outcome.policies, *outcome.fixed)] == [11] * 4
    np.testing.assert_allclose(regret_curve(outcome, outcome.policies[0]), every[sums.curve_prompts(trace)])
    np.testing.assert_array_equal(outcome.policies[0].count("rounds"), whole.policies[0].count("rounds"))
    assert "regret curves are of 11 of the 30 prompts, evenly spread" in document(part)["traces"][0]["notes"]


def test_rounds_are_summed_as_they_come(timed: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few wait at a time, the sums are those of all of them together."""
    monkeypatch.setattr(sums, "HELD", 7)
    whole = timed.traces[0]
    again = compare([whole.trace], POLICIES, 3, workers=1, costs=clock_of(whole.trace)).traces[0]
    for one, other in zip((*whole.policies, *whole.fixed), (*again.policies, *again.fixed), strict=True):
        for name in ("starts", "arm_starts", "accepted", "shown"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.start_seconds, other.start_seconds)
        assert one.starts.sum() == pytest.approx(one.count("rounds").mean(axis=0).sum())


def test_memory_does_not_grow_with_rounds() -> None:
    """600,000 rounds are 29 MB at six numbers each; what is kept of them is less than a third."""
    trace = synthetic("iid", prompts=400, length=200, arms=2, draft_length=1, seed=4)
    job = Job(trace, fingerprint(trace), "random", 0, 10, reset="prompt")
    play(Job(trace, fingerprint(trace), "random", 0, 1, reset="prompt"))  # imports and caches
    tracemalloc.start()
    try:
        outcome = play(job)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome.counts["rounds"].sum() > 500_000
    assert peak < 10e6


def test_a_plan_may_be_deeper_than_any_draft() -> None:
    """More seeds than a block holds, so that blocks of different depths are put together."""
    trace = take_prompts(find_trace(REFERENCE), [1])
    outcome = compare(
        [trace], ["planner:objective=rounds"], 11, workers=1, costs=CostModel.load(CLOCKS / "gpu-b1.json")
    )
    played = outcome.traces[0].policies[0]
    assert len(played.accepted) > trace.depth + 2
    assert played.accepted.sum() == pytest.approx(played.count("rounds").mean(axis=0).sum())
    np.testing.assert_array_equal(sums.added(np.array([1, 2]), np.array([1, 1, 4])), [2, 3, 4])
    np.testing.assert_array_equal(sums.added(np.array([1, 1, 4]), np.array([1, 2])), [2, 3, 4])
