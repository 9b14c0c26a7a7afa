"""Full information: delivered by the frontier, complete, and never early."""

from __future__ import annotations

import numpy as np
import pytest

from metasd.core.pool import Pool
from metasd.sim.replay.session import TraceSession

ARMS = [(0, 4), (1, 2), (2, 4), (-1, 0)]


def played(session, arms, watch):
    """Play on one lane, calling ``watch(frontier before, frontier, revealed, finished)`` after each round."""
    n = 0
    while not session.done:
        rounds = session.play(np.array([arms[n % len(arms)]]))
        before = int(rounds.position[0])
        watch(before, before + int(rounds.emitted[0]), session.reveal(), bool(rounds.finished[0]))
        n += 1


def truth(trace, pool, p, d, start, sampled=False):
    """Proposed, accepted, emitted, ended of the drafter's longest arm at a start, straight from the table."""
    longest = max(a.draft_length for a in pool.arms if a.drafter == d)
    row, left = int(trace.offsets[p]) + start, int(trace.offsets[p + 1] - trace.offsets[p]) - start
    proposed = min(int(trace.proposed[row, d]), longest)
    agreed = min(int(trace.accepted[row, d]), proposed)
    if not trace.ended[p]:
        return proposed, agreed, agreed + 1, False
    return proposed, min(agreed, left), min(agreed + 1, left), agreed >= left


@pytest.mark.parametrize("p", [0, 1, 2, 4])
@pytest.mark.parametrize("scope", ["free", "all"])
def test_every_length_comes_once_in_the_play_that_resolves_it(make_trace, p, scope):
    trace = make_trace(11)
    pool = Pool(trace.drafters, ARMS)
    inside = [0, 1, 2] if scope == "all" else [0, 1]
    session = TraceSession(trace, pool, episodes=[[p]], seeds=[0], feedback="full", scope=scope)
    seen = {}

    def watch(before, frontier, revealed, finished):
        assert not revealed.censored.any()
        keys = list(zip(revealed.start.tolist(), revealed.drafter.tolist(), strict=True))
        assert keys == sorted(keys)
        for i, (start, d) in enumerate(keys):
            proposed, accepted, emitted, ended = truth(trace, pool, p, d, start)
            assert (start, d) not in seen
            assert before < start + emitted <= frontier, "a censored length was passed as final, or came late"
            row = [int(c[i]) for c in (revealed.proposed, revealed.accepted, revealed.ended)]
            assert row == [proposed, accepted, ended]
            expected = trace.signals[trace.offsets[p] + start].astype(np.float32)
            expected[[d for d in range(3) if d not in inside]] = np.nan
            np.testing.assert_array_equal(revealed.signals[i], expected)
            seen[start, d] = True

    played(session, [0, 1, 2, 3], watch)
    length = int(trace.offsets[p + 1] - trace.offsets[p])
    every = {(s, d) for s in range(length) for d in inside if trace.proposed[trace.offsets[p] + s, d]}
    due = {(s, d) for s, d in every if s + truth(trace, pool, p, d, s)[2] <= length}
    assert set(seen) == due


def test_a_length_that_would_differ_if_cut_is_never_given_early(make_trace):
    """A drafter that agrees for four tokens: at every frontier before the end its cut length is smaller."""
    trace = make_trace(0, lengths=(12,), ended=(True,))
    trace.proposed[:], trace.accepted[:] = 4, 0
    trace.accepted[0, 0] = 4
    session = TraceSession(trace, episodes=[[0]], seeds=[0], feedback="full", censored=True)
    told = []

    def watch(before, frontier, revealed, finished):
        for i in np.flatnonzero((revealed.start == 0) & (revealed.drafter == 0)):
            told.append((frontier, int(revealed.accepted[i]), bool(revealed.censored[i])))

    played(session, [1], watch)  # one token a round
    assert told == [(1, 1, True), (2, 2, True), (3, 3, True), (4, 4, True), (5, 4, False)]


