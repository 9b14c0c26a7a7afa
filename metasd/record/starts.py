"""The column of a drafter whose draft depends on where it began, a head: one chain a start, beside its own law.

At temperature 0 a chain is the greedy one. Above, ``accept`` holds at depth j what the head, behind its own entries
for the text's tokens, gives the next of them, so that the length of a round has the law of live decoding; the chain is
the one that a rejection at its first token leads to. What a replay shows behind a later rejection is the chain of that
later start, whose entries are true where the round's own would be its own: overlap there is that of a fresh draft.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metasd.core import noise
from metasd.record.columns import Column, Ints64, agreement, draw, rejected
from metasd.runtime.heads.everywhere import Choose, Everywhere
from metasd.runtime.sampling import Sampling

PAIRS = 512
"""Distributions held at a time."""


class Starts:
    """See the module docstring. ``along`` for the blocks of the text, ``go_on``, then ``beside`` for its branches.

    Args:
        key: noise of what is drawn.
    """

    def __init__(
        self, drafts: Everywhere, answer: Sequence[int], length: int, sampling: Sampling, key: NDArray[np.uint64]
    ) -> None:
        self._drafts, self._sampling, self._key = drafts, sampling, key
        self._answer = torch.tensor(list(answer), device=drafts.head.device)
        T, self._length = len(answer), length
        self._starts = drafts.starts.cpu().numpy()
        proposed = np.zeros(T, np.int64)
        proposed[self._starts] = length
        empty = (np.full((T, length), np.nan) for _ in range(2))
        self.column = Column(np.zeros((T, length), np.int64), proposed, np.zeros(T, np.int64), *empty)
        if sampling.greedy:
            self._chain(drafts.greedy)
            self.column.accepted[:] = agreement(self.column, answer)
        else:
            self.column.accept = np.zeros((T, length))
            drafts.follow(self._text)

    def along(self, rows: Ints64, p: Tensor) -> None:
        """``p`` [n, V] is the target's distribution at the positions ``rows`` of the text."""
        if self._sampling.greedy:
            t, depth = self.column.on_text(rows)
            self.beside(t, depth, p[torch.as_tensor(t + depth - rows[0], device=p.device)])
            return
        assert self.column.accept is not None
        pairs = np.array([(t, s - t) for s in rows for t in range(s - self._length + 1, s + 1)]).reshape(-1, 2)
        lead = len(self._answer) - len(self._starts)
        pairs = pairs[(pairs[:, 0] >= lead) & (pairs.sum(1) < len(self._answer))]
        for t, depth, q in self._laws(pairs[:, 0], pairs[:, 1]):
            mine = p[torch.as_tensor(t + depth - rows[0], device=p.device)]
            told = self._answer[torch.as_tensor(t + depth, device=p.device)][:, None]
            ratio = (q.gather(1, told) / mine.gather(1, told))[:, 0].nan_to_num(0.0).clamp(max=1.0)
            self.column.accept[t, depth] = ratio.cpu().numpy()
            begins = np.flatnonzero(depth == 0)
            if len(begins):
                begun, first, own = t[begins], q[begins], mine[begins]
                self.column.overlap[begun, 0] = torch.minimum(own, first).sum(-1).cpu().numpy()
                self.column.tokens[begun, 0] = rejected(own, first, self._uniforms(begun, 0)).cpu().numpy()

    def go_on(self) -> None:
        """The text was passed: above temperature 0, draw the rest of every chain and compare its first token."""
        if not self._sampling.greedy:
            self._chain(self._drawn)

    def beside(self, t: Ints64, depth: Ints64, p: Tensor) -> None:
        """``p`` [n, V] is the target's distribution behind the chains of starts ``t`` as far as ``depth``."""
        done = 0
        for at, deep, q in self._laws(t, depth):
            mine = torch.minimum(p[done : done + len(at)], q).sum(-1)
            self.column.overlap[at, deep] = mine.cpu().numpy()
            done += len(at)

    # -- what is drafted --------------------------------------------------------------------------------------------

    def _chain(self, choose: Choose) -> None:
        drafts, column = self._drafts, self.column
        drafts.follow(choose)
        column.tokens[self._starts] = drafts.tokens.cpu().numpy()
        t, depth = np.nonzero(np.arange(self._length) < column.proposed[:, None])
        for at, deep, q in self._laws(t, depth):
            token = torch.as_tensor(column.tokens[at, deep], device=q.device)
            column.confidence[at, deep] = q.gather(1, token[:, None])[:, 0].cpu().numpy()

    def _text(self, starts: Tensor, depth: int, logits: Tensor) -> Tensor:
        return self._answer[(starts + depth).clamp(max=len(self._answer) - 1)]

    def _drawn(self, starts: Tensor, depth: int, logits: Tensor) -> Tensor:
        t = starts.cpu().numpy()
        if depth == 0:
            return torch.as_tensor(self.column.tokens[t, 0], device=logits.device)
        q = self._sampling.probs(self._drafts.head.scattered(logits))
        return draw(logits, q, self._uniforms(t, depth))

    def _laws(self, t: Ints64, depth: Ints64) -> Iterator[tuple[Ints64, Ints64, Tensor]]:
        """The head's distributions [n, V] at pairs of a start and a depth, some at a time."""
        device = self._drafts.head.device
        for low in range(0, len(t), PAIRS):
            at, deep = t[low : low + PAIRS], depth[low : low + PAIRS]
            where = torch.as_tensor(at, device=device), torch.as_tensor(deep, device=device)
            yield at, deep, self._sampling.probs(self._drafts.logits(*where))

    def _uniforms(self, t: Ints64, depth: int) -> NDArray[np.float64]:
        return noise.uniform_at(self._key, t * self._length + depth)
