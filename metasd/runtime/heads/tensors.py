"""A head's tensors held to its description: none unknown, none missing, none of another shape; its vocabulary maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metasd.core.errors import UsageError
from metasd.runtime.heads.describe import EAGLE3, HeadConfig

Shapes = dict[str, tuple[int, ...]]
NAMED = 3
"""Tensors that a message names at most."""


def check_tensors(config: HeadConfig) -> None:
    """Raises UsageError, naming them, unless the tensors are those of the description."""
    required, optional = expected(config)
    found = config.shapes
    for problem, names in (
        ("has tensors that no known head has:", [n for n in found if n not in required and n not in optional]),
        ("lacks", [n for n in required if n not in found]),
    ):
        if names:
            raise UsageError(
                f"head {config.spec!r} {problem} {_named(names)}; use a head of a format listed in the docs"
            )
    for name, shape in (required | optional).items():
        if name in found and found[name] != shape:
            raise UsageError(
                f"head {config.spec!r}: {name} has shape {list(found[name])}, but its config.json says {list(shape)}; "
                "get the checkpoint whole"
            )


def expected(config: HeadConfig) -> tuple[Shapes, Shapes]:
    """Shapes of the tensors that must be there, and of those that may be."""
    c = config
    three = c.kind == EAGLE3
    required: Shapes = {}
    optional: Shapes = {
        "embed_tokens.weight": (c.vocabulary, c.hidden),
        "lm_head.weight": (c.draft_vocabulary, c.hidden),
    }
    narrower, foreign = c.draft_vocabulary != c.vocabulary, c.hidden != c.target_hidden
    if narrower or (foreign and not c.tied):
        required["lm_head.weight"] = optional.pop("lm_head.weight")
    if foreign:
        required["embed_tokens.weight"] = optional.pop("embed_tokens.weight")
    optional |= {"t2d": (c.vocabulary,), "d2t": (c.draft_vocabulary,)}
    if not (three and c.final):
        required["fc.weight"] = (c.hidden, c.features * c.target_hidden if three else 2 * c.hidden)
        optional["fc.bias"] = (c.hidden,)
    if three:
        required["norm.weight"] = (c.hidden,)
    if c.norm_before_fc:
        required["input_norm.weight"] = (c.features * c.target_hidden,)
    if c.fc_norm:
        required |= {f"fc_norm.{i}.weight": (c.target_hidden,) for i in range(c.features)}
    for i in range(c.layers):
        must, may = _layer(c, i)
        required |= must
        optional |= may
    return required, optional


def _layer(c: HeadConfig, index: int) -> tuple[Shapes, Shapes]:
    first, three, at = index == 0, c.kind == EAGLE3, f"layers.{index}."
    read = 2 * c.hidden if first and three else c.hidden
    own, shared = c.heads * c.head_dim, c.kv_heads * c.head_dim
    attention = {"q_proj": (own, read), "k_proj": (shared, read), "v_proj": (shared, read), "o_proj": (c.hidden, own)}
    mlp = {"gate_proj": (c.intermediate, c.hidden), "up_proj": (c.intermediate, c.hidden)}
    mlp["down_proj"] = (c.hidden, c.intermediate)
    linear = {f"{at}self_attn.{n}": s for n, s in attention.items()} | {f"{at}mlp.{n}": s for n, s in mlp.items()}
    must: Shapes = {f"{n}.weight": s for n, s in linear.items()}
    may: Shapes = {f"{n}.bias": s[:1] for n, s in linear.items()}
    norms = ["post_attention_layernorm"]
    norms += ["input_layernorm"] if three or not first else []
    norms += ["hidden_norm"] if three and first else []
    must |= {f"{at}{n}.weight": (c.hidden,) for n in norms}
    if c.qk_norm:
        must |= {f"{at}self_attn.{n}.weight": (c.head_dim,) for n in ("q_norm", "k_norm")}
    if c.qkv_bias:
        must |= {f"{at}self_attn.{n}.bias": may.pop(f"{at}self_attn.{n}.bias") for n in ("q_proj", "k_proj", "v_proj")}
    return must, may


def token_ids(config: HeadConfig, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """[Vd] the target's id of every draft token; None where the vocabularies are one.

    ``d2t`` holds offsets, ``t2d`` says which of the target's tokens are there, in the same order. Raises UsageError
    where the vocabularies differ and neither is there, and for maps out of range or at odds.
    """
    d2t, t2d = tensors.get("d2t"), tensors.get("t2d")
    if d2t is None and (t2d is None or config.draft_vocabulary == config.vocabulary):
        if config.draft_vocabulary != config.vocabulary:
            raise UsageError(
                f"head {config.spec!r} lacks d2t, the map of its draft vocabulary; get the checkpoint whole"
            )
        return None
    chosen = None if t2d is None else t2d.bool().nonzero()[:, 0]
    ids = chosen if d2t is None else d2t.long() + torch.arange(len(d2t))
    assert ids is not None
    inside = len(ids) == config.draft_vocabulary and bool(((ids >= 0) & (ids < config.vocabulary)).all())
    if not inside or (chosen is not None and not torch.equal(ids.sort().values, chosen)):
        raise UsageError(f"head {config.spec!r}: d2t and t2d do not map its draft vocabulary; get the checkpoint whole")
    return ids


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(sorted(names)[:NAMED]) + more
