"""Attention between its products in fewer calls: turning heads by their positions, and sdpa over shared heads."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from metasd.runtime.engine.norms import same

SDPA, ROTARY = "sdpa", "apply_rotary_pos_emb"
FEW = 64
"""New tokens up to which attention is made here; more are read with the library's own function."""
_KNOWN = {"module", "query", "key", "value", "attention_mask", "dropout", "scaling", "is_causal", "kwargs"}
_UNKNOWN = (*({*inspect.signature(sdpa_attention_forward).parameters} - _KNOWN), "softcap", "output_attentions")
"""What attention may be told besides, which the library's own function is then left to understand."""


def turned(x: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    """x * cos + (-x2, x1) * sin for x [.., D] = (x1, x2); ``signed``: sin, its first half negated."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), signed)


class Rotary:
    """Stands for ``apply_rotary_pos_emb`` in all layers of a model: its factors are the same objects in a pass."""

    def __init__(self) -> None:
        self._held: tuple[Tensor, Tensor, int, Tensor, Tensor] | None = None

    def of(self, own: Callable[..., Any]) -> Callable[..., Any]:
        """The function that does what ``own`` does; ``own`` itself where it is called in another way."""

        def apply_rotary_pos_emb(
            q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, unsqueeze_dim: int = 1, **kwargs: Any
        ) -> Any:
            if args or kwargs or not cos.shape[-1] == q.shape[-1] == k.shape[-1]:
                return own(q, k, cos, sin, *args, unsqueeze_dim=unsqueeze_dim, **kwargs)
            factors = self.factors(cos, sin, unsqueeze_dim)
            return turned(q, *factors), turned(k, *factors)

        return apply_rotary_pos_emb

    def factors(self, cos: Tensor, sin: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """``cos``, and ``sin`` with its first half negated, with a dimension for heads at ``dim``."""
        held = self._held
        if held is None or held[0] is not cos or held[1] is not sin or held[2] != dim:
            held = self._held = (cos, sin, dim, cos.unsqueeze(dim), _signed(sin).unsqueeze(dim))
        return held[3], held[4]


def _signed(sin: Tensor) -> Tensor:
    first, second = sin.chunk(2, -1)
    return torch.cat([-first, second], -1)


@torch.inference_mode()
def turns_halves(own: Any) -> bool:
    """Whether ``own`` turns halves of queries and keys, as Llama's does."""
    made = torch.Generator().manual_seed(2)
    q, k = (torch.randn(1, heads, 3, 8, generator=made) for heads in (4, 2))
    cos, sin = (torch.randn(1, 3, 8, generator=made) for _ in range(2))
    try:
        pairs = zip(own(q, k, cos, sin), Rotary().of(own)(q, k, cos, sin), strict=True)
        return all(same(one, other) for one, other in pairs)
    except (TypeError, ValueError, RuntimeError):
        return False


class Shared:
    """Stands for the library's table of attention functions: with ``sdpa``, keys and values are read where they lie.

    Heads that share keys become rows of one head. The mask of a pass is made additive once for all its layers.
    """

    def __init__(self) -> None:
        self._held: tuple[Tensor, int, Tensor] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(ALL_ATTENTION_FUNCTIONS, name)

    def __getitem__(self, name: str) -> Any:
        return self.attend if name == SDPA else ALL_ATTENTION_FUNCTIONS[name]

    def get_interface(self, name: str, default: Any) -> Any:
        return self.attend if name == SDPA else ALL_ATTENTION_FUNCTIONS.get_interface(name, default)

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """[B, w, H, D] of query [B, H, w, D] behind keys and values [B, G, S, D]; as ``sdpa_attention_forward``."""
        batch, heads, width, size = query.shape
        few = width == 1 if attention_mask is None else width <= FEW and attention_mask.shape[1] == 1
        if not few or dropout or key.shape != value.shape or any(kwargs.get(name) is not None for name in _UNKNOWN):
            given = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **kwargs}
            made: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
            return made
        shared = heads // key.shape[1]
        mask = None if attention_mask is None else self._mask(attention_mask, shared, query.dtype)
        rows = query.reshape(batch, key.shape[1], shared * width, size)
        out = scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
        return out.reshape(batch, heads, width, size).transpose(1, 2), None

    def _mask(self, given: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
        """[B, 1, shared * w, S] additive, of ``given`` [B, 1, w, S], additive or telling what is seen."""
        held = self._held
        if held is None or held[0] is not given or held[1] != shared:
            mask = given
            if given.dtype == torch.bool:
                mask = torch.zeros(given.shape, dtype=dtype, device=given.device).masked_fill_(~given, -torch.inf)
            held = self._held = (given, shared, mask.repeat(1, 1, shared, 1) if shared > 1 else mask)
        return held[2]
