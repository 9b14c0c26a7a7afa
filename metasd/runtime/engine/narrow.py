"""Linear layers for passes of a few tokens on a CPU.

Verification reads 2 to 10 tokens at a time. There, ``x @ W.T`` can take PyTorch twice as long as for one token, while
the transposed product ``W @ x.T`` streams the weights at full bandwidth; for one token it does so too, when a second
row is added. Which is faster depends on the library and the processor, so ``install`` measures it on the largest
weight and changes nothing where there is no gain. Plain decoding gets the same layers: both sides of a speed-up do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.nn import functional

WIDEST = 10
"""Rows up to which the transposed product is used."""
WIDEST_TALL = 4
"""The same for layers with more inputs than outputs."""
LARGE = 1 << 20
"""Elements of the largest weight from which it matters."""
GAIN = 1.15
"""How much faster it must be to be worth it."""


class NarrowLinear(torch.nn.Linear):
    """A linear layer that multiplies the other way round when it is given a few rows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in] -> [..., out]."""
        rows = x.numel() // x.shape[-1]
        tall = self.in_features > self.out_features
        if rows > (WIDEST_TALL if tall else WIDEST) or (tall and rows == 1):
            return functional.linear(x, self.weight, self.bias)
        out = transposed(x.reshape(rows, -1), self.weight)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1)


def transposed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [n, in], weight [out, in] -> x @ weight.T [n, out], computed as (weight @ x.T).T."""
    if len(x) == 1:
        return torch.mm(weight, torch.cat([x, x]).t())[:, 0].contiguous()[None]
    return torch.mm(weight, x.t()).t().contiguous()


def install(model: Any) -> bool:
    """Give ``model`` narrow linear layers, in place and sharing its weights, if they are faster here.

    Only float32 models on a CPU are changed. Returns whether it was.
    """
    linears = [m for m in model.modules() if type(m) is torch.nn.Linear]
    if torch.device(model.device).type != "cpu" or model.dtype != torch.float32 or not linears:
        return False
    largest = max((m.weight for m in linears), key=torch.Tensor.numel)
    if largest.numel() < LARGE or not faster(largest):
        return False
    for linear in linears:
        linear.__class__ = NarrowLinear
    return True


@torch.inference_mode()
def faster(weight: torch.Tensor, rows: int = 5) -> bool:
    """Whether the transposed product is faster at ``rows`` rows by ``GAIN``."""
    x = torch.ones(rows, weight.shape[1])
    usual = _seconds(lambda: functional.linear(x, weight))
    return usual > GAIN * _seconds(lambda: transposed(x, weight))


def _seconds(call: Callable[[], object], repeats: int = 5) -> float:
    found = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return median(found[1:])
