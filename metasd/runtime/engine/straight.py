"""A decoder layer of Llama's shape as one straight piece of code, where a model's own code says that it is one.

Between two products the modules of such a layer make fifty calls, most of them to slice, turn and name things. Weights
stream through the caches between them, so each costs several times what it costs in a loop of its own. Here they are
twenty.

Whether a layer is of the shape is not guessed from names or numbers: ``forward`` of layer, attention and MLP must be,
instruction by instruction, those that transformers has for Llama (for attention also Mistral's and Qwen2's, which tell
sdpa of a window that it reads in the mask). A layer asked for anything besides runs its own code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama import modeling_llama
from transformers.models.mistral import modeling_mistral
from transformers.models.qwen2 import modeling_qwen2

from metasd.runtime.engine.packed import PackedLinear, PackedPart

IGNORED = {"cache_position"}
"""What models of earlier releases tell their layers besides, and these do not read."""
WRAPPERS = ("transformers.utils.deprecation", "transformers.modeling_layers")
"""Modules whose wrappers of ``forward`` rename arguments, or save memory in training."""

Attend = Callable[..., tuple[Tensor, None]]
Factors = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(slots=True)
class Parts:
    """What a straight layer multiplies with. heads, shared, size: of queries, of keys and values, numbers in each."""

    first: tuple[Tensor, float]
    second: tuple[Tensor, float]
    joined: PackedLinear
    out: PackedLinear
    gated: PackedLinear
    down: PackedLinear
    act: Callable[[Tensor], Tensor]
    heads: int
    shared: int
    size: int
    scaling: float


def parts_of(layer: Any, norm: Callable[[nn.Module], tuple[Tensor, float] | None]) -> Parts | None:
    """The parts of ``layer`` if it is of the shape and its weights are packed; ``norm``: weight and eps of a norm."""
    attention: Any = getattr(layer, "self_attn", None)
    mlp: Any = getattr(layer, "mlp", None)
    if not (_written_as(layer, _LAYERS) and _written_as(attention, _ATTENTIONS) and _written_as(mlp, _MLPS)):
        return None
    joined = _group(attention, ("q_proj", "k_proj", "v_proj"))
    gated = _group(mlp, ("gate_proj", "up_proj"))
    out, down = attention.o_proj, mlp.down_proj
    first, second = norm(layer.input_layernorm), norm(layer.post_attention_layernorm)
    if joined is None or gated is None or first is None or second is None:
        return None
    if not (isinstance(out, PackedLinear) and isinstance(down, PackedLinear)) or attention.training:
        return None
    size = int(attention.head_dim)
    heads, shared = attention.q_proj.out_features // size, attention.k_proj.out_features // size
    if mlp.gate_proj.out_features != mlp.up_proj.out_features or joined.out_features != (heads + 2 * shared) * size:
        return None
    return Parts(first, second, joined, out, gated, down, mlp.act_fn, heads, shared, size, float(attention.scaling))


def straight(kind: type, attend: Attend, factors: Factors) -> Callable[..., Any]:
    """``forward`` of a layer that was a ``kind`` and has its parts in ``_parts``.

    attend: as sdpa's attention function. factors: cosines, and sines with the first half negated, to turn heads by.
    """
    own: Callable[..., Any] = kind.forward  # type: ignore[attr-defined]

    def forward(
        self: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        use_cache: bool | None = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> Any:
        parts: Parts = self._parts
        held = past_key_values if cache is None else cache
        turned = None if position_embeddings is None else position_embeddings[0].shape[-1]
        if held is None or position_embeddings is None or turned != parts.size or not kwargs.keys() <= IGNORED:
            given = {"attention_mask": attention_mask, "position_ids": position_ids, "use_cache": use_cache, **kwargs}
            given |= {name: c for name, c in (("cache", cache), ("past_key_values", past_key_values)) if c is not None}
            return own(self, hidden_states, position_embeddings=position_embeddings, **given)
        batch, width, _ = hidden_states.shape
        heads, both = parts.heads, parts.heads + parts.shared
        weight, eps = parts.first
        made = parts.joined.forward(torch.rms_norm(hidden_states, weight.shape, weight, eps))
        made = made.view(batch, width, -1, parts.size)
        cos, sin = factors(*position_embeddings, 2)
        turning = made[:, :, :both]
        rotated = torch.addcmul(turning * cos, turning.roll(parts.size // 2, -1), sin).transpose(1, 2)
        attention = self._modules["self_attn"]
        keys, values = held.update(rotated[:, heads:], made[:, :, both:].transpose(1, 2), attention.layer_idx)
        seen, _ = attend(attention, rotated[:, :heads], keys, values, attention_mask, scaling=parts.scaling)
        states = hidden_states + parts.out.forward(seen.reshape(batch, width, -1))
        weight, eps = parts.second
        gate, up = parts.gated.forward(torch.rms_norm(states, weight.shape, weight, eps)).chunk(2, -1)
        return states + parts.down.forward(parts.act(gate) * up)

    return forward


def _group(parent: Any, names: tuple[str, ...]) -> PackedLinear | None:
    """The one product that the layers ``names`` of ``parent`` are parts of, in that order and without others."""
    found = [parent._modules.get(name) for name in names]
    if not all(isinstance(part, PackedPart) and part.index == i for i, part in enumerate(found)):
        return None
    parts: Any = found
    one = all(part.group is parts[0].group for part in parts) and len(parts[0].group.sizes) == len(parts)
    return parts[0].group.linear if one else None


def bare(kind: type) -> FunctionType | None:
    """The ``forward`` of ``kind`` as it was written; None where something besides ``WRAPPERS`` wraps it."""
    method: Any = getattr(kind, "forward", None)
    while hasattr(method, "__wrapped__"):
        if method.__globals__.get("__name__") not in WRAPPERS:
            return None
        method = method.__wrapped__
    return method if isinstance(method, FunctionType) else None


def _written_as(module: Any, kinds: tuple[type, ...]) -> bool:
    method = bare(type(module))
    return method is not None and any(_alike(method, bare(kind)) for kind in kinds)


def _alike(one: FunctionType, other: FunctionType | None) -> bool:
    """Whether both were compiled from the same code, names of arguments and attributes included."""
    if other is None:
        return False
    mine, its = one.__code__, other.__code__
    same = all(getattr(mine, key) == getattr(its, key) for key in ("co_code", "co_names", "co_varnames", "co_freevars"))
    constants = [[c for c in f.__code__.co_consts if c != f.__doc__] for f in (one, other)]
    return same and constants[0] == constants[1]


_LAYERS = (modeling_llama.LlamaDecoderLayer,)
_ATTENTIONS = (modeling_llama.LlamaAttention, modeling_mistral.MistralAttention, modeling_qwen2.Qwen2Attention)
_MLPS = (modeling_llama.LlamaMLP,)
