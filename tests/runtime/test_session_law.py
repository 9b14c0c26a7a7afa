"""Sampled decoding follows the target's law, with the session's own uniforms in the loop."""

from __future__ import annotations

import dataclasses

import torch
from scipy import stats

from metasd.core.records import StopReason
from metasd.runtime.load import as_target
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

from .conftest import perturbed, tiny_model, tiny_tokenizer
from .sessions import LONG, LOOKUP, SKIP, cycle, drafters_for, play_all


def test_sampled_texts_follow_the_target() -> None:
    """Chi-squared over all texts of 3 tokens, every drafter in turn. Threshold 1e-7: the false-alarm probability."""
    target = as_target(tiny_model(4, layers=3, vocab=5, spread=0.4), tiny_tokenizer(5), "five")
    target = dataclasses.replace(target, eos_ids=frozenset({4}))
    made, pool = drafters_for(target, perturbed(target.model, 5, 0.3), 2.0)
    count = 300
    prompts = [(f"p{i}", [2, 3, 2, 3, 2]) for i in range(count)]
    session = LiveSession(target, made, pool, prompts, max_new_tokens=3, sampling=Sampling(2.0), seed=11)
    rounds = play_all(session, cycle(LONG, SKIP, LOOKUP))
    assert rounds.accepted.sum() > count / 4
    assert (rounds.stop == StopReason.REJECTED).sum() > count / 4
    expected: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        grown: dict[tuple[int, ...], float] = {}
        for text, chance in expected.items():
            if text and text[-1] == 4:
                grown[text] = chance
                continue
            with torch.inference_mode():
                p = torch.softmax(target.model(torch.tensor([[2, 3, 2, 3, 2, *text]])).logits[0, -1] / 2.0, -1)
            for token in range(5):
                grown[(*text, token)] = chance * float(p[token])
        expected = grown
    seen = dict.fromkeys(expected, 0)
    for tokens in session.texts:
        seen[tuple(tokens)] += 1
    big = [t for t in expected if expected[t] * count >= 5]
    observed = [seen[t] for t in big] + [count - sum(seen[t] for t in big)]
    wanted = [expected[t] * count for t in big] + [count - sum(expected[t] * count for t in big)]
    assert len(big) > 10
    assert stats.chisquare(observed, wanted).pvalue > 1e-7