def test_censored_bounds_are_what_the_frontier_shows(make_trace):
    trace = make_trace(5)
    pool = Pool(trace.drafters, ARMS)
    session = TraceSession(trace, pool, episodes=[[4]], seeds=[0], feedback="full", scope="all", censored=True)
    count = 0

    def watch(before, frontier, revealed, finished):
        nonlocal count
        for i in range(len(revealed.start)):
            start, d = int(revealed.start[i]), int(revealed.drafter[i])
            _, accepted, emitted, _ = truth(trace, pool, 4, d, start)
            assert bool(revealed.censored[i]) == (start + emitted > frontier)
            if revealed.censored[i]:
                count += 1
                assert int(revealed.accepted[i]) == frontier - start <= accepted
                assert not revealed.ended[i]
        open_now = {
            (s, d)
            for s in range(frontier)
            for d in range(3)
            if trace.proposed[trace.offsets[4] + s, d] and s + truth(trace, pool, 4, d, s)[2] > frontier
        }
        rows = zip(revealed.start[revealed.censored], revealed.drafter[revealed.censored], strict=True)
        assert {(int(s), int(d)) for s, d in rows} == open_now

    played(session, [3, 0, 2], watch)
    assert count > 20


@pytest.mark.parametrize("sampled", [False, True])
def test_agreement_at_each_new_position(make_trace, sampled):
    trace = make_trace(9, sampled=sampled)
    session = TraceSession(trace, episodes=[[0]], seeds=[0], feedback="full", scope="free")
    positions = []

    def watch(before, frontier, revealed, finished):
        assert revealed.position.tolist() == list(range(before, frontier))
        positions.extend(revealed.position.tolist())
        rows = revealed.position
        expected = trace.accept[rows, :, 0] if sampled else trace.accepted[rows] > 0
        expected = np.where(trace.proposed[rows] > 0, expected.astype(float), np.nan)
        expected[:, 2] = np.nan  # a model is out of scope
        np.testing.assert_array_equal(revealed.agreement, expected)

    played(session, [0, 1], watch)
    assert positions == list(range(30))


def test_above_temperature_zero_only_one_hot_drafters_have_lengths(make_trace):
    trace = make_trace(9, sampled=True)
    session = TraceSession.per_prompt(trace, lanes=3, feedback="full", scope="all")
    drafters, models = set(), 0
    while not session.done:
        session.play(np.zeros(session.lanes, np.int64))
        revealed = session.reveal()
        drafters |= set(revealed.drafter.tolist())
        models += np.isfinite(revealed.agreement[:, 2]).sum()
    assert drafters == {0, 1}
    assert models > 0


def test_many_lanes_reveal_what_single_lanes_do(make_trace):
    trace = make_trace(2)
    many = TraceSession.per_prompt(trace, lanes=5, feedback="full")
    singles = [TraceSession(trace, episodes=[[p]], seeds=[0], feedback="full") for p in range(5)]
    n = 0
    while not many.done:
        arms = (np.arange(5) + n) % 3
        many.play(arms)
        revealed = many.reveal()
        for p, single in enumerate(singles):
            if single.done:
                assert p not in set(revealed.lane) | set(revealed.start_lane)
                continue
            single.play(arms[p : p + 1])
            alone = single.reveal()
            mine = revealed.start_lane == p
            for name in ("start", "drafter", "proposed", "accepted", "ended"):
                assert (getattr(revealed, name)[mine] == getattr(alone, name)).all()
            np.testing.assert_array_equal(revealed.agreement[revealed.lane == p], alone.agreement)
        n += 1


def test_full_information_on_models_is_charged(make_trace):
    trace = make_trace(6)
    pool = Pool(trace.drafters, ARMS)
    free = TraceSession(trace, pool, episodes=[[0]], seeds=[0], feedback="full", scope="free")
    paid = TraceSession(trace, pool, episodes=[[0]], seeds=[0], feedback="full", scope="all", reads=frozenset({"lag"}))
    tokens, first = 0, True
    while not paid.done:
        a, b = free.play(np.array([0])), paid.play(np.array([0]))
        assert a.catch_up[0] == 0
        tokens += int(b.emitted[0])
        due = int(b.emitted[0]) + (int(trace.prompt_lengths[0]) - 1 if first else 0)
        assert b.catch_up[0] == due
        np.testing.assert_allclose(b.catch_up_seconds, trace.costs.catch_up(np.array([2]), np.array([due])))
        first = False
        assert (paid.context.lag == 0).all()
    assert tokens == 30
