"""Training-time test: a head drafts behind every start of some answers at once, on features of its own making.

Step 0 reads the target's states at all positions; step j goes on from step j - 1 at the same starts, each seeing the
true entries up to its start and its own steps (Li et al. 2025, EAGLE-3, arXiv 2503.01840). The tokens are the text's:
what is learned at step j is what a draft does whose first j tokens stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metasd.core.records import Ints
from metasd.distill.states import Sample
from metasd.runtime.heads.module import Head, HeadCache

DECAY = 0.8
"""Weight of a step's loss, relative to the step before."""


class GrownCache(HeadCache):
    """A head's cache that gradients flow through: what it holds is joined anew, nothing is written in place."""

    def __init__(self, head: Head) -> None:
        super().__init__(head.config, next(head.parameters()))
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def reserve(self, n: int) -> None:
        self.positions = functional.pad(self.positions, (0, self.length + n - len(self.positions)))

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self._layers:
            before = self._layers[layer]
            keys, values = torch.cat([before[0], keys], 1), torch.cat([before[1], values], 1)
        self._layers[layer] = keys, values
        return keys, values


@dataclass(frozen=True, slots=True)
class Batch:
    """Several samples side by side, n entries with S starts.

    tokens, positions: [n]. states: [n, A * H]. visible: [n, n], within a sample and not ahead. rows: [S] the entry of
    each start. told: [S, steps] the text's token at each step, -1 behind its end. ids, shares: [S, steps, K] and
    counts: [S, steps] as ``Sample`` has them; nothing behind the end counts.
    """

    tokens: Tensor
    positions: Tensor
    states: Tensor
    visible: Tensor
    rows: Tensor
    told: Tensor
    ids: Tensor
    shares: Tensor
    counts: Tensor
    lengths: list[int]  # starts of each sample


def joined(samples: Sequence[Sample], steps: int, device: torch.device, dtype: torch.dtype) -> Batch:
    """One batch of ``samples``, for ``steps`` steps."""
    parts: list[tuple[Tensor, ...]] = []
    offset, lengths = 0, list[int]()
    for which, s in enumerate(samples):
        n = len(s.states)
        starts = torch.arange(max(2 - s.first, 0), s.answer)
        at = starts[:, None] + torch.arange(steps)
        inside, clipped = at < s.answer, at.clamp(max=s.answer - 1)
        told = s.tokens[s.first :][clipped].masked_fill(~inside, -1)
        counts = inside & s.inside[clipped]
        rows = offset + starts + s.first - 2
        own = torch.full((n,), which)
        parts.append(
            (s.tokens[1 : n + 1], torch.arange(n), s.states, own, rows, told, s.ids[clipped], s.shares[clipped], counts)
        )
        offset += n
        lengths.append(len(starts))
    tokens, positions, states, own, rows, told, ids, shares, counts = (
        torch.cat(column).to(device) for column in zip(*parts, strict=True)
    )
    visible = (own[:, None] == own[None, :]) & (positions[None, :] <= positions[:, None])
    return Batch(tokens, positions, states.to(dtype), visible, rows, told, ids, shares.to(dtype), counts, lengths)


def unrolled(head: Head, batch: Batch, steps: int) -> list[Tensor]:
    """[S, Vd] logits at every start, step by step."""
    cache = GrownCache(head)
    z, own = head.entries(batch.tokens, head.fuse(batch.states), batch.positions, cache, batch.visible)
    z, own, seen, said = z[batch.rows], own[batch.rows], [batch.visible[batch.rows]], list[Tensor]()
    for step in range(steps):
        said.append(head.logits(z))
        if step + 1 < steps:
            seen.append(torch.eye(len(z), dtype=torch.bool, device=z.device))
            fed = batch.told[:, step].clamp(min=0)
            at = batch.positions[batch.rows] + step + 1
            z, own = head.entries(fed, own, at, cache, torch.cat(seen, 1))
    return said


def loss_of(logits: Sequence[Tensor], batch: Batch) -> Tensor:
    """Mean cross-entropy to the target's opinion over starts that count, steps weighted by DECAY."""
    total, weights = logits[0].new_zeros(()), 0.0
    for step, row in enumerate(logits):
        counts = batch.counts[:, step]
        if not counts.any():
            continue
        said = row[counts].float().log_softmax(-1).gather(1, batch.ids[counts, step])
        own = -(batch.shares[counts, step] * said).sum(-1).mean()
        total, weights = total + DECAY**step * own, weights + DECAY**step
    return total / max(weights, 1e-9)


def accepted(head: Head, logits: Sequence[Tensor], batch: Batch) -> Ints:
    """[S] leading tokens of a greedy draft at each start that are the text's."""
    hits = torch.stack([head.tokens(row.argmax(-1)) for row in logits], 1) == batch.told[:, : len(logits)]
    counted: Ints = hits.long().cumprod(1).sum(1).cpu().numpy()
    return counted


class HeadLearner:
    """A head being trained; see ``train.Learner``."""

    def __init__(self, head: Head) -> None:
        self.module = head

    def loss(self, samples: Sequence[Sample], steps: int) -> Tensor:
        batch = joined(samples, steps, self.module.device, self.module.dtype)
        return loss_of(unrolled(self.module, batch, steps), batch)

    def accepted(self, samples: Sequence[Sample], steps: int) -> tuple[float, list[Ints]]:
        batch = joined(samples, steps, self.module.device, self.module.dtype)
        logits = unrolled(self.module, batch, steps)
        found = np.split(accepted(self.module, logits, batch), np.cumsum(batch.lengths)[:-1])
        return float(loss_of(logits, batch)), found
