"""What a head learns from: one pass of the target over each answer, kept as far as training needs it.

States are kept in half precision where they fit, the target's opinion of every answer token as its likeliest ones: in
all about 2 A H bytes a token of prompt and answer, and 200 a token of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Reads(Protocol):
    """What a learner reads.

    layers: states of the target, as ``hidden_states`` counts them, in the learner's order; none where it reads tokens
    alone. vocabulary: [Vd] ids of the tokens that it can draft.
    """

    layers: Sequence[int]
    vocabulary: Tensor


def sampled(target: Target, answers: Iterable[Answer], readers: Sequence[Reads]) -> list[list[Sample]]:
    """For each of ``readers`` one sample an answer, all from one pass over it; answers too short are left out."""
    layers = sorted({i for reader in readers for i in reader.layers})
    cached = CachedModel(target.model, Features(layers) if layers else None)
    views, made = [_View(reader, target) for reader in readers], [list[Sample]() for _ in readers]
    for answer in answers:
        tokens = answer.prompt + answer.tokens
        if len(tokens) < 3 or not answer.tokens:
            continue
        cached.reset()
        logits = cached.forward(tokens, len(answer.tokens) + 1)[:-1]
        for view, own in zip(views, made, strict=True):
            own.append(view.sample(tokens, len(answer.prompt), logits, cached.features))
    return made


class _View:
    """One reader's samples of a target."""

    def __init__(self, reader: Reads, target: Target) -> None:
        self._layers, self._chosen = reader.layers, reader.vocabulary.to(target.device)
        self._places = torch.full((target.vocab_size,), -1, device=target.device)
        self._places[self._chosen] = torch.arange(len(self._chosen), device=target.device)

    def sample(self, tokens: list[int], first: int, logits: Tensor, kept: Features | None) -> Sample:
        """logits: [T, V], those of the answer. kept: states of the pass, of at least this reader's layers."""
        none = logits.new_zeros(len(tokens) - 2, 0)
        states = none if kept is None or not self._layers else kept.rows(self._layers, 0, len(tokens) - 2)
        narrow = states.to(torch.float16)
        states = states.float() if narrow.isinf().any() else narrow
        inside = self._places[logits.argmax(-1)] >= 0
        best = logits[:, self._chosen].float().topk(min(LIKELIEST, len(self._chosen)), -1)
        shares = best.values.softmax(-1).to(torch.float16)
        return Sample(torch.tensor(tokens), first, *(t.cpu().clone() for t in (states, best.indices, shares, inside)))


def draft_vocabulary(texts: Iterable[Sequence[int]], size: int, vocabulary: int) -> Tensor:
    """[min(size, V)] the tokens that ``texts`` use most, filled up with the lowest others; ascending."""
    used = Counter(token for text in texts for token in text)
    often = [token for token, _ in sorted(used.items(), key=lambda item: (-item[1], item[0]))]
    others = (token for token in range(vocabulary) if token not in used)
    chosen = [*often[:size], *(token for _, token in zip(range(max(size - len(often), 0)), others, strict=False))]
    return torch.tensor(sorted(chosen))


def used_most(answers: Mapping[str, Sequence[Answer]], size: int, vocabulary: int) -> Tensor:
    """``draft_vocabulary`` of the answers of all domains and their prompts."""
    return draft_vocabulary((a.prompt + a.tokens for own in answers.values() for a in own), size, vocabulary)
