"""The paper's experiments on traces whose answers are known, verdicts, and a run that goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hand_trace import hand_trace

from metasd.cli import main
from metasd.cli.reproduce import NAMES
from metasd.core.pool import DrafterInfo
from metasd.policies.ucb import MetaSDUCB
from metasd.sim.compare.bootstrap import Clusters, Estimate, ratio
from metasd.sim.replay.run import replay
from metasd.sim.reproduce import registry
from metasd.sim.reproduce.choices import run as choices
from metasd.sim.reproduce.feedback import run as feedback
from metasd.sim.reproduce.finding import NOT_REPRODUCED, REPRODUCED, UNKNOWN, Claim, Setting, estimate, found, judged
from metasd.sim.reproduce.policies import run as policies
from metasd.sim.reproduce.switches import run as switches
from metasd.sim.theory.feedback import moments
from metasd.traces import synthetic, take_prompts
from metasd.traces.select import take_drafters

ALPHAS = (0.8, 0.3)


@pytest.fixture(scope="module")
def iid():
    return synthetic("iid", prompts=48, length=256, arms=2, draft_length=4, alphas=ALPHAS)


def known(value: float, half: float) -> Estimate:
    return Estimate(value, half, np.full(1999, half))


@pytest.mark.parametrize(
    ("value", "half", "claim", "verdict"),
    [
        (1.2, 0.1, Claim("faster", "M", low=1), REPRODUCED),
        (0.8, 0.1, Claim("faster", "M", low=1), NOT_REPRODUCED),
        (1.05, 0.1, Claim("faster", "M", low=1), UNKNOWN),
        (0.5, 0.1, Claim("below", "M", high=0.8), REPRODUCED),
        (0.95, 0.1, Claim("below", "M", high=0.8), NOT_REPRODUCED),
        (1.0, 0.1, Claim("near", "M", low=0.95, high=1.05), UNKNOWN),
        (1.0, 0.01, Claim("near", "M", low=0.95, high=1.05), REPRODUCED),
        (1.0, 0.01, Claim("nothing"), UNKNOWN),
    ],
)
def test_verdicts_need_the_whole_interval(value, half, claim, verdict):
    assert judged(known(value, half), claim)[0] == verdict
    assert found("x", known(value, half), claim, missing="no head").verdict == UNKNOWN


def test_without_an_interval_nothing_is_told():
    assert judged(Estimate(3.0, None, np.zeros(0)), Claim("faster", "M", low=1)) == (
        UNKNOWN,
        "too few prompts for an interval",
    )


def test_numeric_slopes_give_the_interval_of_a_ratio():
    rng = np.random.default_rng(3)
    columns = rng.uniform(1, 2, (30, 2))
    exact = Clusters(np.zeros(30)).estimate(columns, ratio)
    ours = estimate(columns, lambda s: s[..., 0] / s[..., 1])
    assert ours.value == pytest.approx(exact.value)
    assert ours.ends() == pytest.approx(exact.ends(), rel=1e-5)


def test_rewards_are_those_of_the_law(iid):
    outcome = feedback(Setting(iid, 1, True))
    for row, alpha in zip(outcome.tables["Rewards of each drafter alone"], ALPHAS, strict=True):
        efficiency = moments(alpha, 4, "block_efficiency")
        assert row["BE mean"] == pytest.approx(efficiency.mean, abs=0.03)
        assert row["BE variance"] == pytest.approx(efficiency.variance, abs=0.02)
        assert row["BE zeros"] == pytest.approx(efficiency.zeros, abs=0.04)
        assert row["BD mean"] == pytest.approx(alpha, abs=0.05)
        assert row["BD zeros"] < 0.01  # the last token of a text is never drafted
    said = {f.what: f for f in outcome.findings}
    assert said["variance, BD over BE (arm0@4)"].verdict == REPRODUCED
    assert said["BE, share of zero rewards (arm0@4)"].value == pytest.approx(0.2, abs=0.04)
    (pair,) = outcome.tables["Feedback ratio of the best drafter and each other"]
    assert pair["BD R"] > pair["BE R"] > 0


def test_no_overlap_no_feedback(iid):
    assert feedback(Setting(replace(iid, overlap=None), 1, True)).findings == []


def test_block_divergence_is_what_a_policy_is_handed(iid):
    learned: list[float] = []

    class Listens(MetaSDUCB):
        def learn(self, rounds, reward):
            learned.extend(reward.tolist())
            super().learn(rounds, reward)

    one = take_drafters(iid, [0])
    replay(one, Listens(reward="block_divergence", beta=0))
    (row,) = feedback(Setting(one, 1, True)).tables["Rewards of each drafter alone"]
    drafting = [r for r in learned if r > 0]
    assert row["BD mean"] / (1 - row["BD zeros"]) == pytest.approx(np.mean(drafting), rel=0.01)


def test_ucb_is_held_against_the_best_of_each_domain():
    iid = synthetic("iid", prompts=10, length=64, arms=2, draft_length=4, alphas=ALPHAS)
    outcome = policies(Setting(iid, 1, True))
    said = {f.what: f for f in outcome.findings}
    share = said["UCB, share of the best drafter of each domain"]
    ours, best = (replay(iid, spec).ledger.rounds_of().sum() for spec in ("metasd-ucb", "fixed:arm=arm0@4"))
    assert share.value == pytest.approx(best / ours)
    assert (share.verdict, share.reason) == (UNKNOWN, "no trained drafters in this trace")
    assert said["UCB over random"].verdict == REPRODUCED
    assert said["UCB over one-for-all"].value is None
    trained = DrafterInfo("arm0", "head", free=False, deterministic=False, settings={"domain": "all"})
    manifest = {k: v for k, v in iid.manifest.items() if k != "pool"}
    outcome = policies(Setting(replace(iid, drafters=(trained, iid.drafters[1]), manifest=manifest), 1, True))
    said = {f.what: f for f in outcome.findings}
    assert said["UCB, share of the best drafter of each domain"].reason != "no trained drafters in this trace"
    assert said["UCB over one-for-all (arm0@4)"].value == pytest.approx(best / ours)


def test_switches_by_hand():
    """tests/support/hand_trace.py tells the rounds; metasd-ucb's own are counted one by one."""
    trace = take_prompts(hand_trace(), np.array([0, 1, 2] * 3))
    outcome = switches(Setting(trace, 1, True))
    kept = replay(trace, "metasd-ucb", keep_rounds=True)
    arms: dict[int, list[int]] = {}
    for played in kept.rounds:
        for prompt, arm in zip(played.prompt.tolist(), played.arm.tolist(), strict=True):
            arms.setdefault(prompt, []).append(arm)
    changes = sum(a != b for each in arms.values() for a, b in pairwise(each))
    total = sum(map(len, arms.values()))
    row = outcome.tables["Switches and what they cost"][0]
    assert row["switches of 100 rounds"] == pytest.approx(100 * changes / total)
    best = [0 if domain == "code" else 1 for domain in trace.domains]  # copy and small, in rounds
    hits = sum(arm == best[int(kept.prompt[p])] for p, each in arms.items() for arm in each)
    said = {f.what: f for f in outcome.findings}
    assert said["UCB, rounds with the best drafter of the domain"].value == pytest.approx(hits / total)
    first = outcome.tables["Share of the best drafter of the domain, by round"][0]
    early = [arm == best[int(kept.prompt[p])] for p, each in arms.items() for arm in each[:5]]
    assert first["to round 5"] == pytest.approx(np.mean(early))


