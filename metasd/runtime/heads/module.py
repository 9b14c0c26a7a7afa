"""The computation of a head: from tokens and features at consecutive positions to logits over its draft vocabulary.

Entry i joins token x_{i+1} with the feature f_i, at rotary position i, and says what follows x_{i+1}. Where f_i is the
target's own the entry is true; further on in a draft it is what the entry before gave (Li et al. 2025, EAGLE-3, arXiv
2503.01840; EAGLE-1 and 2: arXiv 2401.15077, 2406.16858, without the fusion of layers). Shapes: n entries, H the
head's width, Ht the target's, A states a feature is fused from, Vd draft tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from metasd.core.errors import UsageError
from metasd.runtime.heads.describe import EAGLE3, HeadConfig


class HeadCache:
    """Keys and values of the entries so far, by layer, and the entries' positions; cropped by forgetting a length."""

    def __init__(self, config: HeadConfig, like: Tensor) -> None:
        self.length = 0
        shape = (config.layers, 2, config.kv_heads, 0, config.head_dim)
        self._kept = like.new_zeros(shape)
        self.positions = torch.zeros(0, dtype=torch.long, device=like.device)

    def reserve(self, n: int) -> None:
        """Room for ``n`` more entries."""
        need, have = self.length + n, len(self.positions)
        if need > have:
            more = max(need - have, have, 256)
            self._kept = functional.pad(self._kept, (0, 0, 0, more))
            self.positions = functional.pad(self.positions, (0, more))

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [kv, n, hd] behind the entries of ``layer``; all of its keys and values, [kv, length + n, hd]."""
        end = self.length + keys.shape[1]
        kept = self._kept[layer]
        kept[0, :, self.length : end], kept[1, :, self.length : end] = keys, values
        return kept[0, :, :end], kept[1, :, :end]


class _Norm(nn.Module):
    """Root-mean-square norm, in float32 or wider, as Llama's."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scaled: Tensor = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, config: HeadConfig, index: int, inputs: int, biased: Any) -> None:
        super().__init__()
        self.config, self.index = config, index
        own, shared = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(inputs, own, bias=biased("self_attn.q_proj"))
        self.k_proj = nn.Linear(inputs, shared, bias=biased("self_attn.k_proj"))
        self.v_proj = nn.Linear(inputs, shared, bias=biased("self_attn.v_proj"))
        self.o_proj = nn.Linear(own, config.hidden, bias=biased("self_attn.o_proj"))
        if config.qk_norm:
            self.q_norm, self.k_norm = (_Norm(config.head_dim, config.eps) for _ in range(2))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], cache: HeadCache, visible: Tensor | None) -> Tensor:
        """x [n, inputs] -> [n, H]; ``visible`` [n, length + n], None where all is seen."""
        n, hd = len(x), self.config.head_dim
        q, k, v = (proj(x).view(n, -1, hd) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.config.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = _rotated(q, turn).transpose(0, 1), _rotated(k, turn).transpose(0, 1)
        keys, values = cache.put(self.index, k, v.transpose(0, 1))
        out = functional.scaled_dot_product_attention(
            q[None], keys[None], values[None], attn_mask=visible, enable_gqa=True
        )
        mixed: Tensor = self.o_proj(out[0].transpose(0, 1).reshape(n, -1))
        return mixed


class _Layer(nn.Module):
    """A decoder layer; the first of an EAGLE-3 head reads embedding and feature, of an EAGLE-1 head without a norm."""

    def __init__(self, config: HeadConfig, index: int) -> None:
        super().__init__()
        c, norm = config, (config.hidden, config.eps)
        self.wide, self.bare = index == 0 and c.kind == EAGLE3, index == 0 and c.kind != EAGLE3
        self.residual_normed = c.norm_before_residual

        def biased(name: str) -> bool:
            return f"layers.{index}.{name}.bias" in c.shapes

        self.self_attn = _Attention(c, index, 2 * c.hidden if self.wide else c.hidden, biased)
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(c.hidden, c.intermediate, bias=biased("mlp.gate_proj")),
                "up_proj": nn.Linear(c.hidden, c.intermediate, bias=biased("mlp.up_proj")),
                "down_proj": nn.Linear(c.intermediate, c.hidden, bias=biased("mlp.down_proj")),
            }
        )
        self.post_attention_layernorm = _Norm(*norm)
        if not self.bare:
            self.input_layernorm = _Norm(*norm)
        if self.wide:
            self.hidden_norm = _Norm(*norm)
        self.act = ACT2FN[c.activation]

    def forward(
        self, x: Tensor, embedded: Tensor, turn: tuple[Tensor, Tensor], cache: HeadCache, visible: Tensor | None
    ) -> Tensor:
        """x [n, H] -> [n, H]; ``embedded`` [n, H] is read by the first layer of an EAGLE-3 head alone."""
        if self.wide:
            normed = self.hidden_norm(x)
            read = torch.cat([self.input_layernorm(embedded), normed], -1)
            x = normed if self.residual_normed else x
        else:
            read = x if self.bare else self.input_layernorm(x)
        x = x + self.self_attn(read, turn, cache, visible)
        y = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](self.act(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y))


