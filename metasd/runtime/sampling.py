"""From logits to the distribution that is sampled from, and from a distribution and a uniform to a token.

The one place that knows temperature, top-k and top-p; drafters, verifier and recorder all come here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from metasd.core.errors import UsageError
from metasd.core.limits import LEAST_TEMPERATURE

OVERLAP_TEMPERATURE = 1.0
"""At which distributions are compared at temperature 0, where one-hot against one-hot would only count matches."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen: temperature 0 is greedy and ignores top_k and top_p. Raises UsageError out of range."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if self.temperature and not LEAST_TEMPERATURE <= self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature} is out of range; use 0, or {LEAST_TEMPERATURE} or more")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k {self.top_k} is out of range; use 1 or more")
        if self.top_p is not None and not LEAST_TEMPERATURE <= self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p} is out of range; use {LEAST_TEMPERATURE} to 1")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def probs(self, logits: torch.Tensor) -> torch.Tensor:
        """The distribution that tokens are drawn from; at temperature 0 the one that overlap and confidence use."""
        if self.greedy:
            return warp(logits, OVERLAP_TEMPERATURE)
        return warp(logits, self.temperature, self.top_k, self.top_p)


def likelihood(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """[m] probability of ``tokens`` [m] under logits [m, V] at OVERLAP_TEMPERATURE, without a softmax to throw away."""
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if OVERLAP_TEMPERATURE != 1:
        values = values / OVERLAP_TEMPERATURE
    return (values.gather(1, tokens[:, None])[:, 0] - values.logsumexp(dim=-1)).exp()


def warp(
    logits: torch.Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> torch.Tensor:
    """Probabilities [..., V] of logits [..., V], in float32 or wider: temperature > 0, then top-k, then top-p.

    top_k keeps the k largest (ties with the k-th included); top_p keeps the fewest largest whose mass reaches p, of
    those that top_k left. What is kept is renormalised.
    """
    values = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if temperature != 1:
        values = values / temperature
    if top_k is not None and top_k < values.shape[-1]:
        smallest = values.topk(top_k, dim=-1).values[..., -1:]
        values = values.masked_fill(values < smallest, -torch.inf)
    probabilities = torch.softmax(values, dim=-1)
    if top_p is None or top_p >= 1:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = torch.zeros_like(probabilities).scatter(-1, order, ordered.masked_fill(before >= top_p, 0.0))
    return kept / kept.sum(dim=-1, keepdim=True)


def pick(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """[n] the index drawn from each row of non-negative ``weights`` [n, V], by inverting its running sum.

    uniforms: [n] in (0, 1), on the weights' device, where all stays. Rows need not sum to 1; weight 0 is never drawn.
    """
    mass = weights.double().cumsum(-1)
    at = torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True)
    return at[:, 0].clamp(max=weights.shape[-1] - 1)
