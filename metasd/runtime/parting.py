"""Where texts part from plain decoding's, and how close the call was there.

Half precision rounds a pass of several tokens otherwise than one of a single token, so two tokens that are nearly as
good may change places. The margin says so: it is taken from plain decoding's own passes, repeated one token at a time.
Knows texts and the target; nothing of policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.load import Target

Texts = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Parting:
    """The first place where a text is not plain decoding's.

    position: answer tokens before it. plain, own: the tokens there, None behind an end. margin: plain decoding's top-1
    minus top-2 logit there, as the target's settings leave them; None where they leave one token.
    """

    policy: str
    id: str
    position: int
    plain: int | None
    own: int | None
    margin: float | None


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """Index of the first token that differs, None for equal texts."""
    if list(one) == list(other):
        return None
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def partings(
    target: Target, prompts: Sequence[EncodedPrompt], plain: Texts, others: Mapping[str, Texts], budget: int
) -> list[Parting]:
    """Every parting of ``others``, texts by policy, from the texts ``plain``; greedy ones with a token ``budget``."""
    found = []
    for p, (name, _, prompt) in enumerate(prompts):
        at = {policy: first_difference(plain[p], texts[p]) for policy, texts in others.items()}
        places = {policy: place for policy, place in at.items() if place is not None}
        if not places:
            continue
        margins = _margins(target, prompt, plain[p], max(places.values()) + 1, budget)
        for policy, place in places.items():
            said = [text[place] if place < len(text) else None for text in (plain[p], others[policy][p])]
            found.append(Parting(policy, name, place, said[0], said[1], margins[place]))
    return found


@torch.inference_mode()
def _margins(
    target: Target, prompt: Sequence[int], answer: Sequence[int], count: int, budget: int
) -> list[float | None]:
    """Of the first ``count`` tokens of ``answer``, from the passes in which plain decoding makes them."""
    cached, made = CachedModel(target.model), target.processors()
    process = None if made is None else made.text(prompt, budget)
    cached.read(prompt[:-1])
    margins: list[float | None] = []
    for position in range(count):
        text = [*prompt, *answer[:position]]
        logits = cached.forward(text, 1)
        if process is not None:
            logits = process.rows(text, logits)
        first, second = logits[0].float().topk(2).values.tolist()
        margins.append(first - second if second > -torch.inf else None)
    return margins