class Head(nn.Module):
    """See the module docstring. ``embed`` and ``unembed`` are the target's where the head has none of its own.

    token_ids: [Vd] the target's ids of the draft tokens, None where they are the same.
    """

    token_ids: Tensor | None

    def __init__(
        self, config: HeadConfig, tensors: Mapping[str, Tensor], token_ids: Tensor | None, embed: Any, unembed: Any
    ) -> None:
        super().__init__()
        self.config = config
        c = config
        if c.activation not in ACT2FN:
            raise UsageError(f"head {c.spec!r}: hidden_act {c.activation!r} is unknown; get the checkpoint whole")
        if "fc.weight" in c.shapes:
            self.fc = nn.Linear(c.shapes["fc.weight"][1], c.hidden, bias="fc.bias" in c.shapes)
        if c.norm_before_fc:
            self.input_norm = _Norm(c.features * c.target_hidden, c.eps)
        if c.fc_norm:
            self.fc_norm = nn.ModuleList(_Norm(c.target_hidden, c.eps) for _ in range(c.features))
        self.layers = nn.ModuleList(_Layer(c, i) for i in range(c.layers))
        if c.kind == EAGLE3:
            self.norm = _Norm(c.hidden, c.eps)
        if "embed_tokens.weight" in c.shapes:
            self.embed_tokens = nn.Embedding(c.vocabulary, c.hidden)
        if "lm_head.weight" in c.shapes:
            self.lm_head = nn.Linear(c.hidden, c.draft_vocabulary, bias=False)
        self.load_state_dict({n: t for n, t in tensors.items() if n not in ("d2t", "t2d")}, assign=True)
        self._embed = (getattr(self, "embed_tokens", embed),)  # in tuples: the target's are no part of this module
        own = getattr(self, "lm_head", None)
        tied = own is None and c.tied and hasattr(self, "embed_tokens")
        self._unembed = ((lambda z: functional.linear(z, self.embed_tokens.weight)) if tied else own or unembed,)
        self.register_buffer("token_ids", token_ids)
        self._rotary()

    def _rotary(self) -> None:
        c = self.config
        made = LlamaConfig(
            hidden_size=c.heads * c.head_dim,
            num_attention_heads=c.heads,
            head_dim=c.head_dim,
            max_position_embeddings=c.max_positions,
            rope_parameters=dict(c.rope),
        )
        rotary = LlamaRotaryEmbedding(made)
        self._frequencies, self._scaling = rotary.inv_freq.float(), float(rotary.attention_scaling)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def cache(self) -> HeadCache:
        """An empty one."""
        return HeadCache(self.config, next(self.parameters()))

    def fuse(self, states: Tensor) -> Tensor:
        """The target's ``states`` [n, A * Ht] of its layers in their order -> features [n, H]."""
        c = self.config
        if c.kind != EAGLE3 or c.final:
            return states
        if c.norm_before_fc:
            states = self.input_norm(states)
        if c.fc_norm:
            parts = states.chunk(c.features, -1)
            states = torch.cat([norm(part) for norm, part in zip(self.fc_norm, parts, strict=True)], -1)
        fused: Tensor = self.fc(states)
        return fused

    def forward(
        self, tokens: Tensor, features: Tensor, positions: Tensor, cache: HeadCache, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Entries behind those of ``cache``, which grows by them: tokens [n], features [n, H], positions [n].

        visible: [n, length + n] bool, what each entry may look at within its layers' windows; None: all that is not
            at a later position. Returns logits [n, Vd] and the features [n, H] of the entries after these in a draft.
        """
        z, own = self.entries(tokens, features, positions, cache, visible)
        return self.logits(z), own

    def entries(
        self, tokens: Tensor, features: Tensor, positions: Tensor, cache: HeadCache, visible: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``forward``, with what ``logits`` takes, [n, H], in place of logits."""
        c, n, end = self.config, len(tokens), cache.length + len(tokens)
        cache.reserve(n)
        cache.positions[cache.length : end] = positions
        embedded = self._embed[0](tokens).to(features.dtype)
        x = features if c.kind == EAGLE3 else self.fc(torch.cat([embedded, features], -1))
        turn = self._turn(positions, x.dtype)
        masks = {window: self._mask(positions, cache.positions[:end], visible, window) for window in {*c.windows}}
        for layer, window in zip(self.layers, c.windows, strict=True):
            x = layer(x, embedded, turn, cache, masks[window])
        cache.length = end
        z = self.norm(x) if c.kind == EAGLE3 else x
        return z, z if c.norm_output else x

    def logits(self, z: Tensor) -> Tensor:
        """[n, Vd] of what ``entries`` gave."""
        logits: Tensor = self._unembed[0](z)
        return logits if self.config.logit_scale == 1 else logits * self.config.logit_scale

    def tokens(self, draft: Tensor) -> Tensor:
        """The target's ids of draft tokens."""
        return draft if self.token_ids is None else self.token_ids[draft]

    def scattered(self, logits: Tensor) -> Tensor:
        """[n, Vd] over the draft vocabulary -> [n, V] over the target's: -inf for what cannot be drafted."""
        if self.token_ids is None:
            return logits
        wide = logits.new_full((len(logits), self.config.vocabulary), -torch.inf)
        return wide.index_copy_(1, self.token_ids, logits)

    def _turn(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, 1, hd] of the rotary positions."""
        if self._frequencies.device != positions.device:
            self._frequencies = self._frequencies.to(positions.device)
        angle = (positions[:, None].float() * self._frequencies).repeat(1, 2)[:, None]
        return (angle.cos() * self._scaling).to(dtype), (angle.sin() * self._scaling).to(dtype)

    def _mask(self, at: Tensor, behind: Tensor, visible: Tensor | None, window: int | None) -> Tensor | None:
        if visible is None and window is None and len(at) == 1:
            return None
        seen = behind[None, :] <= at[:, None] if visible is None else visible
        return seen if window is None else seen & (at[:, None] - behind[None, :] < window)


def _rotated(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """x [n, heads, hd] turned by the angles of its positions, halves as Llama pairs them."""
    first, second = x.chunk(2, -1)
    cos, sin = turn
    rotated: Tensor = x * cos + torch.cat([-second, first], -1) * sin
    return rotated
