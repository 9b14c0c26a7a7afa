"""Plans on replayed texts: chains as the arms they are short for, trees against brute force, what cannot be played."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metasd.core.cache_rule import behind
from metasd.core.errors import UsageError
from metasd.core.plans import Plan
from metasd.core.records import StopReason
from metasd.sim.replay.session import TraceSession
from metasd.traces.find import find_trace
from metasd.traces.select import take_prompts
from metasd.traces.shipped import REFERENCE

REF = find_trace(REFERENCE)
COUNTS = ("position", "drafted", "accepted", "emitted", "catch_up", "finished")


@pytest.fixture(scope="module")
def trace():
    return take_prompts(REF, [0, 9, 30])


def session(trace, **more):
    return TraceSession.in_order(trace, orders=[np.arange(len(trace))], seeds=[0], plans=True, **more)


def test_a_plan_of_an_arms_draft_is_that_arm(trace):
    """Every round of arms drawn at random, played as plans: the same rounds to the second, catch-up included."""
    rng = np.random.default_rng(3)
    arms, trees = TraceSession.in_order(trace, orders=[np.arange(3)], seeds=[0]), session(trace)
    pool, rounds, row = arms.pool, 0, 0
    while not arms.done:
        arm = int(rng.integers(len(pool)))
        context = arms.context
        left = int(context.remaining[0])
        drafter, length = int(pool.drafter_of[arm]), int(pool.draft_length[arm])
        length = min(length, int(trace.proposed[row, drafter]) if length else 0)
        if pool.plain[arm] or not length:
            plan = Plan()
        elif pool.free[drafter]:
            plan = Plan.chain(trace.draft_tokens[row, drafter, :length].tolist(), drafter)
        else:
            plan = Plan(model=drafter, depth=length)
        one, other = arms.play(np.array([arm])), trees.play_plans([plan])
        for name in COUNTS:
            assert getattr(one, name)[0] == getattr(other, name)[0], name
        assert other.checked[0] == one.drafted[0]
        free = pool.free[drafter] and one.drafted[0] > 0  # drafting from tokens alone is priced with the arm only
        spent = one.seconds - (one.draft_seconds if free else 0.0)
        np.testing.assert_allclose(other.seconds, spent, rtol=1e-12)
        ended = StopReason.TEXT_ENDED, StopReason.REJECTED, StopReason.BUDGET_ENDED
        assert (one.stop[0] in ended) == (other.stop[0] in ended) or left == 1
        row += int(one.emitted[0])
        rounds += 1
    assert trees.done
    assert rounds > 60


def test_the_path_that_stands_is_the_longest_that_matches_and_a_chain_shares_its_nodes(trace):
    rng = np.random.default_rng(5)
    played = session(trace)
    skip = [d.name for d in trace.drafters].index("skip")
    row, ends = 0, trace.offsets[1:]
    seen = set()
    for _ in range(60):
        if played.done:
            break
        end = int(ends[np.searchsorted(ends, row, side="right")])
        text = trace.tokens[row:end].tolist()
        tokens, parents = [], []
        for node in range(int(rng.integers(0, 5))):
            parent = int(rng.integers(-1, node))
            depth = 0
            at = parent
            while at >= 0:
                depth, at = depth + 1, parents[at]
            token = text[depth] if depth < len(text) and rng.random() < 0.7 else int(rng.integers(50))
            if (parent, token) not in set(zip(parents, tokens, strict=True)):
                tokens.append(token)
                parents.append(parent)
            else:
                break
        deep = int(rng.integers(0, 3))
        left = int(played.context.remaining[0]) - 1
        chain = trace.draft_tokens[row, skip, :deep].tolist()
        lag = int(behind(played._lanes.row[0], played._lanes.valid[0, skip]))
        offered = {tuple(chain[: n + 1]) for n in range(min(deep, left))}
        for node in range(len(tokens)):
            path, at = [], node
            while at >= 0:
                path, at = [tokens[at], *path], parents[at]
            if len(path) <= left:
                offered.add(tuple(path))
        plan = Plan(tuple(tokens), tuple(parents), model=skip if deep else -1, depth=deep)
        rounds = played.play_plans([plan])
        stands = max((len(p) for p in offered if list(p) == text[: len(p)]), default=0)
        assert int(rounds.checked[0]) == len(offered)
        assert int(rounds.drafted[0]) == max(map(len, offered), default=0)
        assert int(rounds.accepted[0]) == stands
        assert int(rounds.catch_up[0]) == (lag if deep and left else 0)
        emitted = text[: int(rounds.emitted[0])]
        assert played.judged[0].tokens == emitted
        assert len(emitted) == min(stands + 1, len(text))
        assert int(rounds.credit.sum()) == stands
        seen.add((stands, deep))
        row += len(emitted)
    assert len(seen) > 5


def test_a_trees_cache_keeps_what_was_committed_of_the_chain(trace):
    played = session(trace)
    skip = [d.name for d in trace.drafters].index("skip")
    text = trace.tokens[:8].tolist()
    stands = int(trace.accepted[0, skip])
    played.play_plans([Plan(tuple(text[:4]), (-1, 0, 1, 2), model=skip, depth=3)])
    emitted = int(played.context.position[0])
    assert emitted == max(stands, 4) + 1
    second = played.play_plans([Plan(model=skip, depth=1)])
    # of the chain its standing tokens were read, all but the last drafted; of the rest nothing
    assert int(second.catch_up[0]) == emitted - 1 - min(2, stands)


def test_sources_read_the_prompt_and_what_was_committed(trace):
    played = session(trace)
    prompt = trace.prompt_tokens[: int(trace.prompt_lengths[0])].tolist()
    assert played.suggest[0].tail == tuple(prompt[-8:])
    played.play_plans([Plan.chain(trace.tokens[:3].tolist())])
    assert played.suggest[0].tail == tuple([*prompt, *trace.tokens[:4].tolist()][-8:])
    kinds = [trace.drafters[d].name for d, _ in played.suggest[0].sources]
    assert kinds == ["lookup", "table-code", "table-math", "table-chat"]


def test_passes_wider_than_measured_have_no_price(trace):
    played = session(trace, reads=frozenset())
    assert played.context.passes.shape == (1, 9)
    with pytest.raises(UsageError, match=r"9 nodes needs a pass 10 wide, .* at most 8 nodes"):
        played.play_plans([Plan(tuple(range(9)), (-1,) * 9)])
    assert played.context.position[0] == 0
    assert played.play_plans([Plan(tuple(range(8)), (-1,) * 8)]).checked[0] == 8


def test_what_a_trace_does_not_hold_is_refused(trace, make_trace):
    with pytest.raises(UsageError, match="prompts' tokens"):
        session(replace(trace, prompt_tokens=None))
    with pytest.raises(UsageError, match="make it with plans=True"):
        TraceSession.per_prompt(trace).play_plans([Plan()] * 3)
    with pytest.raises(UsageError, match="one a lane"):
        session(trace).play_plans([])
    with pytest.raises(UsageError, match="no model drafter"):
        session(trace).play_plans([Plan(model=0, depth=1)])
    bare = replace(trace, draft_tokens=None)
    with pytest.raises(UsageError, match="plan without a model drafter"):
        session(bare).play_plans([Plan(model=4, depth=1)])
    assert np.isinf(session(bare).context.drafting[0, :, 1:]).all()
    assert np.isfinite(session(trace).context.drafting[0, 4, 1:]).all()
    assert np.isinf(session(trace).context.drafting[0, :4, 1:]).all()


def test_lanes_play_as_each_alone(trace):
    together = TraceSession.per_prompt(trace, plans=True)
    rows = {p: [] for p in range(3)}
    position = np.zeros(3, int)
    starts = trace.offsets[:-1]
    for _ in range(12):
        plans = [Plan.chain(trace.tokens[starts[p] + position[p] :][:2].tolist()) for p in range(3)]
        rounds = together.play_plans(plans)
        for p, row in zip(rounds.prompt.tolist(), rounds.counts(), strict=True):
            rows[p].append(row[1:])
            position[p] += row[5]
    for p in range(3):
        alone = session(take_prompts(trace, [p]))
        at = int(starts[p])
        for row in rows[p]:
            (own,) = alone.play_plans([Plan.chain(trace.tokens[at:][:2].tolist())]).counts()
            assert own[1:] == row
            at += own[5]
