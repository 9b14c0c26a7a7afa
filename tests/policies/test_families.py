"""What is particular to a family: losses and weights of full information, blocks, changes, seconds, signals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metasd.core.records import NO_END, Context, Revealed, settle
from metasd.core.errors import UsageError
from metasd.policies import make
from metasd.policies.drawing import draw, softmax
from metasd.policies.full import normal_hedge
from metasd.policies.linear import features
from metasd.policies.switching import tsallis
from metasd.core.signals import INDEX, SIGNALS, F


def one_round(pool, arm, accepted, *, remaining=1000, proposed=None, seconds=None, lanes=1):
    n = np.full
    parts = {} if seconds is None else {k: n(lanes, 0.0) for k in ("draft_seconds", "catch_up_seconds")}
    if seconds is not None:
        parts["verify_seconds"] = n(lanes, float(seconds))
    return settle(
        lane=np.arange(lanes),
        prompt=np.arange(lanes),
        arm=n(lanes, arm),
        draft_length=n(lanes, pool.draft_length[arm]),
        position=n(lanes, 0),
        remaining=n(lanes, remaining),
        proposed=n(lanes, pool.max_draft_length if proposed is None else proposed),
        agreed=n(lanes, accepted),
        ends_in=n(lanes, NO_END),
        catch_up=n(lanes, 0),
        **parts,
    )


def context(pool, *, remaining=1000, available=None, cost=None, signals=None):
    shown = np.ones((1, len(pool)), bool) if available is None else np.array([available], bool)
    return Context(np.zeros(1, np.int64), np.array([remaining]), shown, signals=signals, cost=cost)


def revealed(agreement, first=0):
    """Positions ``first``.. of lane 0 with the rows of ``agreement``; no starts."""
    rows, none = len(agreement), np.zeros(0, np.int64)
    return Revealed(
        lane=np.zeros(rows, np.int64),
        position=np.arange(first, first + rows),
        agreement=np.asarray(agreement, float),
        start_lane=none,
        start=none,
        drafter=none,
        proposed=none,
        accepted=none,
        ended=none.astype(bool),
        censored=none.astype(bool),
        signals=np.zeros((0, 0, F)),
    )


# -- drawing --------------------------------------------------------------------------------------------------------


def test_draw_never_takes_weight_zero_and_keeps_the_shares():
    weights = np.array([[0.0, 1.0, 0.0, 3.0, 0.0]])
    uniform = np.concatenate([(np.arange(400) + 0.5) / 400, [1.0]])
    arms = draw(np.repeat(weights, len(uniform), axis=0), uniform)
    assert set(arms.tolist()) == {1, 3}
    assert (arms[:-1] == 1).sum() == 100


def test_softmax_is_uniform_where_every_allowed_weight_is_zero():
    logits = np.array([[0.0, -np.inf, -np.inf], [0.0, 1.0, -np.inf]])
    p = softmax(logits, np.array([[False, True, True], [True, True, True]]))
    np.testing.assert_allclose(p[0], [0, 0.5, 0.5])
    np.testing.assert_allclose(p[1], [1 / (1 + math.e), math.e / (1 + math.e), 0])


# -- rules ----------------------------------------------------------------------------------------------------------


def test_fixed_plays_its_arm_without_a_proposal_and_knows_names(bench):
    pool = bench.pool(2, lengths=(2, 4))
    for arm, name in enumerate(["lookup@2", "lookup@4", "small@2", "small@4", "plain"]):
        policy = bench.bound(make(f"fixed:arm={name}"), pool, bench.keys(1))
        assert policy.select(context(pool, available=[False] * 5)).tolist() == [arm]
    with pytest.raises(UsageError, match="nobody"):
        bench.bound(make("fixed:arm=nobody"), pool, bench.keys(1))
    with pytest.raises(UsageError, match="reward"):
        make("fixed:arm=plain,reward=tokens")


def test_random_is_uniform_over_the_allowed(bench):
    """6,000 draws over 2 of 4 arms: a share outside 0.5 +- 0.04 has probability below 1e-9."""
    pool = bench.pool()
    policy = bench.bound(make("random"), pool, bench.keys(6000))
    available = np.tile([True, False, True, False], (6000, 1))
    arms = policy.select(Context(np.zeros(6000, np.int64), np.ones(6000, np.int64), available))
    assert set(arms.tolist()) == {0, 2}
    assert abs((arms == 0).mean() - 0.5) < 0.04


def test_lookup_first_follows_the_match(bench):
    pool = bench.pool(3)
    policy = bench.bound(make("lookup-first:threshold=3"), pool, bench.keys(1))

    def arm(match, available=(True, True, True, True), rule=policy):
        signals = np.full((1, 3, F), np.nan)
        signals[0, 0, INDEX["match_length"]] = match
        return int(rule.select(context(pool, available=available, signals=signals))[0])

    assert [arm(3), arm(8), arm(2.5), arm(np.nan)] == [0, 0, 1, 1]
    assert arm(np.nan, (False, False, True, True)) == 2  # neither: the first arm allowed
    assert arm(1, (True, False, True, True)) == 0  # a short match is better than nothing
    other = bench.bound(make("lookup-first:otherwise=plain"), pool, bench.keys(1))
    assert arm(1, rule=other) == 3
    with pytest.raises(UsageError, match="match_length"):
        policy.select(context(pool))


# -- learning from rounds without a draft ----------------------------------------------------------------------------


def test_what_a_round_without_a_draft_teaches(bench):
    pool = bench.pool(2, plain=True)
    masked = bench.bound(make("metasd-ucb:reward=block_efficiency"), pool, bench.keys(1))
    free = bench.bound(make("metasd-ucb:reward=block_efficiency,mask=false"), pool, bench.keys(1))
    for policy in (masked, free):
        policy.update(one_round(pool, 0, 0, proposed=0))  # no proposal
        policy.update(one_round(pool, 0, 0, remaining=1))  # no room
        policy.update(one_round(pool, 2, 0))  # plain
    assert masked.n.tolist() == [[0, 0, 1]]
    assert free.n.tolist() == [[1, 0, 1]]
    assert (free.total == 0).all()


def test_policies_on_emitted_tokens_refuse_another_reward():
    for name in ("ucbspec", "exp3spec"):
        with pytest.raises(UsageError, match="block_efficiency"):
            make(f"{name}:reward=block_efficiency")


# -- explore --------------------------------------------------------------------------------------------------------


def test_sequential_halving_plays_blocks_and_keeps_one(bench):
    """4 arms, 80 tokens, share 0.4: 32 rounds in 2 phases, 4 each of 4 arms and then 8 each of 2."""
    pool = bench.pool(4, plain=False)
    policy = bench.bound(make("sequential-halving:share=0.4,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for _ in range(40):
        arm = int(policy.select(context(pool, remaining=80))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 3, 0, 4)[arm]))
    assert played == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [1] * 8 + [3] * 8 + [3] * 8
    assert policy.alive.tolist() == [[False, False, False, True]]


def test_explore_then_commit_never_looks_back(bench):
    pool = bench.pool(3, plain=False)
    policy = bench.bound(make("explore-then-commit:pulls=2,reward=block_efficiency"), pool, bench.keys(1))
    played = []
    for t in range(20):
        arm = int(policy.select(context(pool))[0])
        played.append(arm)
        policy.update(one_round(pool, arm, (1, 4, 2)[arm] if t < 6 else 0))
    assert played == [0, 0, 1, 1, 2, 2] + [1] * 14


# -- full information -----------------------------------------------------------------------------------------------


def test_hedge_loss_is_the_expected_length_and_waits_for_the_frontier(bench):
    """The loss of the draft at s comes when s + G - 1 is committed, whatever the chunks, and equals the formula."""
    pool = bench.pool(2, lengths=(2, 4))
    rng = np.random.default_rng(0)
    table = rng.random((23, 2))
    table[5, 1] = np.nan  # no proposal
    policy = bench.bound(make("hedgespec"), pool, bench.keys(1))
    seen = []
    policy.absorb = lambda lanes, loss: seen.append((lanes.copy(), loss.copy()))
    committed = 0
    for chunk in (1, 3, 5, 2, 1, 1, 4, 5, 1):
        policy.observe(revealed(table[committed : committed + chunk], committed))
        committed += chunk
        assert sum(len(lanes) for lanes, _ in seen) == max(committed - bench.G + 1, 0)
    got = np.concatenate([loss for _, loss in seen])
    g = np.nan_to_num(table)
    for start, row in enumerate(got):
        for arm, (drafter, length) in enumerate([(0, 2), (0, 4), (1, 2), (1, 4), (0, 0)]):
            gammas = [*g[start : start + length, drafter], 0.0]
            expected = sum((k + 1) * (1 - gammas[k]) * math.prod(gammas[:k]) for k in range(length + 1))
            assert row[arm] == pytest.approx(1 - expected / (bench.G + 1), abs=1e-12)


def test_acceptance_score_is_one_minus_agreement_at_once(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec:score=acceptance"), pool, bench.keys(1))
    seen = []
    policy.absorb = lambda lanes, loss: seen.append(loss.copy())
    policy.observe(revealed([[0.25, 1.0], [0.5, np.nan]]))
    np.testing.assert_allclose(np.concatenate(seen), [[0.75, 0.0, 1.0], [0.5, 1.0, 1.0]])


def test_a_new_text_drops_drafts_that_began_in_the_last(bench):
    pool = bench.pool(2)
    for reset in ("prompt", "never"):
        policy = bench.bound(make("hedgespec"), pool, bench.keys(1), reset=reset)
        policy.observe(revealed(np.ones((3, 2))))
        policy.begin(np.array([0]), bench.keys(1))
        policy.observe(revealed(np.zeros((3, 2))))
        assert policy.t.tolist() == [0]
        policy.observe(revealed(np.zeros((1, 2)), 3))
        assert policy.t.tolist() == [1]
        np.testing.assert_allclose(policy.loss, 1 - 1 / (bench.G + 1))


def test_hedge_weights(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec"), pool, bench.keys(1))
    policy.loss[:], policy.t[:] = [[3.0, 1.0, 2.0]], 7
    eta = math.sqrt(8 * math.log(3) / 7)
    wanted = np.exp(-eta * np.array([3.0, 1.0, 2.0]))
    np.testing.assert_allclose(softmax(policy.log_weights(), np.ones((1, 3), bool))[0], wanted / wanted.sum())


def test_normal_hedge_solves_its_equation():
    regret = np.array([[3.0, -1.0, 2.0, 0.5], [-1.0, -2.0, 0.0, -3.0], [0.1, 0.1, 0.1, 0.1]])
    weights = softmax(normal_hedge(regret), np.ones_like(regret, dtype=bool))
    assert weights[0, 1] == 0
    np.testing.assert_allclose(weights[1:], 0.25)
    lo, hi = 0.1, 100.0
    for _ in range(200):  # a scalar solution of the same equation
        c = (lo + hi) / 2
        lo, hi = (c, hi) if sum(math.exp(max(r, 0) ** 2 / (2 * c)) for r in regret[0]) / 4 > math.e else (lo, c)
    wanted = np.array([max(r, 0) / c * math.exp(max(r, 0) ** 2 / (2 * c)) for r in regret[0]])
    np.testing.assert_allclose(weights[0], wanted / wanted.sum(), atol=1e-9)


def test_normal_hedge_accumulates_the_regret_to_its_own_mixture(bench):
    pool = bench.pool(2)
    policy = bench.bound(make("hedgespec:weights=normalhedge,score=acceptance"), pool, bench.keys(1))
    policy.observe(revealed([[1.0, 0.0]]))
    np.testing.assert_allclose(policy.own_loss, [(0 + 1 + 1) / 3])
    assert policy.select(context(pool))[0] == 0  # only arm 0 has positive regret now: all weight on it
    policy.observe(revealed([[1.0, 0.0]], 1))
    np.testing.assert_allclose(policy.own_loss, [2 / 3])


def test_fixed_share_follows_a_change_faster_than_hedge(bench):
    pool = bench.pool(2, plain=False)
    share, hedge = (
        bench.bound(make(f"{n}:score=acceptance"), pool, bench.keys(1)) for n in ("fixed-share", "hedgespec")
    )
    for policy in (share, hedge):
        policy.observe(revealed(np.tile([1.0, 0.0], (60, 1))))
        policy.observe(revealed(np.tile([0.0, 1.0], (12, 1)), 60))
    allowed = np.ones((1, 2), bool)
    assert softmax(share.log_weights(), allowed)[0, 1] > 0.9
    assert softmax(hedge.log_weights(), allowed)[0, 1] < 0.1


# -- changes --------------------------------------------------------------------------------------------------------


def test_glr_restarts_soon_after_a_change_and_not_before(bench):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make("glr-ucb:reward=block_efficiency"), pool, bench.keys(1))
    for _ in range(60):
        policy.update(one_round(pool, 0, 4))
    assert policy.n[0, 0] == 60
    delays = 0
    while policy.n[0, 0] > 0:
        policy.update(one_round(pool, 0, 0))
        delays += 1
    assert 2 <= delays <= 15


def test_glr_statistic_equals_the_definition(bench):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make("glr-ucb:reward=block_efficiency,memory=40,delta=1e-9"), pool, bench.keys(1))
    rng, x = np.random.default_rng(3), []

    def kl(p, q):
        return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)

    for t in range(90):
        x.append(int(rng.integers(0, 5) if t < 60 else rng.integers(2, 5)))
        policy.update(one_round(pool, 0, x[-1]))
        kept = [v / 4 for v in x[-40:]]
        m, mean = len(kept), sum(kept) / len(kept)
        if t < 5:
            continue  # nothing to split yet, or all equal
        top = max(s * kl(np.mean(kept[:s]), mean) + (m - s) * kl(np.mean(kept[s:]), mean) for s in range(1, m))
        for slack in (1e-6, -1e-6):
            policy.delta = 3 * m**1.5 / math.exp(top - slack)
            assert policy.changed(np.array([0]), np.array([0]))[0] == (slack > 0)
        policy.delta = 1e-9


# -- few switches ---------------------------------------------------------------------------------------------------


def test_ucb2_plays_in_the_blocks_of_its_paper(bench):
    """Each block of an arm lasts tau(r + 1) - tau(r) rounds after its first trial."""
    pool, keys = bench.pool(3, plain=False), bench.keys(1)
    policy = bench.bound(make("ucb2:alpha=0.5"), pool, keys)
    played = bench.drive(policy, bench.World(pool, [0.3, 0.8, 0.6], keys), 400)[:, 0]
    cuts = np.flatnonzero(np.diff(played)) + 1
    runs = [(int(r[0]), len(r)) for r in np.split(played, cuts)]
    assert runs[:3] == [(0, 1), (1, 1), (2, 1)]
    tau = [math.ceil(1.5**r) for r in range(40)]
    at = {0: 0, 1: 0, 2: 0}
    for arm, length in runs[3:-1]:
        begin = at[arm]
        while length > 0:
            length -= max(tau[at[arm] + 1] - tau[at[arm]], 1)
            at[arm] += 1
        assert length == 0
        assert at[arm] > begin
    assert len(runs) < 60


def test_tsallis_weights_solve_their_equation():
    loss = np.array([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0], [0.0, 300.0, 9.0]])
    allowed = np.array([[True] * 3, [True] * 3, [False, True, True]])
    rate = np.array([0.5, 1.0, 0.1])
    p = tsallis(loss, allowed, rate)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert p[2, 0] == 0
    np.testing.assert_allclose(p[1], 1 / 3)
    for row in range(3):
        x = [loss[row, i] - 2 / (rate[row] * math.sqrt(p[row, i])) for i in range(3) if p[row, i] > 0]
        np.testing.assert_allclose(x, x[0], rtol=1e-6, atol=1e-6)  # one x for all arms


def test_tsallis_switches_less_when_a_switch_costs_more(bench):
    pool, keys = bench.pool(3, plain=False), bench.keys(8)
    switches = []
    for price in (0, 1, 4):
        policy = bench.bound(make(f"tsallis-switch:price={price}"), pool, keys)
        played = bench.drive(policy, bench.World(pool, [0.5, 0.6, 0.4], keys), 200)
        switches.append(int((np.diff(played, axis=0) != 0).sum()))
    assert switches[0] > 2 * switches[1] > 3 * switches[2]


# -- seconds --------------------------------------------------------------------------------------------------------


def test_goodput_weighs_length_against_cost(bench):
    pool = bench.pool(1, lengths=(1, 2, 4))
    policy = bench.bound(make("goodput"), pool, bench.keys(1))
    policy.accepted[:], policy.judged[:] = 6.4, 1.6  # with the prior, a = (6.4 + 1.6) / (6.4 + 1.6 + 2) = 0.8
    cost = np.array([[1.2, 1.3, 2.5, 1.0]])
    a = 0.8
    wanted = [(1 + a) / 1.2, (1 + a + a**2) / 1.3, (1 - a**5) / (1 - a) / 2.5, 1.0]
    np.testing.assert_allclose(policy.index(context(pool, cost=cost))[0], wanted)
    assert policy.select(context(pool, cost=cost))[0] == 1
    assert policy.select(context(pool, cost=cost, remaining=1))[0] == 3  # no room to draft: plain is cheapest


def test_ratio_ucb_prefers_tokens_per_second_and_counts_catch_up(bench):
    """Arm 0: 3 tokens in 1 s; arm 1: 4 tokens in 2 s; arm 2: 3 tokens in 0.9 s, unless it must catch up at length."""
    pool = bench.pool(3, plain=False)
    policy = bench.bound(make("ratio-ucb:beta=0,stay=4"), pool, bench.keys(1))
    cheap = np.array([[1.0, 2.0, 0.9]])
    tokens, seconds = (2, 3, 2), (1.0, 2.0, 0.9)
    for _ in range(3):
        arm = int(policy.select(context(pool, cost=cheap))[0])
        policy.update(one_round(pool, arm, tokens[arm], seconds=seconds[arm]))
    assert policy.gained[0] / policy.spent[0] == pytest.approx(10 / 3.9)

    def choice(catch_up):
        return int(policy.select(context(pool, cost=np.add(cheap, [[0, 0, catch_up]])))[0])

    assert [choice(c) for c in (0.0, 0.3, 0.5)] == [2, 2, 0]  # a fourth of the catch-up counts
    assert policy.select(context(pool))[0] == 2  # learned from its rounds


@pytest.mark.parametrize("name", ["ratio-ucb", "goodput"])
def test_seconds_without_a_clock_are_refused(bench, name):
    pool = bench.pool(2, plain=False)
    policy = bench.bound(make(name), pool, bench.keys(1))
    with pytest.raises(UsageError, match="clock"):
        policy.update(one_round(pool, int(policy.select(context(pool))[0]), 2))
    with pytest.raises(UsageError, match=r"stay 0\.5"):
        make(f"{name}:stay=0.5")


# -- linear ---------------------------------------------------------------------------------------------------------


def test_features_are_finite_and_bounded():
    assert set(INDEX) == set(SIGNALS)
    wild = np.array([[np.nan] * F, [1e6] * F, [-5.0] * F, [0.5] * F], np.float32)
    x = features(wild)
    assert x.shape == (4, F + 1)
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    assert (x <= 1).all()
    np.testing.assert_array_equal(x[0], [0] * F + [1])
    np.testing.assert_array_equal(x[1], 1)


def test_linucb_equals_ridge_regression(bench):
    pool, rng = bench.pool(2), np.random.default_rng(1)
    policy = bench.bound(make("linucb:alpha=0.3,ridge=2,reward=block_efficiency"), pool, bench.keys(1))
    data = {arm: ([], []) for arm in range(3)}
    for t in range(60):
        signals = rng.random((1, 2, F)) * 3
        if t % 5 == 0:
            signals[0, 1] = np.nan
        arm = int(policy.select(context(pool, signals=signals))[0])
        accepted = int(rng.integers(0, 5)) if arm < 2 else 0
        data[arm][0].append(np.eye(F + 1)[-1] if arm == 2 else features(signals)[0, arm])
        data[arm][1].append(accepted / 4)
        policy.update(one_round(pool, arm, accepted))
    signals = rng.random((1, 2, F))
    policy.select(context(pool, signals=signals))
    for arm, (x, y) in data.items():
        now = np.eye(F + 1)[-1] if arm == 2 else features(signals)[0, arm]
        a = 2 * np.eye(F + 1) + np.array(x).T @ np.array(x)
        wanted = now @ np.linalg.solve(a, np.array(x).T @ np.array(y)) + 0.3 * np.sqrt(now @ np.linalg.solve(a, now))
        assert policy.index(context(pool))[0, arm] == pytest.approx(wanted, abs=1e-9)


def test_linucb_learns_to_follow_a_signal(bench):
    """Arm 0 is good exactly when its hit_fast is high; arm 1 is always middling."""
    pool, rng = bench.pool(2, plain=False), np.random.default_rng(2)
    policy = bench.bound(make("linucb:reward=block_efficiency"), pool, bench.keys(1))
    right = []
    for _ in range(300):
        signals = np.full((1, 2, F), np.nan)
        good = bool(rng.random() < 0.5)
        signals[0, 0, INDEX["hit_fast"]] = 0.9 if good else 0.1
        arm = int(policy.select(context(pool, signals=signals))[0])
        right.append((arm == 0) == good)
        policy.update(one_round(pool, arm, (4 if good else 0) if arm == 0 else 2))
    assert np.mean(right[200:]) > 0.95  # 100 fair coins: probability below 1e-20


# -- settings -------------------------------------------------------------------------------------------------------

WRONG = [
    "metasd-ucb:beta=-1",
    "metasd-ucb:beta=nan",
    "discounted-ucb:gamma=1.5",
    "sliding-window-ucb:window=0",
    "glr-ucb:memory=1",
    "glr-ucb:explore=0",
    "exp3s:horizon=0",
    "sequential-halving:share=2",
    "explore-then-commit:pulls=0",
    "epsilon-greedy:epsilon=1.1",
    "ucb-v:zeta=-1",
    "moss:horizon=0",
    "ucbspec:delta=0",
    "thompson-gaussian:sigma=-0.1",
    "ucb2:alpha=0",
    "tsallis-switch:price=-1",
    "fixed-share:share=1.5",
    "goodput:decay=2",
    "linucb:ridge=0",
]


@pytest.mark.parametrize("spec", WRONG)
def test_a_setting_out_of_range_is_named(spec):
    key, value = spec.split(":")[1].split("=")
    with pytest.raises(UsageError, match=f"{key} {value}.*out of range"):
        make(spec)


@pytest.mark.parametrize("spec", ["hedgespec:weights=light", "hedgespec:score=nice", "fixed-share:score=nice"])
def test_an_unknown_choice_is_named(spec):
    with pytest.raises(UsageError, match=spec.split("=")[1]):
        make(spec)


def test_ucb2_resumes_a_block_that_was_cut_short(bench):
    """An arm that comes and goes must not climb through its blocks without playing them."""
    pool, keys = bench.pool(), bench.keys(3)
    policy = bench.bound(make("ucb2"), pool, keys)
    bench.drive(policy, bench.World(pool, [0.7, 0.5, 0.3], keys, shows=[0.5, 1.0, 1.0]), 300)
    assert (policy.n >= policy.tau(policy.blocks) - policy.left - 1).all()