def test_a_part_of_the_drafters_replays_alike(iid):
    part = take_drafters(iid, [1])
    assert [d.name for d in part.drafters] == ["arm1"]
    both = [replay(t, "fixed:arm=arm1@4").ledger.rounds_of() for t in (part, iid)]
    np.testing.assert_array_equal(*both)


def test_the_command_names_the_experiments_that_there_are():
    assert list(registry.EXPERIMENTS) == list(NAMES)


def test_answers_are_cut_for_both_sides(iid):
    few = take_prompts(iid, np.arange(8))
    rows = choices(Setting(few, 1, True)).tables["Length of the answers"]
    assert [r["longest answer"] for r in rows] == [16, 32, 64, 128, 256]
    for row, budget in zip(rows, (16, 32, 64, 128, 256), strict=True):
        ours, best = (
            replay(few, s, budget=budget).ledger.rounds_of().sum() for s in ("metasd-ucb", "fixed:arm=arm0@4")
        )
        assert row["over the best single drafter"] == pytest.approx(best / ours)
        assert row["tokens per round"] == pytest.approx(8 * budget / ours)
        assert row["best single drafter"] == "arm0@4"


def test_answers_are_not_cut_beyond_what_the_recorder_saw(iid):
    """A text that the recorder cut at 40 tokens bounds the budgets; the best arm is the best at each of them."""
    few = take_prompts(iid, np.arange(8))
    rows = slice(0, 7 * 256 + 40)
    columns = ("tokens", "proposed", "accepted", "accept", "overlap")
    arrays = {n: None if getattr(few, n) is None else getattr(few, n)[rows] for n in columns}
    ended = np.array([True] * 7 + [False])
    cut = replace(few, offsets=np.append(few.offsets[:-1], rows.stop), ended=ended, **arrays)
    told = choices(Setting(cut, 1, True)).tables["Length of the answers"]
    assert [r["longest answer"] for r in told] == [16, 32, 40]


def test_a_run_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    source = "synthetic:kind=iid,prompts=12,length=64,arms=3,draft_length=3"
    arguments = ["reproduce", "--trace", source, "--out", str(tmp_path / "out"), "--quick", "--seeds", "1"]
    assert main([*arguments, "--only", "feedback", "--only", "policies"]) == 0
    capsys.readouterr()
    done = (tmp_path / "out" / "feedback.json").stat().st_mtime_ns
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert "feedback: kept from before" in captured.err
    assert "choices: measuring" in captured.err
    assert (tmp_path / "out" / "feedback.json").stat().st_mtime_ns == done
    told = json.loads(captured.out)
    assert [e["experiment"] for e in told["experiments"]] == list(registry.EXPERIMENTS)
    page = (tmp_path / "out" / "reproduction.md").read_text()
    assert page.count("\n## ") == len(registry.EXPERIMENTS)
    assert "(reproduction-policies.svg)" in page
    assert (tmp_path / "out" / "reproduction-policies.svg").is_file()
    other = tmp_path / "other.md"
    assert main([*arguments, "--only", "policies", "--page", str(other)]) == 0
    capsys.readouterr()
    assert "(other-policies.svg)" in other.read_text()
    assert (tmp_path / "other-policies.svg").is_file()
    for each in told["experiments"]:
        for f in each["findings"]:
            assert f["verdict"] in (REPRODUCED, NOT_REPRODUCED, UNKNOWN)
            assert (f["reason"] == "") == (f["verdict"] != UNKNOWN)
    assert main([*arguments[:-1], "2", "--only", "feedback"]) == 0
    assert "feedback: measuring" in capsys.readouterr().err
    assert main([*arguments, "--only", "nothing"]) == 2
    assert "unknown experiment 'nothing'; choose among policies" in capsys.readouterr().err
