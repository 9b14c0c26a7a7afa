"""Draft-with-all: the chains of all drafters in every round, none more than fits, refused where there are no trees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planned import gpu, round_of, session_of, step

from metasd.core.errors import UsageError
from metasd.core.plans import ROOT
from metasd.policies import make
from metasd.policies.draft_with_all import chain, fitting
from metasd.sim.replay.run import replay
from metasd.traces.find import find_trace
from metasd.traces.select import take_drafters, take_prompts
from metasd.traces.shipped import REFERENCE


@pytest.fixture(scope="module")
def few():
    return take_prompts(find_trace(REFERENCE), [0, 8, 17, 26, 40])


class Says:
    """A source that says what it is told to, by the last token."""

    reach, fixed = 2, True

    def __init__(self, after):
        self.after = after

    def suggest(self, context):
        return self.after.get(context[-1], [])


def test_a_chain_is_the_newest_of_the_longest_run_again_and_again():
    says = Says({1: [(5, 2, 0.6, False), (2, 2, 0.4, True), (9, 1, 1.0, True)], 2: [(3, 1, 0.5, False)]})
    assert chain(says, (7, 1), 5) == [2, 3]
    assert chain(says, (7, 1), 1) == [2]
    assert chain(says, (3,), 4) == []


def paths(plan):
    """Every path from the root to a node of ``plan``."""
    found = []
    for node in range(len(plan)):
        path, at = [], node
        while at != ROOT:
            path.insert(0, plan.tokens[at])
            at = plan.parents[at]
        found.append(tuple(path))
    return found


def drafts(trace, row, left):
    """The recorded chain of every drafter at ``row``, none longer than ``left``."""
    most = [min(int(n), left) for n in trace.proposed[row]]
    return [tuple(trace.draft_tokens[row, d, :n].tolist()) for d, n in enumerate(most)]


def test_the_tree_is_what_the_drafters_drafted(few):
    """Tables and models exactly, and nearly always lookup, which goes on copying where it began."""
    policy = make("draft-with-all")
    session = session_of(few, policy, costs=gpu(1))
    kinds = [info.kind for info in few.drafters]
    rounds = copied = 0
    while not session.done:
        row, left = int(session._lanes.row[0]), int(session.context.remaining[0]) - 1
        (plan,), played = round_of(session, policy)
        made, drafted = set(paths(plan)), drafts(few, row, left)
        assert plan.depth == len(drafted[kinds.index("skip")])
        for kind, run in zip(kinds, drafted, strict=True):
            if kind == "table":
                assert all(run[:n] in made for n in range(1, len(run) + 1))
        tables = {run[:n] for k, run in zip(kinds, drafted, strict=True) if k != "skip" for n in range(1, len(run) + 1)}
        looked = drafted[kinds.index("lookup")]
        if all(looked[:n] in made for n in range(1, len(looked) + 1)):
            copied += 1
            assert tables <= made
            assert all(looked and run[: len(looked)] == looked for run in made - tables)  # it copies no copies
        others = [d for d, kind in enumerate(kinds) if kind != "lookup"]
        assert int(played.accepted[0]) >= min(int(few.accepted[row, others].max()), left)
        rounds += 1
    assert copied > 0.95 * rounds > 100


def test_trees_are_cut_to_what_passes_were_measured_for(few):
    policy = make("draft-with-all")
    session = session_of(few, policy)  # the trace's own clock knows narrow passes only
    widest = few.costs.widest - 1
    cut = 0
    while not session.done:
        (plan,) = step(session, policy)
        assert len(plan) + plan.depth <= widest
        cut += len(plan) + plan.depth > widest // 2
    assert cut > 10


def test_what_it_cannot_do_is_refused(few):
    policy = make("draft-with-all:model=tiny")
    with pytest.raises(UsageError, match="model 'tiny' is no model drafter of this pool; it has skip"):
        session_of(few, policy)
    policy = make("draft-with-all:model=skip")
    session = session_of(few, policy)
    context = session.context
    context.branches = False
    with pytest.raises(UsageError, match="cannot"):
        policy.plan(context, session.suggest)
    with pytest.raises(UsageError, match="plans"):
        policy.select(context)


@pytest.mark.parametrize("seed", range(5))
def test_the_greatest_length_that_fits_is_taken(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        chains = [rng.integers(0, 2, rng.integers(0, 6)).tolist() for _ in range(rng.integers(1, 4))]
        depth, nodes = int(rng.integers(0, 5)), int(rng.integers(0, 12))
        fits = [0]
        for length in range(1, max([depth, *map(len, chains)]) + 1):
            distinct = {tuple(c[:n]) for c in chains for n in range(1, length + 1) if n <= len(c)}
            if len(distinct) + min(depth, length) <= nodes:
                fits.append(length)
        assert fitting(chains, depth, nodes) == max(fits)


@pytest.mark.parametrize("names", [["table-code"], ["table-code", "table-math", "table-chat"], ["lookup"], ["skip"]])
def test_without_lookup_tables_still_copy_from_the_text(few, names):
    """No clock: nothing is cut, and nothing that a drafter alone would get is lost."""
    which = [d for d, info in enumerate(few.drafters) if info.name in names]
    pool = replace(take_drafters(few, which), costs=None)
    alone = [replay(pool, f"fixed:arm={name}").ledger.rounds_of().sum() for name in names]
    ours = replay(pool, "draft-with-all").ledger.rounds_of().sum()
    if names == ["lookup"]:
        assert ours == pytest.approx(alone[0], rel=0.02)  # which goes on copying where it began
    elif len(names) == 1:
        assert ours == alone[0]
    else:
        assert ours < min(alone)


def test_where_not_even_one_token_of_each_fits_some_are_checked(few):
    narrow = replace(gpu(1), widths=np.array([1.0, 3.0]), verify_seconds=np.array([0.01, 0.02]))
    policy = make("draft-with-all")
    session, checked = session_of(few, policy, costs=narrow), 0
    while not session.done:
        (plan,) = step(session, policy)
        assert len(plan) + plan.depth <= 2
        checked += len(plan) + plan.depth == 2
    assert checked > 20
