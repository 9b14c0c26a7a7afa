"""One drafter's part of a record, over starts and depth, and how its tokens are drawn.

Indices as in ``chains``: t start, depth in the draft, s position of the text, i tokens behind the point where a branch
left it. Knows arrays; ``chains`` fills them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metasd.core.signals import F
from metasd.drafters.base import TextDrafter
from metasd.runtime.sampling import pick

Floats64 = NDArray[np.float64]
Ints64 = NDArray[np.int64]


@dataclass(slots=True)
class Column:
    """One drafter on one text of T tokens; m is its longest draft length."""

    tokens: Ints64  # [T, m] its own chain, 0 beyond the proposal
    proposed: Ints64  # [T]
    accepted: Ints64  # [T] leading tokens of the chain that the text agrees with
    confidence: Floats64  # [T, m] NaN beyond the proposal, and where the context ends; as overlap
    overlap: Floats64  # [T, m]
    accept: Floats64 | None = None  # [T, m] see ``Trace.accept``; 0 beyond the text
    signals: NDArray[np.float32] | None = None  # [T, F]

    def on_text(self, rows: Ints64) -> tuple[Ints64, Ints64]:
        """All (t, depth) whose drafted token is judged at one of the positions ``rows``, on the text."""
        judged = np.minimum(self.accepted + 1, self.proposed)
        starts, depth = np.nonzero(np.arange(self.tokens.shape[1]) < judged[:, None])
        here = (starts + depth >= rows[0]) & (starts + depth <= rows[-1])
        return starts[here], depth[here]

    def leaving(self) -> list[tuple[int, int]]:
        """(s, t) of every chain that goes on behind its first disagreement: it left the text at position s."""
        goes_on = np.flatnonzero(self.accepted < self.proposed - 1)
        return [(int(t + self.accepted[t]), int(t)) for t in goes_on]


def walk(drafter: TextDrafter, prompt: Sequence[int], answer: Sequence[int], length: int) -> Column:
    """What a text drafter says at every start of ``answer``; overlap is left to be filled.

    Leaves the drafter behind the whole text, as live decoding would.
    """
    T = len(answer)
    column = Column(
        tokens=np.zeros((T, length), np.int64),
        proposed=np.zeros(T, np.int64),
        accepted=np.zeros(T, np.int64),
        confidence=np.full((T, length), np.nan),
        overlap=np.full((T, length), np.nan),
        signals=np.full((T, F), np.nan, np.float32),
    )
    assert column.signals is not None
    drafter.begin(prompt)
    for t, token in enumerate(answer):
        column.signals[t] = drafter.look().signals
        draft = drafter.draft(length)
        m = len(draft.tokens)
        column.tokens[t, :m], column.confidence[t, :m], column.proposed[t] = draft.tokens, draft.confidence, m
        drafter.extend([token])
    column.accepted[:] = agreement(column, answer)
    return column


def agreement(column: Column, answer: Sequence[int]) -> Ints64:
    """[T] leading tokens of each chain that are the text's."""
    T, length = column.tokens.shape
    told = np.full(T + length, -1, np.int64)  # no token after the end: nothing agrees with it
    told[:T] = answer
    agrees = column.tokens == told[np.arange(T)[:, None] + np.arange(length)]
    agrees &= np.arange(length) < column.proposed[:, None]
    counted: Ints64 = np.cumprod(agrees, axis=1).sum(axis=1)
    return counted


@dataclass(slots=True)
class Branches:
    """A model drafter's chains by where they leave the text of T tokens; i = 0 lies on the text.

    Its next token depends on the prefix alone, so one branch a position serves every start: the draft from t agrees
    with the text for ``agreed[t]`` tokens and goes on as branch t + agreed[t]. Above temperature 0 branch s is the
    one a rejection at s leads to: its first token is drawn from (q - p)+, the others from q. What a round that
    accepts k tokens shows is then on the text up to depth k and branch t + k behind it.
    """

    depth: int  # m, the drafter's longest draft length
    tokens: Ints64  # [T + 1, m]
    confidence: Floats64  # [T + 1, m]
    overlap: Floats64  # [T + 1, m]
    accept: Floats64  # [T] min(1, q/p) of the text's token, above temperature 0
    wanted: Ints64  # [T + 1] how far each branch has to be followed: the largest i
    agreed: Ints64  # [T]

    @classmethod
    def empty(cls, T: int, length: int) -> Branches:
        shape = (T + 1, length)
        numbers = (np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(T))
        return cls(length, np.zeros(shape, np.int64), *numbers, np.zeros(T + 1, np.int64), np.zeros(T, np.int64))

    def note(self, s: Ints64, i: int, token: Tensor, q: Tensor, overlap: Tensor | None) -> None:
        """Branches ``s`` hold ``token`` [n] at i, drawn from ``q`` [n, V]."""
        self.tokens[s, i] = token.cpu().numpy()
        self.confidence[s, i] = q.gather(1, token[:, None])[:, 0].cpu().numpy()
        if overlap is not None:
            self.overlap[s, i] = overlap.cpu().numpy()

    def find_starts(self, answer: Sequence[int], sampled: bool, room: int) -> None:
        """Once i = 0 is known: how far each start agrees with the text, and which branches are wanted how far.

        room: positions behind the prompt that the models can read.
        """
        T, run = len(answer), 0
        for t in range(T - 1, -1, -1):
            run = 0 if sampled or self.tokens[t, 0] != answer[t] else run + 1
            self.agreed[t] = min(run, self.depth)
        np.maximum.at(self.wanted, np.arange(T) + self.agreed, np.maximum(self.depth - 1 - self.agreed, 0))
        self.wanted = np.minimum(self.wanted, np.maximum(room - np.arange(T + 1), 0))

    def column(self, answer: Sequence[int], sampled: bool) -> Column:
        """Every start's own draft. Above temperature 0: the branch a rejection at its first token leads to."""
        T, m = len(answer), self.depth
        t, depth = np.arange(T)[:, None], np.arange(m)[None, :]
        on_text = np.minimum(depth, self.agreed[:, None])
        s, i = t + on_text, depth - on_text
        told = np.zeros(T + m, np.int64)
        told[:T] = answer
        tokens = np.where(depth < self.agreed[:, None], told[t + depth], self.tokens[s, i])
        column = Column(tokens, np.full(T, m), self.agreed.copy(), self.confidence[s, i], self.overlap[s, i])
        if sampled:
            accept = np.zeros(T + m)
            accept[:T] = self.accept
            column.accept = accept[t + depth]
        return column


def draw(logits: Tensor, q: Tensor, uniforms: Floats64 | None) -> Tensor:
    """[n] a drafter's next tokens: the likeliest of ``logits``, or drawn from ``q`` with ``uniforms`` [n]."""
    return logits.argmax(-1) if uniforms is None else pick(q, torch.as_tensor(uniforms, device=q.device))


def rejected(p: Tensor, q: Tensor, uniforms: Floats64) -> Tensor:
    """[n] draft tokens that the target rejected: drawn from (q - p)+, or from q where nothing can be rejected."""
    excess = (q - p).clamp_(min=0)
    weights = torch.where(excess.sum(-1, keepdim=True) > 0, excess, q)
    return pick(weights, torch.as_tensor(uniforms, device=q.device))
