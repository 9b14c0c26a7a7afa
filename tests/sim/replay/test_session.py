"""TraceSession against a slow, literal reading of the definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core import noise
from metasd.core.errors import TraceError, UsageError
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.pool import Pool
from metasd.core.records import StopReason
from metasd.policies.ucb import MetaSDUCB
from metasd.sim.replay.session import TraceSession

ARMS = [(0, 4), (1, 2), (2, 4), (-1, 0), (2, 1)]


def literal(trace, pool, p, seed, budget, choose):
    """One text, one round at a time, by the words of the design."""
    lo, hi = int(trace.offsets[p]), int(trace.offsets[p + 1])
    judge = noise.judge_key(seed, trace.ids[p])
    t, cache, out = 0, [0] * len(pool.drafters), []
    while True:
        arm = pool.arms[k := choose(t)]
        row, d, n_text, remaining = lo + t, max(arm.drafter, 0), int(trace.prompt_lengths[p]) + t, budget - t
        drafted = min(int(trace.proposed[row, d]), arm.draft_length, remaining - 1)
        agreed = min(int(trace.accepted[row, d]), drafted)
        if trace.accept is not None:
            agreed = 0
            while agreed < drafted:
                u = noise.uniform_at(np.array([judge]), np.array([t + agreed]))[0]
                if u >= trace.accept[row, d, agreed]:
                    break
                agreed += 1
        emitted = min(agreed + 1, hi - row) if trace.ended[p] else agreed + 1
        behind = 0
        if drafted and not pool.drafters[d].free:
            behind = max(0, n_text - 1 - cache[d])
            cache[d] = n_text + min(drafted - 1, agreed)
        over = t + emitted >= budget or (bool(trace.ended[p]) and row + emitted == hi)
        out.append((k, t, drafted, min(agreed, emitted), emitted, over, behind))
        t += emitted
        if over:
            return out


def play(session, choose):
    """{episode: rounds} of a session driven by ``choose(episode, position)``."""
    found = {}
    current = session.episode_prompt[:0]
    for _ in range(100_000):
        if session.done:
            return found
        context = session.context
        current = session._lanes.episode
        arms = np.array([choose(int(e), int(t)) for e, t in zip(current, context.position, strict=True)])
        before = context.remaining.copy()
        rounds = session.play(arms)
        assert (before[rounds.lane] >= 1).all()
        for i in range(len(rounds)):
            row = tuple(
                int(getattr(rounds, n)[i])
                for n in ("arm", "position", "drafted", "accepted", "emitted", "finished", "catch_up")
            )
            found.setdefault(int(rounds.prompt[i]), []).append(row)
    raise AssertionError("the session never ended")


@settings(max_examples=60)
@given(st.data())
def test_equals_the_definitions(make_trace, data):
    sampled = data.draw(st.booleans())
    lengths = data.draw(st.lists(st.integers(1, 25), min_size=1, max_size=6))
    trace = make_trace(data.draw(st.integers(0, 99)), lengths=lengths, sampled=sampled)
    pool = Pool(trace.drafters, data.draw(st.sampled_from([ARMS, ARMS[:3], ARMS[2:], ARMS[3:4]])))
    cut = [n for n, e in zip(lengths, trace.ended, strict=True) if not e]
    budget = data.draw(st.none() | st.integers(1, min(cut, default=30)))
    lanes = data.draw(st.integers(1, 4))
    session = TraceSession.per_prompt(trace, pool, lanes=lanes, seeds=range(2), budget=budget)

    def choose(episode, t):
        return int(noise.key(episode, t)) % len(pool)

    found = play(session, choose)
    assert sorted(found) == list(range(len(session.episode_prompt)))
    for e, (p, seed) in enumerate(zip(session.episode_prompt, session.episode_seed, strict=True)):
        whole = max(lengths) + 7 if trace.ended[p] else lengths[p]
        expected = literal(trace, pool, int(p), int(seed), budget or whole, lambda t, e=e: choose(e, t))
        assert found[e] == [tuple(int(v) for v in row) for row in expected]
        assert sum(row[4] for row in found[e]) == min(lengths[p], budget or lengths[p])
        assert all(row[3] <= row[2] and row[4] - row[3] in (0, 1) for row in found[e])


def test_lanes_and_their_number_do_not_matter(make_trace):
    trace = make_trace(3, sampled=True)
    runs = []
    for lanes in (1, 3, 64):
        session = TraceSession.per_prompt(trace, lanes=lanes, seeds=range(3))
        ledger = Ledger(session.pool, len(session.episode_prompt))
        policy = MetaSDUCB(reward="block_efficiency")
        policy.bind(session.pool, session.lanes)
        decode(session, policy, ledger)
        order = np.lexsort((session.episode_seed, session.episode_prompt))
        runs.append(np.column_stack([ledger.rounds_of(), ledger.arms])[order])
    assert (runs[0] == runs[1]).all()
    assert (runs[0] == runs[2]).all()


def test_stop_reasons_all_occur(make_trace):
    seen = set()
    for seed in range(6):
        trace = make_trace(seed, lengths=(30, 1, 17, 9, 40, 3, 5, 8))
        session = TraceSession.per_prompt(trace, Pool(trace.drafters, ARMS), lanes=4, budget=3 if seed % 2 else None)
        while not session.done:
            rounds = session.play(np.arange(session.lanes) % len(ARMS))
            seen |= set(rounds.stop.tolist())
    assert seen == {int(s) for s in StopReason}


def test_seconds_are_the_cost_models(make_trace):
    trace = make_trace(1)
    pool = Pool(trace.drafters, ARMS)
    session = TraceSession.per_prompt(trace, pool, lanes=2, reads=frozenset({"lag", "cost"}))
    rng = np.random.default_rng(0)
    while not session.done:
        context = session.context
        text = session._lanes.text.copy()
        rounds = session.play(rng.integers(0, len(pool), session.lanes))
        drafter = pool.drafter_of[rounds.arm]
        n_text = np.asarray(trace.prompt_lengths)[text[rounds.lane]] + rounds.position
        np.testing.assert_allclose(rounds.draft_seconds, trace.costs.draft(drafter, rounds.drafted))
        np.testing.assert_allclose(rounds.verify_seconds, trace.costs.verify(rounds.drafted, n_text))
        np.testing.assert_allclose(rounds.catch_up_seconds, trace.costs.catch_up(drafter, rounds.catch_up))
        drew = rounds.drafted > 0
        assert (rounds.catch_up[drew] == context.lag[rounds.lane, drafter][drew]).all()
        whole = drew & (rounds.drafted == np.minimum(pool.draft_length[rounds.arm], context.remaining[rounds.lane] - 1))
        np.testing.assert_allclose(context.cost[rounds.lane, rounds.arm][whole], rounds.seconds[whole])


def test_remaining_does_not_tell_the_length(make_trace):
    trace = make_trace(2, lengths=(30, 12, 25), ended=(True, True, True))
    session = TraceSession(trace, episodes=[[0], [1], [2]], seeds=[0, 0, 0])
    assert session.context.remaining.tolist() == [37, 37, 37]
    while not session.done:
        context = session.context
        running = context.remaining > 0
        assert (context.remaining + context.position == 37)[running].all()
        session.play(np.zeros(3, np.int64))


def test_context_holds_what_was_asked_for_and_nothing_else(make_trace):
    trace = make_trace(4)
    plain = TraceSession.per_prompt(trace).context
    assert [plain.signals, plain.lag, plain.cost, plain.tail, plain.proposal] == [None] * 5
    reads = frozenset({"signals", "lag", "cost", "tail", "proposal"})
    session = TraceSession(trace, episodes=[[0]], seeds=[0], reads=reads)
    words = [*trace.prompt_tokens[: trace.prompt_lengths[0]], *trace.tokens[:30]]
    n = int(trace.prompt_lengths[0])
    while not session.done:
        context = session.context
        row = int(context.position[0])
        ends = ([-1, -1, *words[: n + row]])[-2:]
        assert context.tail[0].tolist() == ends
        has = trace.proposed[row] > 0
        assert context.available[0].tolist() == [*has.tolist(), True]  # plain is always there
        assert (context.proposal[0] == np.where(has & [True, True, False], trace.draft_tokens[row, :, 0], -1)).all()
        np.testing.assert_array_equal(context.signals[0], trace.signals[row].astype(np.float32))
        session.play(np.array([1]))


def test_texts_in_the_given_order_on_one_lane_a_seed(make_trace):
    trace = make_trace(5)
    session = TraceSession.in_order(trace, orders=[[4, 0, 2], [1, 1]], seeds=[7, 8])
    assert session.episode_prompt.tolist() == [4, 0, 2, 1, 1]
    assert session.episode_seed.tolist() == [7, 7, 7, 8, 8]
    assert session.fresh.tolist() == [0, 1]
    assert session.keys.tolist() == [noise.key(7, "p4"), noise.key(8, "p1")]
    seen = []
    while not session.done:
        rounds = session.play(np.zeros(2, np.int64))
        seen += [int(p) for p, f in zip(rounds.prompt, rounds.finished, strict=True) if f]
        assert set(session.fresh) <= set(rounds.lane[rounds.finished])
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert (session.context.remaining == 0).all()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"budget": 0}, "0 tokens"),
        ({"budget": 18}, "p2"),
        ({"episodes": [[9]]}, "9"),
        ({"seeds": [0, 1]}, "2 seeds"),
        ({"scope": "some", "feedback": "full"}, "some"),
    ],
)
def test_wrong_usage_names_the_value(make_trace, kwargs, words):
    with pytest.raises(UsageError, match=words):
        TraceSession(make_trace(0), **({"episodes": [[0]], "seeds": [0]} | kwargs))


def test_wrong_arms_and_missing_parts_are_refused(make_trace):
    trace = make_trace(0)
    session = TraceSession.per_prompt(trace)
    with pytest.raises(UsageError, match="4"):
        session.play(np.full(session.lanes, 4))
    with pytest.raises(UsageError, match="bandit"):
        session.reveal()
    with pytest.raises(UsageError, match="drafters"):
        TraceSession.per_prompt(trace, Pool(trace.drafters[:2], [(0, 1)]))
    with pytest.raises(UsageError, match="more than"):
        TraceSession.per_prompt(trace, Pool(trace.drafters, [(0, 5)]))
    with pytest.raises(UsageError, match="overlap"):
        TraceSession.per_prompt(dataclasses.replace(trace, overlap=None), overlap=True).play(np.zeros(5, np.int64))
    with pytest.raises(TraceError, match="p1"):
        TraceSession.per_prompt(make_trace(0, lengths=(4, 0, 3)))


def test_overlap_is_of_the_drafted_positions_only(make_trace):
    trace = make_trace(0)
    pool = Pool(trace.drafters, [(0, 3), (2, 2)])
    session = TraceSession(trace, pool, episodes=[[0]], seeds=[0], overlap=True)
    while not session.done:
        rounds = session.play(rounds_arm := np.array([int(session.context.position[0]) % 2]))
        row, d, m = int(rounds.position[0]), int(pool.drafter_of[rounds_arm[0]]), int(rounds.drafted[0])
        assert rounds.overlap.shape == (1, 3)
        np.testing.assert_array_equal(rounds.overlap[0, :m], trace.overlap[row, d, :m].astype(np.float32))
        assert np.isnan(rounds.overlap[0, m:]).all()
