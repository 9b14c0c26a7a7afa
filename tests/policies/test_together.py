"""Draft-with-all: the chains of all drafters in every round, none more than fits, refused where there are no trees."""

from __future__ import annotations

import pytest
from planned import gpu, round_of, session_of, step

from metasd.core.errors import UsageError
from metasd.core.plans import ROOT
from metasd.policies import make
from metasd.policies.together import chain
from metasd.traces.find import REFERENCE, find_trace
from metasd.traces.select import take_prompts


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
