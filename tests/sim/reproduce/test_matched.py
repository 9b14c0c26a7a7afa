"""Against the specialist of a prompt's own domain and drafters over all domains, on traces worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.pool import DrafterInfo, Pool
from metasd.sim.compare.matrix import Matrix
from metasd.sim.replay.run import replay
from metasd.sim.reproduce import registry
from metasd.sim.reproduce.finding import NOT_REPRODUCED, REPRODUCED, UNKNOWN, Setting
from metasd.sim.reproduce.matched import Specialists, one_for_all, tell, without_total
from metasd.traces import Trace, synthetic
from metasd.traces.select import take_drafters

NAMES = ("code", "math", "all")


def made(kinds: tuple[str, ...] = ("head", "head", "head"), names: tuple[str, ...] = NAMES, **how) -> Trace:
    """Two domains, code and math, and three drafters: the first is good, the last the worst, whatever the domain."""
    made = synthetic("iid", prompts=12, length=96, arms=3, draft_length=4, alphas=(0.8, 0.6, 0.3), **how)
    drafters = tuple(
        DrafterInfo(f"{kind}-{name}", kind, free=False, deterministic=False, settings={"domain": name})
        for kind, name in zip(kinds, names, strict=True)
    )
    manifest = {k: v for k, v in made.manifest.items() if k != "pool"}
    return replace(made, drafters=drafters, domains=["code", "math"] * 6, manifest=manifest)


def test_a_drafter_over_all_domains_is_no_arm_where_there_are_others():
    assert [d.name for d in without_total(made()).drafters] == ["head-code", "head-math"]
    alone = made(kinds=("head", "head", "model"), names=("code", "math", "all"))
    assert without_total(alone) is alone, "a kind that has no other keeps it"


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_what_is_left_plays_as_it_did_though_it_drafts_less(temperature: float):
    """The one that goes drafts the longest; the others keep their arms, overlap and rounds."""
    whole = made(temperature=temperature)
    lengths = np.array([4, 2, 4])
    proposed = np.minimum(whole.proposed, lengths)
    whole = replace(whole, draft_lengths=lengths, proposed=proposed, accepted=np.minimum(whole.accepted, proposed))
    pool = Pool(whole.drafters, [(0, 1), (0, 4), (1, 2), (2, 4)])
    whole = replace(whole, manifest=whole.manifest | {"pool": pool.to_json()})
    part = take_drafters(whole, [1, 0])
    assert [a.name for a in part.pool().arms] == ["head-code@1", "head-code@4", "head-math@2", "plain"]
    short = take_drafters(whole, [1])
    assert short.depth == 2
    assert short.overlap is not None
    assert short.overlap.shape[-1] == 2
    for smaller in (part, short):
        for spec in ("fixed:arm=head-math@2", "fixed:arm=head-math@1"):
            length = int(spec[-1])
            both = [replay(t, spec, draft_length=length, keep_rounds=True) for t in (smaller, whole)]
            np.testing.assert_array_equal(*[b.ledger.rounds_of() for b in both])
    np.testing.assert_array_equal(short.overlap[:, 0], whole.overlap[:, 1, :2])


def test_everybody_is_served_by_the_one_of_his_domain():
    trace = without_total(made())
    own = Specialists(trace, Matrix(trace))
    assert {d: own.matrix.pool.arms[k].name for d, k in own.arms.items()} == {
        "code": "head-code@4",
        "math": "head-math@4",
    }
    assert sorted(own.prompts.tolist()) == list(range(12))
    for row, arm in zip(own.prompts.tolist(), own.rounds.tolist(), strict=True):
        name = "head-code@4" if row % 2 == 0 else "head-math@4"
        assert arm == replay(trace, f"fixed:arm={name}").ledger.rounds_of()[row]


def test_of_two_kinds_the_better_one_in_hindsight():
    for kinds, best in ((("head", "model", "head"), "head-code@4"), (("model", "head", "head"), "model-code@4")):
        trace = made(kinds=kinds, names=("code", "code", "math"))
        own = Specialists(trace, Matrix(trace))
        assert own.matrix.pool.arms[own.arms["code"]].name == best


def test_shares_are_of_the_matched_one_and_only_on_its_prompts():
    trace = replace(without_total(made()), domains=["code", "other"] * 6)
    outcome_of = registry.Outcome()
    setting, matrix = Setting(trace, 1, True), Matrix(trace)
    played = {spec: setting.play(spec) for spec in ("metasd-ucb", "default:objective=rounds")}
    tell(outcome_of, setting, matrix, played)
    said = {f.what: f for f in outcome_of.findings}
    share = said["UCB, share of the matched specialist, rounds"]
    best, ours = (replay(trace, s).ledger.rounds_of()[::2].sum() for s in ("fixed:arm=head-code@4", "metasd-ucb"))
    assert share.value == pytest.approx(best / ours)
    assert share.verdict in (REPRODUCED, NOT_REPRODUCED, UNKNOWN)
    assert not [what for what in said if "tokens/s" in what]  # no clock
    (row,) = outcome_of.tables["Share of the matched specialist by domain, in rounds"]
    assert (row["domain"], row["specialist"]) == ("code", "head-code@4")
    assert row["metasd-ucb, share"] == pytest.approx(best / ours)


def test_without_a_trained_drafter_it_cannot_be_told():
    trace = made(kinds=("table", "table", "table"))
    outcome = registry.Outcome()
    setting = Setting(trace, 1, True)
    tell(outcome, setting, Matrix(trace), {"metasd-ucb": setting.play("metasd-ucb")})
    assert {(f.verdict, f.reason) for f in outcome.findings} == {(UNKNOWN, "no trained drafters in this trace")}


@pytest.mark.parametrize(("dear", "length"), [(1.0, 1), (0.0, 4)])
def test_seconds_are_those_of_the_best_length(dear: float, length: int):
    """Where a drafted token costs as much as a pass the shortest draft is the fastest; where nothing, the longest."""
    trace = without_total(made())
    names, flat = tuple(d.name for d in trace.drafters), np.zeros(2)
    clock = CostModel(names, np.array([1.0, 9.0]), np.ones(2), flat, flat + dear, flat, flat)
    trace = replace(trace, costs=clock)
    own = Specialists(trace, Matrix(trace))
    spent = own.seconds(Setting(trace, 1, True))
    assert spent is not None
    best = []
    for i, domain in enumerate(("code", "math")):
        alone = replay(trace, f"fixed:arm=head-{domain}@{length}", draft_length=length)
        best.append(alone.ledger.seconds_of()[i::2])
    np.testing.assert_allclose(spent, np.concatenate(best))


def test_one_for_all_by_domain():
    whole = made()
    setting = Setting(without_total(whole), 1, True, whole=whole)
    took = setting.play("metasd-ucb").ledger.rounds_of().astype(float)
    outcome = registry.Outcome()
    one_for_all(outcome, setting, took)
    (only,) = outcome.findings
    assert only.what == "UCB over one-for-all (head-all@4)"
    assert only.reason not in ("the policy had tables or lookup too", "head-all@4 was counted, not trained")
    for kinds, why in (
        (("table", "head", "head"), "the policy had tables or lookup too"),
        (("head", "head", "table"), "head-all@4 was counted, not trained"),
    ):
        mixed = made(kinds=kinds)
        told = registry.Outcome()
        one_for_all(told, Setting(take_drafters(mixed, [0, 1]), 1, True, whole=mixed), took)
        assert told.findings[0].reason == why.replace("head-all", f"{kinds[2]}-all")
    arm = replay(whole, "fixed:arm=head-all@4").ledger.rounds_of()
    assert only.value == pytest.approx(arm.sum() / took.sum())
    rows = outcome.tables["Drafters made over all domains"]
    assert [r["domain"] for r in rows] == ["code", "math", "all"]
    assert rows[0]["UCB over it"] == pytest.approx(arm[::2].sum() / took[::2].sum())
    assert rows[1]["UCB over it"] == pytest.approx(arm[1::2].sum() / took[1::2].sum())


def test_the_run_plays_without_it_and_holds_it_against_them(tmp_path):
    (document,) = registry.run(made(), tmp_path, names=["policies"], seeds=1, quick=True)
    assert "UCB over one-for-all (head-all@4)" in [f["what"] for f in document["findings"]]
    assert [row["drafter"] for row in document["tables"]["Every single drafter"]] == ["head-code@4", "head-math@4"]
    assert np.isfinite([row["metasd-ucb over it"] for row in document["tables"]["Every single drafter"]]).all()
