"""Columns from packed passes against one softmax at a time."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from metasd.drafters.lookup import LookupDrafter
from metasd.record.chains import Chains
from metasd.record.columns import Branches, rejected, walk
from metasd.record.reader import PackedReader, StepReader
from metasd.record.trie import RecordedText
from metasd.runtime.sampling import Sampling

LENGTH = 4


@pytest.fixture
def models(tiny, near):
    target = tiny()
    return target, {1: near(target, 0.03), 2: near(target, 0.1)}


def after(model, tokens):
    return model(input_ids=torch.tensor([tokens])).logits[0, -1]


def answer_of(target, prompt, n, sampling, rng):
    """The target's own text, one full forward a token."""
    answer = []
    for _ in range(n):
        logits = after(target, prompt + answer)
        p = sampling.probs(logits).numpy()
        answer.append(int(logits.argmax()) if sampling.greedy else int(rng.choice(len(p), p=p / p.sum())))
    return answer


def compare(models, prompt, answer, sampling, reader, elements=1 << 20, limit=256):
    target, drafters = models
    readers = {d: (reader(m), LENGTH + (d == 2)) for d, m in drafters.items()}
    lookup = walk(LookupDrafter(draft_length=LENGTH), prompt, answer, LENGTH)
    comparison = Chains(reader(target), readers, sampling, target.config.vocab_size, elements)
    facts, columns = comparison.run(RecordedText(prompt, answer, limit, key=5), {0: lookup})
    return facts, {0: lookup, **columns}


PROMPTS = [[3, 1, 4, 1, 5, 9, 2, 6], [7], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]]


@pytest.mark.parametrize(("prompt", "elements"), list(zip(PROMPTS, [1, 400, 1 << 20], strict=True)))
def test_greedy_columns_equal_direct_decoding(models, prompt, elements):
    target, drafters = models
    sampling = Sampling()
    answer = answer_of(target, prompt, 25, sampling, None)
    facts, columns = compare(models, prompt, answer, sampling, PackedReader, elements)
    assert facts.mismatches == 0
    accepted_somewhere = 0
    for t in range(len(answer)):
        top = after(target, prompt + answer[:t]).topk(2).values
        assert facts.margin[t] == pytest.approx(float(top[0] - top[1]), rel=1e-5)
        for d, column in columns.items():
            tokens = column.tokens[t, : column.proposed[t]].tolist()
            if d:
                assert len(tokens) == LENGTH + (d == 2)
            for depth, token in enumerate(tokens):
                context = prompt + answer[:t] + tokens[:depth]
                p = after(target, context).softmax(-1)
                if d:
                    q = after(drafters[d], context).softmax(-1)
                    assert token == int(q.argmax())
                    assert column.confidence[t, depth] == pytest.approx(float(q[token]), abs=1e-10)
                    overlap = float(1 - 0.5 * (p - q).abs().sum())
                else:
                    overlap = float(p[token])
                assert column.overlap[t, depth] == pytest.approx(overlap, abs=1e-10)
            agreed = next((i for i, x in enumerate(tokens) if [x] != answer[t + i : t + i + 1]), len(tokens))
            assert column.accepted[t] == agreed
            accepted_somewhere += agreed
            assert np.isnan(column.overlap[t, len(tokens) :]).all()
            assert not column.tokens[t, len(tokens) :].any()
    assert accepted_somewhere > 10


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, top_k=6), Sampling(1.1, top_p=0.9)])
def test_packed_columns_equal_step_by_step(models, sampling):
    prompt = PROMPTS[0]
    answer = answer_of(models[0], prompt, 30, sampling, np.random.default_rng(3))
    packed = compare(models, prompt, answer, sampling, PackedReader, 700)
    step = compare(models, prompt, answer, sampling, StepReader, 1 << 20)
    np.testing.assert_allclose(packed[0].margin, step[0].margin, atol=1e-6)
    for d in packed[1]:
        for name in ("tokens", "proposed", "accepted"):
            np.testing.assert_array_equal(getattr(packed[1][d], name), getattr(step[1][d], name))
        for name in ("confidence", "overlap", "accept"):
            a, b = getattr(packed[1][d], name), getattr(step[1][d], name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("sampling", [Sampling(0.9), Sampling(1.3, top_k=5), Sampling(0.7, top_p=0.8)])
def test_sampled_acceptance_and_rejected_branches(models, sampling):
    target, drafters = models
    prompt = PROMPTS[2]
    answer = answer_of(target, prompt, 14, sampling, np.random.default_rng(4))
    facts, columns = compare(models, prompt, answer, sampling, PackedReader)
    assert facts.mismatches == 0
    seen = {"sure": 0, "unsure": 0}
    for t in range(len(answer)):
        for d, model in drafters.items():
            column = columns[d]
            length = column.tokens.shape[1]
            assert column.proposed[t] == length
            for depth in range(length):
                if t + depth < len(answer):
                    context = prompt + answer[: t + depth]
                    p, q = (sampling.probs(after(m, context)) for m in (target, model))
                    ratio = min(1.0, float(q[answer[t + depth]] / p[answer[t + depth]]))
                    assert column.accept[t, depth] == pytest.approx(ratio, abs=1e-10)
                    seen["sure" if ratio == 1 else "unsure"] += 1
                else:
                    assert column.accept[t, depth] == 0
                chain = column.tokens[t].tolist()
                context = prompt + answer[:t] + chain[:depth]
                p, q = (sampling.probs(after(m, context)) for m in (target, model))
                assert float(q[chain[depth]]) > 0
                if depth == 0:
                    # only such a token can be rejected, unless the two are the same and none can
                    assert q[chain[0]] > p[chain[0]] or torch.equal(p, q)
                assert column.overlap[t, depth] == pytest.approx(float(torch.minimum(p, q).sum()), abs=1e-10)
                assert column.confidence[t, depth] == pytest.approx(float(q[chain[depth]]), abs=1e-10)
    assert min(seen.values()) > 5


def test_rejected_tokens_follow_the_excess():
    """Uniforms on a grid: the shares are the law itself, up to the grid's step."""
    p, q = torch.tensor([0.5, 0.2, 0.2, 0.1, 0.0]), torch.tensor([0.1, 0.3, 0.2, 0.3, 0.1])
    n = 20_000
    grid = (np.arange(n) + 0.5) / n
    drawn = rejected(p.expand(n, 5), q.expand(n, 5), grid)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / n, [0, 0.25, 0, 0.5, 0.25], atol=2 / n)
    nothing_to_reject = rejected(q.expand(n, 5), q.expand(n, 5), grid)
    np.testing.assert_allclose(np.bincount(nothing_to_reject, minlength=5) / n, q, atol=2 / n)


