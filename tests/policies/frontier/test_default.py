"""The default policy: what it may learn from, safety, time, and live size."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import StopReason
from metasd.policies import POLICIES, make
from metasd.policies.frontier.level import Levels
from metasd.policies.frontier.yields import counted
from metasd.sim.replay.run import replay

from .handed import BIG, LOOKUP, SMALL, bound, context, played, revealed
from .world import copy_trace


def test_both_names_and_the_declared_needs():
    policy = make("default")
    assert type(policy) is type(make("frontier"))
    wanted = policy.wants(overlap=True)
    assert (wanted["feedback"], wanted["scope"], wanted["censored"], wanted["overlap"]) == (
        "full",
        "all",
        False,
        True,
    )
    assert "cost" not in wanted["reads"]
    timed = make("default:objective=time").wants(overlap=True)
    assert "cost" in timed["reads"]
    assert timed["scope"] == "free", "watching models costs them a catch-up a round"
    assert make("default:objective=time,watch=all").wants(overlap=True)["scope"] == "all"
    assert make("default:watch=free").wants(overlap=True)["scope"] == "free"


def test_one_name_is_listed():
    assert "frontier" not in POLICIES
    assert make("frontier:alpha=2").settings() == make("default:alpha=2").settings()


def test_a_watched_model_learns_from_starts_not_from_its_own_rounds():
    pool = Pool([SMALL], [(0, 8)])
    policy = bound("default", pool)
    policy.select(context(pool))
    policy.update(played(pool, 0, 3))
    policy.observe(revealed(pool, 3))
    before = policy.state_dict()
    policy.update(played(pool, 0, 3))
    after = policy.state_dict()
    assert {k for k in before if not np.array_equal(before[k], after[k])} == {"level.gone"}  # the start came already
    policy.observe(revealed(pool, 7))
    assert not np.array_equal(after["b"], policy.state_dict()["b"])


def test_an_arm_left_early_is_doubted_again():
    """Two rounds of bad luck with one model: the bound grows with the rounds played elsewhere until it is tried."""
    pool = Pool([SMALL, BIG], [(0, 8), (1, 8)])
    policy = bound("default:watch=free", pool)
    for _ in range(2):
        policy.select(context(pool))
        policy.update(played(pool, 1, 0))
    tried, rng = [], np.random.default_rng(1)
    for _ in range(300):
        arm = int(policy.select(context(pool))[0])
        tried.append(arm)
        policy.update(played(pool, arm, int(rng.integers(0, 5)) + 3 * arm))
    assert 1 in tried[:200]
    assert np.mean(tried[-50:]) == 1.0


def test_a_level_follows_change_and_is_not_believed_where_there_is_none():
    levels, n = Levels(2, 1), np.arange(2)
    levels.clear(n)
    rng = np.random.default_rng(5)
    arms, kind, weight = np.zeros((2, 1), np.int64), np.ones(2, np.int64), np.ones(2)
    for t in range(300):
        noise = rng.normal(size=2)
        levels.see(n, kind, arms, np.array([[noise[0]], [3.0 * (-1) ** (t // 60) + noise[1]]]), weight)
        levels.gone[:] += 3
        here = levels.here()[:, 0]
    assert abs(here[0]) < 0.2
    assert here[1] > 2.0  # 300 rounds end in a block of +3
    assert np.exp(levels.odds[0, 0]) > 0.8 > 0.1 > np.exp(levels.odds[1, 0])


@pytest.mark.parametrize("spec", ["default:objective=speed", "default:reward=block_efficiency", "default:alpha=-1"])
def test_impossible_settings_are_refused(spec):
    with pytest.raises(UsageError):
        make(spec)


def test_bounds_are_never_lengths():
    pool = Pool([LOOKUP, SMALL], [(0, 20), (1, 20)])
    policy = bound("default", pool)
    before = policy.state_dict()
    policy.observe(revealed(pool, 3, censored=True))
    policy.observe(revealed(pool, 3, ended=True))
    after = policy.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)
    policy.observe(revealed(pool, 3))
    assert not np.array_equal(before["theta"], policy.state_dict()["theta"])


def test_one_counterfactual_teaches_every_draft_length_of_a_free_drafter():
    pool = Pool([LOOKUP, SMALL], [(0, 2), (0, 20), (1, 20)])
    policy = bound("default", pool)
    for _ in range(300):
        policy.observe(revealed(pool, 9))
    policy.choose(context(pool, match=5), np.ones((1, 3), bool))
    value = np.einsum("kw,kw->k", policy.theta[0], policy.seen[0, pool.drafter_of])
    np.testing.assert_allclose(value[:2], [3.0, 10.0], atol=0.4)


def test_a_full_acceptance_stands_in_for_longer_drafts_by_the_running_rate():
    pool, half = Pool([SMALL], [(0, 2), (0, 4), (0, 8)]), np.array([0.5])
    known = counted(played(pool, 1, 1), pool.draft_length[None], half)
    np.testing.assert_array_equal(known, [[2.0, 2.0, 2.0]])  # rejected at the second token: exact at every length
    full = counted(played(pool, 1, 4), pool.draft_length[None], half)
    np.testing.assert_allclose(full, [[3.0, 5.0, 5.0 + 0.5 + 0.25 + 0.125 + 0.0625]])


def test_lookup_alone_is_masked_out_when_it_has_nothing_to_say():
    pool = Pool([LOOKUP, SMALL], [(0, 20), (1, 20)])
    policy = bound("default", pool, lanes=3)
    assert policy.select(context(pool, 3)).tolist() == [1, 1, 1]
    assert policy.select(context(pool, 3, match=6)).tolist() == [0, 0, 0]  # a copy is believed at first


def test_equal_drafts_go_to_the_shorter_arm():
    pool = Pool([LOOKUP], [(0, 20), (0, 4)])
    policy = bound("default", pool)
    assert policy.select(context(pool, match=6, proposal=4)).tolist() == [1]
    assert policy.select(context(pool, match=6, proposal=20)).tolist() == [0]
    assert policy.select(context(pool, match=6, remaining=1)).tolist() == [1]


def test_two_models_are_both_tried_and_the_better_one_kept():
    pool = Pool([SMALL, BIG], [(0, 8), (1, 8)])
    policy = bound("default", pool)
    rng = np.random.default_rng(3)
    chosen = []
    for _ in range(400):
        arm = int(policy.select(context(pool))[0])
        chosen.append(arm)
        policy.update(played(pool, arm, min(8, int(rng.geometric(1 - (0.5, 0.75)[arm])) - 1)))
    assert 0 < np.sum(np.array(chosen) == 0) < 60
    assert np.mean(chosen[-100:]) > 0.9


def test_rounds_cut_by_the_text_or_the_budget_say_nothing_of_a_model():
    pool = Pool([SMALL], [(0, 8)])
    policy = bound("default", pool)
    policy.select(context(pool))
    before = policy.state_dict()
    cut = played(pool, 0, 8)
    cut.stop[:] = StopReason.TEXT_ENDED
    policy.update(cut)
    after = policy.state_dict()
    assert {k for k in before if not np.array_equal(before[k], after[k])} == {"level.gone"}  # tokens went by, no more


def test_an_adversarial_start_is_survived():
    """Lookup's first six texts are traps; afterwards it is the better arm. Fixed seeds, deterministic policies."""
    trace = copy_trace(5, [1.0] * 6 + [0.1] * 18)
    late = np.arange(6, 24)
    specs = ("default", "metasd-ucb:beta=0.2", "fixed:arm=small")
    plays = {spec: replay(trace, spec, reset="never") for spec in specs}
    rounds = {spec: play.by_prompt(play.ledger.rounds_of())[late] for spec, play in plays.items()}
    assert rounds["default"].sum() < 0.8 * rounds["fixed:arm=small"].sum()
    assert rounds["default"].sum() < 1.02 * rounds["metasd-ucb:beta=0.2"].sum()


def test_live_size_saves_and_goes_on():
    """One lane: saving the state and loading it into a fresh policy continues the same choices."""
    pool = Pool([LOOKUP, SMALL], [(0, 20), (1, 20), (-1, 0)])
    rng = np.random.default_rng(0)

    def step(policy, match, agreed):
        arm = int(policy.select(context(pool, match=match))[0])
        policy.update(played(pool, arm, agreed[arm]))
        policy.observe(revealed(pool, agreed[0], match=match))
        return arm

    moves = [(float(rng.integers(1, 9)), rng.integers(0, 9, 3)) for _ in range(120)]
    policy = bound("default", pool)
    for m, a in moves[:60]:
        step(policy, m, a)
    copy = bound("default", pool)
    copy.load_state_dict(policy.state_dict())
    arms = [step(policy, m, a) for m, a in moves[60:]]
    assert arms == [step(copy, m, a) for m, a in moves[60:]]
    assert {0, 1} <= set(arms)
