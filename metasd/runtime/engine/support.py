"""What a model allows, read off its own config: rolling its cache back, the windows of its layers, packed reading.

What cannot work is refused here, in one line, wherever a model is put to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from metasd.core.errors import UsageError
from metasd.runtime.engine.positions import PositionLayer

FULL = "full_attention"
MASKED = ("sdpa", "eager")
"""Attention implementations that take an additive mask; others may end in a device assert that nothing survives."""
_OWN_WINDOWS = ("sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern")
"""Keys of a config that speak of windows and are accounted for by its cache's layers."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a layer sees behind the causal mask: the last ``size`` tokens, or those of its chunk of ``size``."""

    size: int
    chunked: bool

    def shows(self, at: Tensor, seen: Tensor) -> Tensor:
        """[n, m] whether the tokens at positions ``at`` [n] may look at those at positions ``seen`` [m]."""
        if self.chunked:
            return at[:, None] // self.size == seen[None, :] // self.size
        return at[:, None] - seen[None, :] < self.size


def croppable_cache(model: Any) -> DynamicCache:
    """A new cache for ``model`` that keeps every token, so that it can be rolled back to any length.

    Layers with a window get one that keeps what left the window as well: the model's own mask applies the window.
    Raises UsageError, naming the type, for states, encoders and caches that cannot be rolled back.
    """
    name = type(model).__name__
    if getattr(model, "_is_stateful", False):
        raise UsageError(f"{name} keeps a recurrent state, which cannot be rolled back; use a transformer")
    if model.config.is_encoder_decoder:
        raise UsageError(f"{name} is an encoder with a decoder, which is not supported; use a decoder-only model")
    kind = getattr(getattr(model, "generation_config", None), "cache_implementation", None)
    if kind == "quantized":
        raise UsageError(f"{name} asks for a quantized cache, which changes its text; remove cache_implementation")
    cache = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer):
            cache.layers[i] = PositionLayer()
        elif type(layer).__name__ not in ("DynamicIndexedLayer", "DummyLayer"):
            raise UsageError(
                f"{name} caches with {type(layer).__name__}, which cannot be rolled back; use a transformer"
            )
    return cache


def windows(model: Any) -> dict[str, Window | None] | None:
    """The window of every kind of layer, by the names of ``config.layer_types``; None: full attention.

    None instead of a dict when the config does not tell: layers of one kind with different windows, sparse attention,
    or a window that the cache's layers know nothing of (GPT-Neo's, which goes by places in the cache).
    """
    config = model.config.get_text_config(decoder=True)
    if any("window" in key and key.strip("_") not in _OWN_WINDOWS and value for key, value in config.to_dict().items()):
        return None
    found: dict[str, Window | None] = {}
    layers = DynamicCache(config=model.config).layers
    for kind, layer in zip(_layer_types(config, len(layers)), layers, strict=True):
        if type(layer) is DynamicSlidingWindowLayer:
            window = Window(int(layer.sliding_window), "chunked" in kind)
        elif type(layer) is DynamicLayer:
            window = None
        elif type(layer).__name__ == "DummyLayer":
            continue  # shares another layer's
        else:
            return None
        if found.setdefault(kind, window) != window:
            return None
    return found


def _layer_types(config: Any, count: int) -> list[str]:
    """One name a layer, as transformers infers them where the config has no list."""
    listed = getattr(config, "layer_types", None)
    if listed is not None:
        return list(listed)
    if getattr(config, "sliding_window", None) is not None:
        return ["sliding_attention"] * count
    chunked = getattr(config, "attention_chunk_size", None) is not None
    return ["chunked_attention" if chunked else FULL] * count


def attention(model: Any) -> str:
    """The name of the model's attention implementation: sdpa, eager, flash_attention_2, ..."""
    return str(getattr(model.config.get_text_config(decoder=True), "_attn_implementation", None) or "eager")


def spread_over(model: Any) -> int:
    """Processes that a tensor-parallel plan spreads the weights of ``model`` over; 1 for one that is whole."""
    mesh = getattr(model, "_device_mesh", None)  # by every release; `_tp_size` is not
    return 1 if mesh is None else int(mesh.size())


def packable(model: Any) -> bool:
    """Whether the config allows telling every token what to attend to; whether the model heeds it is tried out."""
    return attention(model) in MASKED and windows(model) is not None


def rotary_switch(config: Any) -> int | None:
    """Tokens of text beyond which a model's rotary factors are others for all positions; None where they never are.

    With longrope, and with dynamic NTK scaling, factors follow the largest position of a pass. Keys in the cache
    keep the old ones, so what a model says would depend on how its text was cut into passes.
    """
    text = config.get_text_config(decoder=True)
    parameters = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    each = parameters.values() if all(isinstance(p, dict) for p in parameters.values()) else [parameters]
    limits = []
    for one in each:
        kind = one.get("rope_type", one.get("type"))
        if kind == "longrope":
            own = one.get("original_max_position_embeddings")
            limits.append(own or getattr(text, "original_max_position_embeddings", None))
        elif kind is not None and "dynamic" in kind:
            limits.append(text.max_position_embeddings)
    return min((int(limit) for limit in limits if limit), default=None)


def stated_limit(config: Any) -> int | None:
    """The longest text a model says it reads, in tokens; None where it states no limit."""
    text = config.get_text_config(decoder=True)
    for key in ("max_position_embeddings", "max_sequence_length", "max_seq_len", "n_positions"):
        limit = getattr(text, key, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def crossing(switch: int | None, prompt: int, budget: int) -> bool:
    """Whether an answer of ``budget`` tokens to a ``prompt`` of so many meets the rotary ``switch``.

    A prompt beyond it by two tokens is read with the other factors from its first pass on, the last token apart.
    """
    return switch is not None and prompt < switch + 2 and prompt + budget > switch


@torch.inference_mode()
def apart(one: Tensor, other: Tensor, dtype: torch.dtype, exact: float = 1e-3) -> bool:
    """Whether two readings of the same rows by a model of ``dtype`` differ by more than rounding.

    For SmolLM2 the root mean square of the difference between narrow and wide passes is 2 % of the logits' deviation
    in bfloat16 and 0.0002 % in float32, but 21 % when positions are ignored and 59 % when a mask is. Models of little
    attention differ less, so float32 and float64 are held to ``exact`` of the deviation.
    """
    allowed = exact if torch.finfo(dtype).bits >= 32 else 0.06
    one, other = one.double(), other.double()
    return bool((one - other).square().mean().sqrt() > allowed * other.std())
