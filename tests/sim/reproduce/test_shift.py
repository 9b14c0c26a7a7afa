"""Routers and prompts of another kind: by hand on a trace whose best drafters are known, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.sim.compare.matrix import Matrix
from metasd.sim.replay.run import replay
from metasd.sim.reproduce import registry
from metasd.sim.reproduce.finding import Setting
from metasd.sim.reproduce.shift import DECAY, FEATURES, Router, check, embedded, run
from metasd.traces import synthetic, take_prompts
from metasd.traces.select import take_drafters

KEYS = "tokens per round"


def of(lengths, kinds, seed=0):
    """Prompts whose tokens tell their kind."""
    rng = np.random.default_rng(seed)
    return [rng.integers(10 + 40 * kind, 40 + 40 * kind, n) for kind, n in zip(kinds, lengths, strict=True)]


def with_prompts(trace, kinds):
    made = of([12] * len(trace), kinds)
    return replace(trace, prompt_tokens=np.concatenate(made), prompt_lengths=np.full(len(trace), 12))


@pytest.fixture(scope="module")
def trace():
    """Two domains, 8 prompts each, told apart by their prompts."""
    made = synthetic("two-language", prompts=16, length=60, arms=3, draft_length=4, seed=2)
    kinds = [sorted(set(made.domains)).index(d) for d in made.domains]
    return with_prompts(replace(made, domains=[("one", "two")[k] for k in kinds]), kinds)


def test_the_router_is_at_the_least_of_its_loss():
    prompts, labels = of([30] * 12, [0, 1, 2] * 4), ["c", "a", "b"] * 4
    prompts[0] = prompts[1]  # one is of both
    router = Router(prompts, labels)
    assert router.domains == ["a", "b", "c"]
    x = np.stack([embedded(p) for p in prompts])

    def loss(weights):
        total = 0.0
        for row, label in zip(x, labels, strict=True):
            scores = row @ weights
            total += np.log(np.exp(scores).sum()) - scores[router.domains.index(label)]
        return total / len(labels) + DECAY * (weights**2).sum()

    best = loss(router._weights)
    rng = np.random.default_rng(1)
    for scale in (1e-2, 1e-1, 1.0):
        for _ in range(5):
            step = rng.normal(size=router._weights.shape)
            assert loss(router._weights + scale * step / np.linalg.norm(step)) > best - 1e-7
    assert [router(p) for p in of([30] * 6, [0, 1, 2] * 2, seed=9)] == ["c", "a", "b"] * 2


def test_a_prompt_is_counted_token_by_token_and_pair_by_pair():
    row = embedded(np.array([5, 5, 7]))
    assert row.shape == (FEATURES + 1,)
    assert row[-1] == 1
    assert np.linalg.norm(row[:-1]) == pytest.approx(1)
    assert row[5] / row[7] == pytest.approx(np.log(3) / np.log(2))
    assert (row[:-1] > 0).sum() == 4  # two tokens, two pairs
    assert not np.array_equal(embedded(np.array([7, 5, 5])), row)
    assert embedded(np.array([], np.int64))[:-1].sum() == 0


def halves(trace):
    """Rows of every other prompt of each domain, and of the others."""
    domains = np.array(trace.domains, object)
    at = {d: np.flatnonzero(domains == d) for d in sorted(set(trace.domains))}
    return {d: rows[::2] for d, rows in at.items()}, sorted(int(p) for rows in at.values() for p in rows[1::2])


def test_held_out_prompts_by_hand(trace):
    outcome = run(Setting(trace, 1, True))
    (row,) = outcome.tables["Tokens per round by kind of prompt"]
    matrix, (learned, held) = Matrix(trace), halves(trace)
    drafting = [k for k, a in enumerate(matrix.pool.arms) if a.drafter >= 0]
    routed = {d: min(drafting, key=lambda k, at=at: matrix.rounds[at, k].sum()) for d, at in learned.items()}
    assert len(set(routed.values())) == 2  # it matters which one is named
    emitted = trace.lengths[held].sum()
    by_router = sum(matrix.rounds[p, routed[trace.domains[p]]] for p in held)
    assert (row["prompts"], row["n"], row["router right"]) == ("held out", 8, 1)
    assert row[f"router, {KEYS}"] == pytest.approx(emitted / by_router)
    single = min(matrix.rounds[held, k].sum() for k in drafting)
    assert row[f"best single drafter, {KEYS}"] == pytest.approx(emitted / single)
    ideal = matrix.rounds[held][:, drafting].min(axis=1).sum()
    assert row[f"best drafter of each prompt, {KEYS}"] == pytest.approx(emitted / ideal)
    alone = take_prompts(trace, held)
    said = {f.what: f for f in outcome.findings}
    for spec, name in (("metasd-ucb", "UCB"), ("default:objective=rounds", "default (rounds, cold)")):
        took = replay(alone, spec).ledger.rounds_of().sum()  # a kept policy knows nothing of the other half
        assert row[f"{spec}, {KEYS}"] == pytest.approx(emitted / took)
        assert said[f"{name} over the router, held out"].value == pytest.approx(by_router / took)


def test_kinds_of_other_prompts(trace):
    names = ["one-then-two", "one", "letters", "two"] * 4
    shifted = replace(trace, domains=names)
    outcome = run(Setting(trace, 1, True, shifted))
    rows = {r["prompts"]: r for r in outcome.tables["Tokens per round by kind of prompt"]}
    assert {k: r["n"] for k, r in rows.items()} == {"held out": 8, "two tasks": 4, "reworded": 8, "untrained domain": 4}
    assert rows["two tasks"]["router right"] is None
    assert rows["untrained domain"]["router right"] is None
    right = [n == d for n, d in zip(names, trace.domains, strict=True) if n in ("one", "two")]
    assert 0 < rows["reworded"]["router right"] == np.mean(right) < 1
    said = [f.what for f in outcome.findings]
    assert "UCB over the best drafter of each prompt, two tasks" in said
    matrix = Matrix(trace)
    at = [i for i, n in enumerate(names) if "-then-" in n]
    drafting = [k for k, a in enumerate(matrix.pool.arms) if a.drafter >= 0]
    best = matrix.rounds[at][:, drafting].min(axis=1).sum()
    assert rows["two tasks"][f"best drafter of each prompt, {KEYS}"] == pytest.approx(trace.lengths[at].sum() / best)


def test_a_domain_of_one_prompt_is_in_no_half(trace):
    rows = [*range(12), 12]
    lone = replace(take_prompts(trace, np.array(rows)), domains=[*trace.domains[:12], "alone"])
    (row,) = run(Setting(lone, 1, True)).tables["Tokens per round by kind of prompt"]
    count = [trace.domains[:12].count(d) for d in ("one", "two")]
    assert row["n"] == sum(n // 2 for n in count)


def test_what_is_lacking_is_said(trace):
    bare = synthetic("two-language", prompts=8, length=40, arms=2, draft_length=4)
    assert "prompts' tokens" in run(Setting(bare, 1, True)).lacks
    assert run(Setting(replace(trace, domains=["one"] * 16), 1, True)).findings == []
    assert run(Setting(replace(trace, domains=[str(i) for i in range(16)]), 1, True)).findings == []
    with pytest.raises(UsageError, match="does not keep its prompts' tokens"):
        check(trace, replace(trace, prompt_tokens=None))
    with pytest.raises(UsageError, match="another pool"):
        check(trace, take_drafters(trace, [0, 1]))


def test_a_second_trace_is_looked_at_before_anything_is_measured(trace, tmp_path):
    other, said = take_drafters(trace, [0, 1]), []
    with pytest.raises(UsageError, match="another pool"):
        registry.run(trace, tmp_path, seeds=1, quick=True, shifted=other, said=lambda *now: said.append(now))
    assert said == []


def test_only_what_reads_the_second_trace_is_measured_again(trace, tmp_path):
    told = []
    for shifted in (None, trace):
        how = {"seeds": 1, "quick": True, "shifted": shifted, "said": lambda *now: told.append(now)}
        registry.run(trace, tmp_path, names=["switches", "shift"], **how)
    assert told == [("switches", False), ("shift", False), ("switches", True), ("shift", False)]
    flat = np.full(3, 0.1)
    clock = CostModel(tuple(d.name for d in trace.drafters), np.array([1.0, 9.0]), flat[:2], flat, flat, flat, flat)
    clocked = replace(trace, costs=clock)
    registry.run(clocked, tmp_path, names=["switches"], seeds=1, quick=True, said=lambda *now: told.append(now))
    assert told[-1] == ("switches", False)  # another clock is another trace
