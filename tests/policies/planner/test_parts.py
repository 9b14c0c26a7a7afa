"""The planner's parts against slow references: node values, growth, prefixes, the regression, the grown table."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.drafters.ngrams import NgramTable
from metasd.drafters.sources import TableSource
from metasd.policies.planner import asking
from metasd.policies.planner.candidates import CERTAIN, SIBLINGS, Candidates
from metasd.policies.planner.cells import AGREE, DEPTH, RANK, TABLE, TEXT, W, cold_weights
from metasd.policies.planner.grown import ORDER, Grown
from metasd.policies.planner.growth import best_prefix, grow
from metasd.policies.planner.values import STEADY, Logistic, one_hot


class Said:
    """A source that says what it was told to."""

    reach, version = 8, 0

    def __init__(self, rows, *, fixed):
        self.rows, self.fixed = rows, fixed

    def suggest(self, context):
        return list(self.rows)


def slow_values(texts, tables, depth, w):
    """(token, chance, drafter) as the page says it, one sentence at a time."""
    found = []
    tokens = list(dict.fromkeys([s[0] for _, rows in texts for s in rows] + [s[0] for _, rows in tables for s in rows]))
    for token in tokens:
        own = [(d, s) for d, rows in texts for s in rows if s[0] == token][:1]
        cell, drafter = TEXT, None
        if own:
            drafter, (_, order, share, latest) = own[0]
            cell = TEXT + 6 * min(order, 8) + 2 * ((share >= 0.5) + (share >= 1)) + latest
        said = [(s[1], (s[2] >= 0.5) + (s[2] >= 1), d) for d, rows in tables for s in rows if s[0] == token]
        table, agree = TABLE, AGREE
        if said:
            order = max(s[0] for s in said)
            same = [s for s in said if s[0] == order]
            share = max(s[1] for s in same)
            table, agree = TABLE + 3 * order + share, AGREE + min(len(same), 3)
            if drafter is None:
                drafter = next(s[2] for s in same if s[1] == share)
        found.append((w[cell] + w[table] + w[agree], token, drafter))
    found.sort(key=lambda row: -row[0])
    deep = w[DEPTH + (0 if depth == 0 else 1 if depth == 1 else 2 if depth < 4 else 3)]
    rows = [
        (token, 1 / (1 + math.exp(-(logit + deep + w[RANK + min(rank, 3)]))), drafter)
        for rank, (logit, token, drafter) in enumerate(found[:SIBLINGS])
    ]
    total = sum(row[1] for row in rows)
    return [(t, p * min(1, CERTAIN / total) if total else p, d) for t, p, d in rows], [row[1] for row in rows]


shares = st.sampled_from([0.2, 0.5, 0.7, 1.0])


@st.composite
def suggestions(draw, top, latest):
    tokens = draw(st.lists(st.integers(0, 11), unique=True, max_size=8))
    return [(t, draw(st.integers(1, top)), draw(shares), draw(st.booleans()) if latest else False) for t in tokens]


@settings(max_examples=150)
@given(
    st.lists(suggestions(9, True), min_size=1, max_size=2),
    st.lists(suggestions(4, False), max_size=3),
    st.integers(0, 9),
    st.integers(0, 10_000),
)
def test_node_values_are_those_of_the_page(texts, tables, depth, seed):
    w = np.random.default_rng(seed).normal(size=W).tolist()
    named = [(d, rows) for d, rows in enumerate(texts)]
    others = [(d + len(texts), rows) for d, rows in enumerate(tables)]
    sources = [(d, Said(rows, fixed=False)) for d, rows in named] + [(d, Said(rows, fixed=True)) for d, rows in others]
    made = Candidates(sources, None).after((1, 2, 3), depth, w)
    wanted, raw = slow_values(named, others, depth, w)
    assert [c[0] for c in made] == [t for t, _, _ in wanted]
    assert [c[2] for c in made] == [d for _, _, d in wanted]
    np.testing.assert_allclose([c[1] for c in made], [p for _, p, _ in wanted], rtol=1e-12)
    np.testing.assert_allclose([c[4] for c in made], raw, rtol=1e-12)
    for _, _, _, cells, chance in made:  # the cells say how the chance came about
        assert 1 / (1 + math.exp(-sum(w[c] for c in cells))) == pytest.approx(chance)


def test_a_grown_table_counts_like_another_table():
    table, grown = Said([(5, 2, 0.4, False)], fixed=True), Said([(5, 2, 1.0, False), (6, 1, 1.0, False)], fixed=True)
    made = Candidates([(3, table)], grown).after((1, 2), 0, cold_weights().tolist())
    assert {c[0]: (c[2], c[3][:3]) for c in made} == {
        5: (-1, (TEXT, TABLE + 3 * 2 + 2, AGREE + 2)),
        6: (-1, (TEXT, TABLE + 3 * 1 + 2, AGREE + 1)),
    }


# -- growth -------------------------------------------------------------------------------------------------------


def world(seed):
    """Three candidates behind any context, with chances fixed by it that add up to less than one."""

    def expand(context, depth):
        rng = np.random.default_rng([seed, depth, *(t + 1 for t in context)])
        chances = rng.dirichlet([1, 0.7, 0.4, 0.6])[:3]
        return [(t, float(p), t, (0, 0, 0, 0, 0), float(p)) for t, p in enumerate(chances)]

    return expand


def everything(expand, tail, depth, reach):
    """All nodes to ``depth`` as {path: value}."""
    found, todo = {}, [((), 1.0, tail)]
    for at in range(depth):
        todo = [
            ((*path, token), value * chance, (*context, token)[-reach:])
            for path, value, context in todo
            for token, chance, *_ in expand(context, at)
        ]
        found |= {path: value for path, value, _ in todo}
    return found


@pytest.mark.parametrize("seed", range(6))
def test_every_prefix_is_the_best_tree_of_its_size(seed):
    expand, tail = world(seed), (7, 8)
    values = everything(expand, tail, 3, 2)
    made = grow(expand, tail, floor=0.0, nodes=6, depth=3, reach=2)
    paths = []
    for token, parent in zip(made.tokens, made.parents, strict=True):
        paths.append((*(paths[parent] if parent >= 0 else ()), token))
    assert made.values == pytest.approx([values[p] for p in paths])
    assert made.depths == [len(p) - 1 for p in paths]
    assert len(made.candidates) == len(paths) + 1
    best = sorted(values, key=values.__getitem__, reverse=True)[:12]
    for size in (1, 2, 3):  # brute force over all trees of the most valuable nodes
        trees = [set(c) for c in combinations(best, size) if all(p[:-1] in {(), *c} for p in c)]
        assert sum(made.values[:size]) == pytest.approx(max(sum(values[p] for p in tree) for tree in trees))


def test_growth_stops_at_the_floor_the_depth_and_the_number_of_nodes():
    expand = world(1)
    values = everything(expand, (1, 1), 3, 2)
    floor = sorted(values.values())[-8]
    made = grow(expand, (1, 1), floor=floor, nodes=50, depth=3, reach=2)
    assert sorted(made.values) == pytest.approx(sorted(v for v in values.values() if v > floor))
    assert len(grow(expand, (1, 1), floor=0.0, nodes=50, depth=1, reach=2).tokens) == 3
    assert len(grow(expand, (1, 1), floor=0.0, nodes=5, depth=9, reach=2).tokens) == 5
    assert grow(expand, (1, 1), floor=0.0, nodes=5, depth=0, reach=2).tokens == []


@given(
    st.lists(st.floats(0, 1), max_size=9).map(lambda v: sorted(v, reverse=True)),
    st.lists(st.floats(0, 3), min_size=10, max_size=10),
    st.floats(0, 2),
    st.integers(0, 9),
)
def test_all_prefixes_are_tried(values, cost, rho, most):
    n, worth = best_prefix(values, cost, rho, most)
    every = [1 + sum(values[:k]) - rho * cost[k] for k in range(min(len(values), most) + 1)]
    assert worth == pytest.approx(max(every))
    assert every[n] == pytest.approx(max(every))
    assert all(every[k] < every[n] + 1e-12 for k in range(n))
    assert best_prefix([0.0, 0.0], None, 0.0, 9)[0] == 0  # the shortest of equals
    assert best_prefix([0.5, 0.2], None, 0.0, 9) == (2, 1.7)


# -- learning -----------------------------------------------------------------------------------------------------


def test_the_regression_is_newtons_step_row_by_row():
    rng = np.random.default_rng(0)
    width, cold = 6, rng.normal(size=6)
    made = Logistic(2, cold, patience=2)
    a, w, g = np.eye(width), cold.copy(), np.zeros(width)
    for block in range(4):
        x = one_hot(rng.integers(0, width, (5, 1)), width)
        y, p = rng.integers(0, 2, 5).astype(float), rng.random(5)
        for i in range(5):
            a = a + (p[i] * (1 - p[i]) + STEADY) * np.outer(x[i], x[i])
            g = g + (y[i] - p[i]) * x[i]
        if block % 2:
            w, g = w + np.linalg.inv(a) @ g, np.zeros(width)
        assert made.learn(1, x, y, p) == bool(block % 2)
        np.testing.assert_allclose(made.weights[1], w)
        np.testing.assert_allclose(made.weights[0], cold)
    made.clear(np.array([1]))
    np.testing.assert_array_equal(made.weights[1], cold)
    np.testing.assert_array_equal(made.moments[1], np.eye(width))


def test_the_regression_finds_the_chances():
    rng = np.random.default_rng(1)
    truth = np.array([0.1, 0.5, 0.9])
    made = Logistic(1, np.zeros(3))
    for _ in range(1500):
        at = rng.integers(0, 3, (4, 1))
        p = 1 / (1 + np.exp(-made.weights[0][at[:, 0]]))
        made.learn(0, one_hot(at, 3), (rng.random(4) < truth[at[:, 0]]).astype(float), p)
    np.testing.assert_allclose(1 / (1 + np.exp(-made.weights[0])), truth, atol=0.04)


# -- the model drafter --------------------------------------------------------------------------------------------


def test_a_chains_gain_is_what_the_tree_does_not_cover():
    free = asking.alive([0.6, 0.4, 0.3, 0.7], [0, 1, 0, 2], 3)
    assert free == pytest.approx([0.9, 0.4, 0.7])
    x = asking.rows(free)
    weights = np.zeros(asking.WIDTH)
    gain, chances = asking.gains(x, free, weights, None)
    assert chances.tolist() == [0.5, 0.5, 0.5]
    assert gain.tolist() == pytest.approx([0.5 * 0.1, 0.05 + 0.25 * 0.6, 0.2 + 0.125 * 0.3])
    hoped, _ = asking.gains(x, free, weights, np.eye(asking.WIDTH))
    spread = [math.sqrt(sum(v * v for v in row)) for row in x.tolist()]
    likely = np.cumprod([1 / (1 + math.exp(-0.5 * s)) for s in spread])
    np.testing.assert_allclose(hoped, np.cumsum(likely * (1 - np.array(free))))


# -- the grown table ----------------------------------------------------------------------------------------------


def test_rows_noted_by_their_cells_are_learned_like_whole_ones():
    rng = np.random.default_rng(3)
    whole, noted = (Logistic(2, np.zeros(9), patience=3) for _ in range(2))
    for block in range(7):
        cells = [(int(a), 3 + int(b)) for a, b in rng.integers(0, 3, (4, 2))]  # the last three are never set
        y, p = rng.integers(0, 2, 4), rng.random(4)
        stepped = whole.learn(1, one_hot(cells, 9), y.astype(float), p)
        assert noted.note(1, cells, [bool(v) for v in y], p.tolist()) == stepped == (block % 3 == 2)
        np.testing.assert_allclose(noted.weights, whole.weights, atol=1e-12)
    assert whole.weights[1, :6].all()
    noted.fold()
    np.testing.assert_allclose(noted.moments, whole.moments)
    np.testing.assert_allclose(noted.gradient, whole.gradient)
    assert noted.gradient.any()
    noted.note(1, [(0, 3)], [True], [0.5])
    noted.clear(np.array([1]))
    noted.fold()
    np.testing.assert_array_equal(noted.moments[1], np.eye(9))


def test_candidates_follow_a_table_that_grows_and_forgets():
    grown = Grown(np.zeros(8 + ORDER, np.int64), np.zeros(2, np.int64))
    candidates, weights = Candidates([], grown), cold_weights().tolist()

    def tokens():
        return [token for token, *_ in candidates.after((3, 4), 0, weights)]

    grown.begin([3, 4])
    assert tokens() == []
    grown.say([5])
    grown.begin([9])
    assert tokens() == tokens() == [5]
    grown.say([1, 2, 3, 4, 6, 7, 8, 1])
    assert tokens() == []  # the oldest has left the ring
    grown.begin([9])
    assert tokens() == [6]


class Asked:
    """A finished table that can only be asked for whole contexts."""

    fixed, reach = True, ORDER

    def __init__(self, table):
        self.suggest = table.suggest


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 3), max_size=25), min_size=1, max_size=3),
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8),
)
def test_what_no_table_knows_is_known_by_its_end(corpora, said, contexts):
    tables = [TableSource(NgramTable.build([c], tokenizer="t", vocabulary=4)) for c in corpora]
    grown = Grown(np.zeros(50, np.int64), np.zeros(2, np.int64))
    grown.begin([])
    grown.say(said)
    grown.begin([])
    weights = np.random.default_rng(1).normal(size=W).tolist()
    quick = Candidates(list(enumerate(tables)), grown)
    whole = Candidates([(d, Asked(t)) for d, t in enumerate(tables)], grown)
    for context in contexts:
        mine, its = (c.after(tuple(context), 0, weights) for c in (quick, whole))
        assert mine == its
