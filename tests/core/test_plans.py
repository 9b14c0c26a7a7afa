"""Plans: what is refused, the tree that is checked, the path that stands, and the arm it counts for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.core.plan_rounds import settle_plans, stood
from metasd.core.plans import Plan, arm_of, tree_of
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import NO_END, StopReason

INFOS = [DrafterInfo("a", "lookup", True, True), DrafterInfo("m", "model", False, False)]
POOL = Pool(INFOS, [(0, 2), (0, 6), (1, 3), (-1, 0)])


@st.composite
def plans(draw):
    """A random tree over three tokens, so that equal tokens stand under different parents."""
    tokens, parents, taken = [], [], set()
    for node in range(draw(st.integers(0, 9))):
        pair = draw(st.integers(-1, node - 1)), draw(st.integers(0, 2))
        if pair not in taken and pair[0] < len(tokens):
            taken.add(pair)
            parents.append(pair[0])
            tokens.append(pair[1])
    return Plan(tuple(tokens), tuple(parents))


texts = st.lists(st.integers(0, 2), max_size=8)


def paths_of(tokens, parents) -> set[tuple[int, ...]]:
    """Every path from the root, as tokens: what the tree offers."""
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tokens, parents, strict=True):
        found.append((*(found[parent] if parent >= 0 else ()), token))
    return set(found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(tokens=(1, 2), parents=(-1,)), "one of each a node"),
        (dict(tokens=(1,), parents=(-1,), sources=(0, 1)), "one of each a node"),
        (dict(tokens=(1, 2), parents=(-1, 1)), "node 1 of a plan hangs on 1"),
        (dict(tokens=(1, 2), parents=(-1, -2)), "hangs on -2"),
        (dict(tokens=(1, 1), parents=(-1, -1)), "two equal children"),
        (dict(depth=2), "give both or neither"),
        (dict(model=0), "give both or neither"),
        (dict(model=0, depth=-1), "give both or neither"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(arguments, said):
    with pytest.raises(UsageError, match=said) as error:
        Plan(**{"tokens": (), "parents": ()} | arguments)
    assert "\n" not in str(error.value)


@given(plans(), st.lists(st.integers(0, 2), max_size=6), st.integers(0, 6))
def test_the_checked_tree_offers_what_plan_and_chain_do_once(plan, chain, deepest):
    tree = tree_of(plan, chain, deepest)
    wanted = {p for p in paths_of(plan.tokens, plan.parents) if len(p) <= deepest}
    wanted |= {tuple(chain[: n + 1]) for n in range(min(len(chain), deepest))}
    assert paths_of(tree.tokens, tree.parents) == wanted
    assert len(tree.tokens) == len(wanted)
    assert all(parent < node for node, parent in enumerate(tree.parents))
    assert tree.depth == max(map(len, wanted), default=0)
    assert [tree.tokens[n] for n in tree.chain] == chain[:deepest]


@given(plans(), texts)
def test_the_standing_path_is_the_longest_that_the_text_begins_with(plan, text):
    tree = tree_of(plan, [], 99)
    fits = [len(p) for p in paths_of(plan.tokens, plan.parents) if list(p) == text[: len(p)]]
    path = tree.standing(text)
    assert len(path) == max(fits, default=0)
    assert [tree.tokens[n] for n in path] == text[: len(path)]


def settled(plan: Plan, text: list[int], *, chain=(), remaining: int = 50, ends_in: int = int(NO_END)):
    tree = tree_of(plan, chain, remaining - 1)
    one = [np.array([v]) for v in (0, 0, 5, remaining, ends_in)]
    names = ("lane", "prompt", "position", "remaining", "ends_in")
    return settle_plans(POOL, [tree], [tree.standing(text)], **dict(zip(names, one, strict=True)))


FORK = Plan((7, 8, 9, 9), (-1, -1, 1, 2), (0, 0, 1, -1))  # 7 | 8 9 9


@pytest.mark.parametrize(
    ("text", "accepted", "stop"),
    [
        ([7, 5], 1, StopReason.PROPOSAL_ENDED),  # a leaf stands: nothing behind it was offered
        ([8, 5], 1, StopReason.REJECTED),
        ([8, 9, 9], 3, StopReason.PROPOSAL_ENDED),
        ([5], 0, StopReason.REJECTED),
    ],
)
def test_rounds_of_a_fork(text, accepted, stop):
    rounds = settled(FORK, text)
    assert (rounds.drafted[0], rounds.checked[0], rounds.nodes[0]) == (3, 4, 4)
    assert (rounds.accepted[0], rounds.emitted[0], rounds.stop[0]) == (accepted, accepted + 1, stop)
    assert (
        rounds.credit[0].tolist()
        == [[1, 0, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]][[[7, 5], [8, 5], [8, 9, 9], [5]].index(text)]
    )


def test_a_plan_without_nodes_is_plain_and_the_budget_cuts_what_is_too_deep():
    plain = settled(Plan(), [3])
    assert (plain.drafted[0], plain.checked[0], plain.emitted[0], POOL.names[plain.arm[0]]) == (0, 0, 1, "plain")
    assert plain.stop[0] == StopReason.PROPOSAL_ENDED
    cut = settled(Plan.chain([1, 2, 3]), [1, 2, 3], remaining=3)
    assert (cut.drafted[0], cut.accepted[0], cut.emitted[0], bool(cut.finished[0])) == (2, 2, 3, True)
    assert cut.stop[0] == StopReason.BUDGET_ENDED
    over = settled(Plan.chain([1, 2, 3]), [1, 2], ends_in=2)
    assert (over.accepted[0], over.emitted[0], over.stop[0]) == (2, 2, StopReason.TEXT_ENDED)


def test_a_tree_counts_for_an_arm_of_its_first_nodes_drafter():
    def name(plan: Plan, chain=()) -> str:
        return POOL.names[arm_of(POOL, tree_of(plan, chain, 99))]

    assert name(Plan()) == "plain"
    assert name(Plan.chain([1, 2], 0)) == "a@2"
    assert name(Plan.chain([1, 2, 3], 0)) == "a@6"
    assert name(Plan.chain([1] * 9, 0)) == "a@6"
    assert name(Plan(model=1, depth=2), [4, 5]) == "m@3"
    assert name(Plan.chain([1])) == "a@2"  # of none: the first drafter's
    with pytest.raises(UsageError, match="with_plain"):
        arm_of(Pool(INFOS, [(0, 2)]), tree_of(Plan(), [], 9))


def test_what_a_model_drafter_keeps_is_what_was_committed_of_its_chain():
    tree = tree_of(Plan.chain([4, 4]), [4, 6, 7], 9)
    assert len(tree.tokens) == 4
    assert [stood(tree, text) for text in ([4, 6, 7, 1], [4, 6, 1], [4, 4, 9], [9])] == [3, 2, 1, 0]
