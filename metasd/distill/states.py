"""What a head learns from: one pass of the target over each answer, kept as far as training needs it.

States are kept in half precision where they fit, the target's opinion of every answer token as its likeliest ones: in
all about 2 A H bytes a token of prompt and answer, and 200 a token of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metasd.distill.answers import Answer
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import Features
from metasd.runtime.load import Target

LIKELIEST = 32
"""Tokens of the draft vocabulary that the target's opinion is kept of, renormalised."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of T tokens behind a prompt of ``first``; all on the CPU.

    tokens: [first + T]. states: [first + T - 2, A * H], those that entries read. Row r is of the target's choice of
    answer token r: ids and shares [T, K] of its likeliest tokens in the draft vocabulary, ``inside`` [T] whether its
    very likeliest is one.
    """

    tokens: Tensor
    first: int
    states: Tensor
    ids: Tensor
    shares: Tensor
    inside: Tensor

    @property
    def answer(self) -> int:
        """T."""
        return len(self.tokens) - self.first


def sampled(target: Target, answers: Iterable[Answer], layers: Sequence[int], vocabulary: Tensor) -> list[Sample]:
    """One sample an answer; ``vocabulary`` [Vd] ids of the draft tokens. Answers too short to learn from are left out.

    layers: as ``hidden_states`` counts them, in the head's order; none for what reads tokens alone.
    """
    cached, made = CachedModel(target.model, Features(sorted(set(layers))) if layers else None), list[Sample]()
    chosen = vocabulary.to(target.device)
    places = torch.full((target.vocab_size,), -1, device=target.device)
    places[chosen] = torch.arange(len(chosen), device=target.device)
    for answer in answers:
        tokens, first = answer.prompt + answer.tokens, len(answer.prompt)
        if len(tokens) < 3 or not answer.tokens:
            continue
        cached.reset()
        logits = cached.forward(tokens, len(answer.tokens) + 1)[:-1]
        kept_states = cached.features
        none = logits.new_zeros(len(tokens) - 2, 0)
        states = none if kept_states is None else kept_states.rows(layers, 0, len(tokens) - 2)
        narrow = states.to(torch.float16)
        states = states.float() if narrow.isinf().any() else narrow
        inside = places[logits.argmax(-1)] >= 0
        best = logits[:, chosen].float().topk(min(LIKELIEST, len(chosen)), -1)
        kept = (states, best.indices, best.values.softmax(-1).to(torch.float16), inside)
        made.append(Sample(torch.tensor(tokens), first, *(t.cpu().clone() for t in kept)))
    return made


def draft_vocabulary(texts: Iterable[Sequence[int]], size: int, vocabulary: int) -> Tensor:
    """[min(size, V)] the tokens that ``texts`` use most, filled up with the lowest others; ascending."""
    used = Counter(token for text in texts for token in text)
    often = [token for token, _ in sorted(used.items(), key=lambda item: (-item[1], item[0]))]
    others = (token for token in range(vocabulary) if token not in used)
    chosen = [*often[:size], *(token for _, token in zip(range(max(size - len(often), 0)), others, strict=False))]
    return torch.tensor(sorted(chosen))
