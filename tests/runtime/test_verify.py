"""The judgement's law, outcome by outcome: whatever is drafted, what comes out follows the target."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from metasd.drafters.base import Draft
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling
from metasd.runtime.verify import Verifier, acceptance, judge, judge_greedy, remainder

V, M = 3, 2


def law(seed: int, zeros: bool) -> dict[tuple[int, ...], torch.Tensor]:
    """A distribution over V tokens after every prefix of up to M tokens; some entries 0 as after top-k."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for length in range(M + 1):
        for prefix in itertools.product(range(V), repeat=length):
            weights = torch.rand(V, dtype=torch.float64, generator=generator) + 0.05
            if zeros and len(prefix) != 1:
                weights[int(torch.randint(V, (1,), generator=generator))] = 0
            found[prefix] = weights / weights.sum()
    return found


def outcomes(p: torch.Tensor, drafted: torch.Tensor, q: torch.Tensor | None):
    """(agreed, next token, probability) of every outcome, each obtained from ``judge`` itself at uniforms inside it."""
    chance = acceptance(p, drafted, q).tolist()
    for agreed in range(M + 1):
        stands = float(np.prod(chance[:agreed])) * (1 - chance[agreed] if agreed < M else 1.0)
        if stands <= 0:
            continue
        rest = remainder(p, drafted, q, torch.tensor(agreed))
        edges = torch.cat([torch.zeros(1, dtype=torch.float64), (rest / rest.sum()).cumsum(0)])
        for token in torch.nonzero(rest)[:, 0].tolist():
            uniforms = torch.full((2, M + 1), 0.999, dtype=torch.float64)
            uniforms[0, :agreed] = torch.tensor(chance[:agreed]) / 2
            if agreed < M:
                uniforms[0, agreed] = (1 + chance[agreed]) / 2
            uniforms[1, agreed] = (edges[token] + edges[token + 1]) / 2
            assert tuple(int(v) for v in judge(p, drafted, q, uniforms)) == (agreed, token)
            yield agreed, token, stands * float(rest[token] / rest.sum())


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_output_law_is_the_targets_exactly(seed: int, one_hot: bool, zeros: bool) -> None:
    """All drafts, all outcomes; a text is completed from p where the round stopped. Equal to 1e-12."""
    of_p, of_q = law(seed, zeros), law(seed + 100, zeros)
    total: dict[tuple[int, ...], float] = {}
    for draft in itertools.product(range(V), repeat=M):
        prefixes = [draft[:i] for i in range(M + 1)]
        p = torch.stack([of_p[x] for x in prefixes])
        q = torch.stack([of_q[x] for x in prefixes[:-1]])
        weight = float(np.prod([q[i, x] for i, x in enumerate(draft)]))
        if one_hot:
            weight = float(draft == (2, 0))
        if weight == 0:
            continue
        drafted = torch.tensor(draft)
        for agreed, token, chance in outcomes(p, drafted, None if one_hot else q):
            begun = (*draft[:agreed], token)
            for end in itertools.product(range(V), repeat=M + 1 - len(begun)):
                text = (*begun, *end)
                after = float(np.prod([of_p[text[:i]][text[i]] for i in range(len(begun), M + 1)]))
                total[text] = total.get(text, 0.0) + weight * chance * after
    for text in itertools.product(range(V), repeat=M + 1):
        expected = float(np.prod([of_p[text[:i]][text[i]] for i in range(M + 1)]))
        assert total.get(text, 0.0) == pytest.approx(expected, abs=1e-12)


def test_a_wrong_q_would_be_noticed() -> None:
    """The enumeration has teeth: with a q that is not the one drafted from, the law is off by far more than 1e-12."""
    of_p, of_q = law(1, False), law(101, False)
    off = np.zeros(V)
    for x in range(V):
        p = torch.stack([of_p[()], of_p[(x,)]])
        stated = of_q[(0,)][None]
        chance = float(acceptance(p, torch.tensor([x]), stated)[0])
        rest = remainder(p, torch.tensor([x]), stated, torch.tensor(0))
        off += float(of_q[()][x]) * (chance * np.eye(V)[x] + (1 - chance) * (rest / rest.sum()).numpy())
    assert np.abs(off - of_p[()].numpy()).max() > 1e-3


def test_equal_distributions_never_leave_an_empty_remainder() -> None:
    p = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
    rest = remainder(p, torch.tensor([0]), p[:1].clone(), torch.tensor(0))
    assert rest.tolist() == [0.5, 0.5]


def test_greedy_judgement() -> None:
    for drafted, agreed, token in (([2, 0, 3], 3, 1), ([2, 1, 3], 1, 0), ([0, 0, 3], 0, 2)):
        assert judge_greedy([2, 0, 3, 1], drafted) == (agreed, token)
    assert judge_greedy([2], []) == (0, 2)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_overlap_is_one_minus_total_variation_on_the_drafters_chain(tiny_target: Target, temperature: float) -> None:
    sampling = Sampling(temperature, top_p=0.9 if temperature else None)
    text, tokens = [5, 6, 7], [11, 3, 40]
    q_logits = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2
    q = sampling.probs(q_logits)
    uniforms = np.full((2, 4), 0.5)
    verifier = Verifier(CachedModel(tiny_target.model), sampling, overlap=True)
    with torch.inference_mode():
        p = sampling.probs(tiny_target.model(torch.tensor([text + tokens])).logits[0, 2:])
    model = Draft(tokens, [1.0] * 3, q if temperature else None, q_logits)
    verdict = verifier.verify(text, model, uniforms)
    expected = 1 - 0.5 * (p[:-1] - q).abs().sum(-1)
    assert verdict.overlap is not None
    np.testing.assert_allclose(verdict.overlap, expected.numpy(), rtol=2**-11)
    assert np.array_equal(verdict.overlap, verdict.overlap.astype(np.float16))
    verdict = verifier.verify(text, Draft(tokens, [1.0] * 3), uniforms)
    assert verdict.overlap is not None
    np.testing.assert_allclose(verdict.overlap, [p[i, x] for i, x in enumerate(tokens)], rtol=2**-11)
    empty = verifier.verify(text, Draft([], []), uniforms[:, :1])
    assert empty.agreed == 0
    assert empty.overlap is not None
    assert len(empty.overlap) == 0
    assert Verifier(verifier.target, sampling, overlap=False).verify(text, model, uniforms).overlap is None


def test_the_targets_pass_is_as_wide_as_the_draft_and_one(tiny_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    target = CachedModel(tiny_target.model)
    widths: list[int] = []
    feed = target.feed
    monkeypatch.setattr(target, "feed", lambda ids, rows: widths.append(len(ids)) or feed(ids, rows))
    verifier = Verifier(target, Sampling(), overlap=False)
    text = [5, 6, 7, 8]
    target.read(text[:-1])
    for draft in ([], [9, 10], [11], []):
        verdict = verifier.verify(text, Draft(draft, [1.0] * len(draft)))
        text += [*draft[: verdict.agreed], verdict.next_token]
    assert widths == [3, 1, 3, 2, 1]
