"""RMS norms, found by what they make and not by what they are called, in one call of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


@torch.inference_mode()
def norm_of(module: nn.Module) -> tuple[Tensor, float] | None:
    """The weight [H] and eps of a module that has these and makes weight * x / sqrt(mean(x^2) + eps) of x [.., H]."""
    weight = module._parameters.get("weight")
    bare = set(module._parameters) == {"weight"} and not (module._modules or module._buffers)
    if not bare or weight is None or weight.dim() != 1 or type(module).__module__.startswith("torch."):
        return None
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or len(list(_floats(module))) != 1:
        return None
    made = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, len(weight), generator=made) * torch.tensor([3.0, 1e-3])[:, None, None]
    try:
        said = module(x)
    except (TypeError, RuntimeError, AttributeError):
        return None
    eps = float(getattr(module, eps_name(module)))
    exact = isinstance(said, Tensor) and same(said, torch.rms_norm(x, weight.shape, weight, eps))
    return (weight, eps) if exact else None


def _floats(module: nn.Module) -> Iterator[str]:
    return (name for name, value in vars(module).items() if isinstance(value, float))


def eps_name(module: nn.Module) -> str:
    """What ``module``, which ``norm_of`` knows, calls its eps."""
    return next(_floats(module))


def rms_forward(eps: str) -> Callable[..., Tensor]:
    """``forward`` of a norm that calls its eps ``eps``."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        weight = self._parameters["weight"]
        return torch.rms_norm(hidden_states, weight.shape, weight, getattr(self, eps))

    return forward


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two results are equal up to the rounding of float32."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-6)