def test_branches_stop_where_the_context_ends(models):
    """A model with 33 positions cannot read further; what lies within is what it would be without the limit."""
    prompt = PROMPTS[0]
    answer = answer_of(models[0], prompt, 24, Sampling(), None)
    limit = len(prompt) + len(answer) + 1
    whole, cut = (compare(models, prompt, answer, Sampling(), PackedReader, limit=n)[1] for n in (256, limit))
    for d in whole:
        T, m = whole[d].tokens.shape
        inside = np.arange(T)[:, None] + np.arange(m) <= len(answer) + 1
        np.testing.assert_allclose(cut[d].overlap[inside], whole[d].overlap[inside], atol=1e-10)
        np.testing.assert_array_equal(cut[d].accepted, whole[d].accepted)
        np.testing.assert_array_equal(cut[d].proposed, whole[d].proposed)
        assert np.isnan(cut[d].overlap[-1, 3:]).all()


def test_agreement_never_counts_beyond_the_text():
    found = Branches.empty(3, 4)
    found.tokens[:, 0] = 5
    found.find_starts([5, 5, 5], False, 100)
    assert found.agreed.tolist() == [3, 2, 1]
    assert found.column([5, 5, 5], False).accepted.tolist() == [3, 2, 1]


def test_texts_bits_and_rejected_branches_have_the_law_of_live_decoding():
    """By enumeration: drafts of 2 tokens over 3, any p and q. What is compared is the joint law of the number accepted,
    the tokens emitted and the chain that was drafted, since overlap is a function of the chain.
    """
    rng, V = np.random.default_rng(0), 3
    contexts = [(), *((a,) for a in range(V)), *((a, b) for a in range(V) for b in range(V))]
    p, q = ({c: rng.dirichlet(np.ones(V)) for c in contexts} for _ in range(2))
    live, replayed = Counter(), Counter()
    for x in itertools.product(range(V), repeat=2):  # live: draft x, judge it, emit
        standing = q[()][x[0]] * q[x[:1]][x[1]]
        for k in range(2):
            at, ratio = x[:k], min(1.0, p[x[:k]][x[k]] / q[x[:k]][x[k]])
            excess = np.maximum(p[at] - q[at], 0)
            for y in range(V):
                live[k, (*at, y), x] += standing * (1 - ratio) * excess[y] / excess.sum()
            standing *= ratio
        for y in range(V):
            live[2, (*x, y), x] += standing * p[x][y]
    for y in itertools.product(range(V), repeat=3):  # recorded text y, bits drawn in replay, branches recorded
        text = p[()][y[0]] * p[y[:1]][y[1]] * p[y[:2]][y[2]]
        standing = 1.0
        for k in range(2):
            at, ratio = y[:k], min(1.0, q[y[:k]][y[k]] / p[y[:k]][y[k]])
            weights = torch.tensor(q[at] - p[at]).clamp(min=0)
            for first in range(V):
                begin = text * standing * (1 - ratio) * float(weights[first] / weights.sum())
                for second in range(V) if k == 0 else [None]:
                    chain = (*at, first) if second is None else (*at, first, second)
                    replayed[k, y[: k + 1], chain] += begin * (1 if second is None else q[first,][second])
            standing *= ratio
        replayed[2, y, y[:2]] += text * standing
    assert live.keys() | replayed.keys() == live.keys()
    for event, chance in live.items():
        assert replayed[event] == pytest.approx(chance, abs=1e-12)
    assert sum(live.values()) == pytest.approx(1, abs=1e-12)
