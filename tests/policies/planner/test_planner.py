"""The planner as a policy: what it refuses, saving, forgetting, the model drafter, and what it reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planned import gpu, session_of, step

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.plans import Judged, Plan
from metasd.core.pool import Pool
from metasd.core.records import Context
from metasd.policies import make
from metasd.sim.oracle.seconds import clairvoyant_seconds
from metasd.sim.replay.run import replay
from metasd.traces.find import find_trace
from metasd.traces.select import take_prompts
from metasd.traces.shipped import REFERENCE

REF = find_trace(REFERENCE)
LENGTHS = (1, 2, 3, 4, 6, 8)


def free_pool() -> Pool:
    arms = [(d, n) for d, info in enumerate(REF.drafters) if info.free for n in LENGTHS]
    return Pool(REF.drafters, [*arms, (-1, 0)])


def laddered(trace):
    """``trace`` with six lengths of every free drafter, and plain."""
    return replace(trace, manifest={**trace.manifest, "pool": free_pool().to_json()})


@pytest.fixture(scope="module")
def few():
    return take_prompts(REF, [0, 8, 17, 26, 40])


def test_a_saved_state_goes_on_with_the_same_plans(few):
    policy = make("planner:grown=120")  # small, so that the ring has gone round
    session = session_of(few, policy, costs=gpu(1))
    for _ in range(90):
        step(session, policy)
    twin = make("planner:grown=120")
    other = session_of(few, twin, costs=gpu(1))
    done = [session.context.position[0], session._lanes.text[0]]
    while [other.context.position[0], other._lanes.text[0]] != done:
        step(other, twin)
    fresh = make("planner:grown=120")
    fresh.wants(True, True)
    fresh.bind(session.pool, 1)
    fresh.load_state_dict(policy.state_dict())
    assert session.context.position[0] > 0  # inside a text
    for _ in range(40):
        assert step(session, policy) == step(other, fresh)
    with pytest.raises(UsageError, match="state"):
        fresh.load_state_dict({"rate": np.zeros((1, 3))})


def test_lanes_plan_as_each_alone(few):
    spec = "planner:grown=50"
    together = replay(few, spec, seeds=2, costs=gpu(1), keep_rounds=True)
    for seed in range(2):
        alone = replay(few, spec, first_seed=seed, costs=gpu(1), keep_rounds=True)
        mine = [r.counts()[0][1:] for r in alone.rounds]
        its = [row[1:] for r in together.rounds for row in r.take(r.lane == seed).counts()]
        assert mine == its


def test_reset_at_every_prompt_forgets_whatever_came_before(few):
    whole = replay(few, "planner", reset="prompt", costs=gpu(1), keep_rounds=True)
    one = replay(take_prompts(few, [3]), "planner", reset="prompt", costs=gpu(1))
    assert whole.ledger.rounds_of()[3] == one.ledger.rounds_of()[0]
    assert one.reset == "prompt"
    kept = replay(few, "planner", costs=gpu(1))
    assert kept.ledger.rounds_of().sum() < whole.ledger.rounds_of().sum()


def test_it_checks_no_more_than_was_measured_and_says_so(few):
    narrow = replay(few, "planner", keep_rounds=True)
    assert max(int(r.nodes.max()) for r in narrow.rounds) <= 8
    assert narrow.settings["widest"] == 8
    assert replay(few, "planner:nodes=20", costs=gpu(1)).settings["widest"] == 20
    rounds = replay(few, "planner:objective=rounds,nodes=6", costs=gpu(1), keep_rounds=True)
    assert max(int(r.nodes.max()) for r in rounds.rounds) == 6


def test_without_a_clock_it_counts_rounds(few):
    bare = replace(few, costs=None)
    played = replay(bare, "planner", keep_rounds=True)
    assert played.settings["pursues"] == "rounds"
    assert played.settings["widest"] == 0
    assert max(int(r.nodes.max()) for r in played.rounds) > 20
    with pytest.raises(UsageError, match="objective=time needs"):
        replay(bare, "planner:objective=time")


def test_what_it_is_not_for_is_refused_in_one_line():
    for spec, said in (
        ("planner:objective=speed", "objective 'speed'"),
        ("planner:reward=block_efficiency", "counts emitted tokens"),
        ("planner:nodes=0", "nodes 0 is out of range"),
        ("planner:depth=64", "depth 64 is out of range"),
        ("planner:grown=-1", "grown -1 is out of range"),
    ):
        with pytest.raises(UsageError, match=said):
            make(spec)
    policy = make("planner")
    policy.bind(free_pool(), 1)
    with pytest.raises(UsageError, match="plans, not arms"):
        policy.select(Context(np.zeros(1, int), np.ones(1, int), np.ones((1, len(free_pool())), bool)))
    with pytest.raises(NotImplementedError):
        make("random").plan(None, [])
    with pytest.raises(NotImplementedError):
        make("random").judge(None, [Judged([], [])])


def test_the_last_token_of_a_budget_is_not_drafted(few):
    played = replay(few, "planner", budget=1, keep_rounds=True)
    assert all(int(r.nodes.sum()) == 0 for r in played.rounds)


def cheap(trace, seconds: float) -> CostModel:
    """The GPU-like clock with a model drafter that takes ``seconds`` a token and reads for nothing."""
    clock = gpu(1)
    at = clock.drafters.index("skip")
    each, again = clock.draft_per_token.copy(), np.zeros(len(clock.drafters))
    each[at] = seconds
    return replace(clock, draft_per_token=each, catch_up_fixed=again, catch_up_per_token=again)


def test_a_model_drafter_is_asked_where_it_pays_and_only_there():
    trace = take_prompts(REF, np.arange(0, 48, 4))
    asked = {}
    for milliseconds in (0.3, 8.0):
        asked[milliseconds] = replay(trace, "planner", costs=cheap(trace, milliseconds / 1e3), keep_rounds=True)
    share = {ms: np.mean([float((r.draft_seconds > 0).any()) for r in played.rounds]) for ms, played in asked.items()}
    assert share[0.3] > 0.5
    assert share[8.0] < 0.03  # one that costs more than a pass: what exploring it takes
    without = replay(laddered(trace), "planner", costs=gpu(1)).ledger.totals()
    with_it = asked[0.3].ledger.totals()
    assert with_it.tokens_per_second > 1.05 * without.tokens_per_second
    assert asked[8.0].ledger.totals().tokens_per_second > 0.97 * without.tokens_per_second


# -- what it reaches: cold, carried over the prompts, learning from played rounds only -----------------------------


@pytest.mark.parametrize(("clock", "least"), [(None, 1.03), (gpu(32), 1.0)], ids=["cpu", "gpu-b32"])
def test_it_beats_the_default_in_seconds(clock, least):
    trace = laddered(REF)
    speed = {
        spec: replay(trace, spec, costs=clock).ledger.totals().tokens_per_second
        for spec in ("planner", "default:objective=time")
    }
    assert speed["planner"] >= least * speed["default:objective=time"]


def test_at_batch_one_it_beats_the_clairvoyant_choice_of_an_arm():
    trace = laddered(REF)
    optimum = clairvoyant_seconds(trace, free_pool(), costs=gpu(1))
    assert optimum.exact
    best = float(trace.lengths.sum() / optimum.least.sum())
    assert replay(trace, "planner", costs=gpu(1)).ledger.totals().tokens_per_second >= 1.05 * best


def test_plain_plans_are_legal_wherever_a_lane_is_done(few):
    policy = make("planner")
    session = session_of(few, policy, lanes=2)
    while not session.done:
        running = session.context.remaining > 0
        plans = step(session, policy)
        assert all(plan == Plan() for plan, on in zip(plans, running, strict=True) if not on)


def test_a_stall_counts_as_the_round_that_was_expected(few):
    policy = make("planner")
    session = session_of(few, policy, costs=gpu(1))
    policy.begin(session.fresh, session.keys)
    plans = policy.plan(session.context, session.suggest)
    expected = float(session.context.passes[0, len(plans[0])])
    rounds = session.play_plans(plans)
    rounds.verify_seconds = np.array([100.0])
    policy.judge(rounds, session.judged)
    assert policy.rate[0].tolist() == [float(rounds.emitted[0]), pytest.approx(expected), 1.0]
