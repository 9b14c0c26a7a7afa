"""Speculative decoding written out plainly: no cache, no tensors of more than one row, nothing of the package.

What the package must say of a sampled run, down to the last token, since its uniforms are part of its contract: a
text's are functions of the seed, the text's name and the position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Law = Callable[[list[int]], np.ndarray]
"""Text -> distribution of the next token."""
GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def distribution(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """Temperature, top-k, top-p: the likeliest first, until k are taken or their mass reaches p."""
    weights = np.exp((logits - logits.max()) / temperature)
    kept = np.zeros(len(weights))
    order = np.argsort(-weights, kind="stable")[:top_k]
    whole, mass = weights[order].sum(), 0.0
    for token in order:
        if mass < (top_p or 1.0) * whole:
            kept[token] = weights[token]
        mass += weights[token]
    return kept / kept.sum()


def law_of(model: Any, temperature: float, top_k: int | None, top_p: float | None) -> Law:
    """What ``model`` says of a whole text; temperature 0: all mass on the likeliest."""
    known: dict[tuple[int, ...], np.ndarray] = {}

    def logits(text: list[int]) -> np.ndarray:
        if tuple(text) not in known:
            with torch.inference_mode():
                known[tuple(text)] = model(torch.tensor([text])).logits[0, -1].double().numpy()
        return known[tuple(text)]

    if temperature == 0:
        return lambda text: np.eye(len(logits(text)))[logits(text).argmax()]
    return lambda text: distribution(logits(text), temperature, top_k, top_p)


def key(seed: int, *parts: str) -> int:
    """The number that a stream of uniforms belongs to."""
    return int.from_bytes(hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest(), "little")


def uniform(stream: int, counter: int) -> float:
    """SplitMix64's finaliser, twice: over the stream, and over that and the counter."""

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
        return x ^ (x >> 31)

    return ((mix(mix(stream + GOLDEN & MASK) + (counter + 1) * GOLDEN & MASK) >> 11) + 0.5) * 2.0**-53


def pick(weights: np.ndarray, u: float) -> int:
    """The first token at which the running sum exceeds the share ``u`` of the whole."""
    mass = np.cumsum(weights)
    return int(np.argmax(mass > u * mass[-1]))


@dataclass
class Drafter:
    """Drafts nothing: plain decoding."""

    length: int = 0

    def draft(self, text: list[int], length: int) -> list[int]:
        return []

    def said(self, text: list[int]) -> np.ndarray | None:
        """The distribution the token behind ``text`` was drawn from; None: it was certain."""
        return None


@dataclass
class Lookup(Drafter):
    """Copies what followed the latest earlier place of the longest run of up to 8 tokens that ends the text."""

    def draft(self, text: list[int], length: int) -> list[int]:
        for run in range(min(8, len(text) - 1), 0, -1):
            for at in range(len(text) - 1, run - 1, -1):
                if text[at - run : at] == text[-run:]:
                    return text[at : at + length]
        return []


@dataclass
class Model(Drafter):
    """Draws its draft from ``law``; ``read`` is what it has read and need not read again."""

    law: Law = field(kw_only=True)
    stream: int = field(kw_only=True)
    read: list[int] = field(default_factory=list)

    def draft(self, text: list[int], length: int) -> list[int]:
        begun = list(text)
        for i in range(length):
            begun.append(pick(self.law(begun), uniform(self.stream, (len(text) << 16) + i)))
        return begun[len(text) :]

    def said(self, text: list[int]) -> np.ndarray | None:
        return self.law(text)

    def missing(self, text: list[int], draft: list[int]) -> int:
        """Tokens before the last that it has yet to read; drafting then reads all but the draft's last."""
        shared = 0
        for mine, its in zip(self.read, text[:-1], strict=False):
            if mine != its:
                break
            shared += 1
        self.read = [*text, *draft[:-1]]
        return len(text) - 1 - shared


@dataclass
class Decoded:
    """One text and its sums."""

    tokens: list[int] = field(default_factory=list)
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    catch_up: int = 0


def decode(
    law: Law, drafter: Drafter, prompt: Sequence[int], budget: int, ends: Collection[int], seed: int, name: str
) -> Decoded:
    """Decode one text, round by round (Leviathan, Kalman, Matias 2023, Alg. 1)."""
    judge, own, done = key(seed, name, "judge"), key(seed, name, "target"), Decoded()
    while len(done.tokens) < budget and not set(done.tokens) & set(ends):
        text, at = [*prompt, *done.tokens], len(done.tokens)
        length = min(drafter.length, budget - at - 1)
        draft = drafter.draft(text, length) if length else []
        if draft and isinstance(drafter, Model):
            done.catch_up += drafter.missing(text, draft)
        agreed, rest = 0, None
        while agreed < len(draft) and rest is None:
            before, token = text + draft[:agreed], draft[agreed]
            p, q = law(before), drafter.said(before)
            q = np.eye(len(p))[token] if q is None else q
            if uniform(judge, at + agreed) < p[token] / q[token]:
                agreed += 1
            else:
                rest = np.maximum(p - q, 0)
        rest = law(text + draft[:agreed]) if rest is None else rest
        emitted = [*draft[:agreed], pick(rest, uniform(own, at + agreed))]
        end = next((i + 1 for i, token in enumerate(emitted) if token in ends), len(emitted))
        done.tokens += emitted[:end]
        done.rounds += 1
        done.drafted += len(draft)
        done.accepted += min(agreed, end)
    return done
