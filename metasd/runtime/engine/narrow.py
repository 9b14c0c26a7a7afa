"""Linear layers for passes of a few tokens on a CPU.

Verification reads 2 to 10 tokens at a time. There, ``x @ W.T`` can take PyTorch twice as long as for one token, while
the transposed product ``W @ x.T`` streams the weights at full bandwidth; for one token it does so too, when a second
row is added. It pays where weights come from memory and MKL multiplies. ``install`` goes by that and by no stopwatch:
the last bits of a text, and so a resumed recording, must not depend on what else a machine did at the time. Plain
decoding gets the same layers: both sides of a speed-up do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

WIDEST = 10
"""Rows up to which the transposed product is used."""
WIDEST_TALL = 4
"""The same for layers with more inputs than outputs."""
_MKL: Any = torch.backends.mkl  # its functions have no types
LARGE = 1 << 22
"""Elements of the largest weight from which a cache does not hold it: 16 MB. Below, neither way is clearly faster."""


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
    """Give ``model`` narrow linear layers, in place and sharing its weights, where they pay; returns whether it did.

    That is decided from the device, the dtype, the largest weight and the library: always the same way.
    """
    linears = [m for m in model.modules() if type(m) is torch.nn.Linear]
    if torch.device(model.device).type != "cpu" or model.dtype != torch.float32 or not linears:
        return False
    if max(m.weight.numel() for m in linears) < LARGE or not _MKL.is_available():
        return False
    for linear in linears:
        linear.__class__ = NarrowLinear
    return True


def installed(model: Any) -> bool:
    """Whether ``model`` has narrow linear layers."""
    return any(isinstance(module, NarrowLinear) for module in model.modules())
