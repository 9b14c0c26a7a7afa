"""The head that training begins with, in the format of ``speculators``: the target's last layer behind three of its
states, and how a head is written.

No norm stands in front of the residual, the fusion or the output (EAGLE-3 as first published), so every reader of such
files takes it. ``lm_head`` holds the target's rows of the draft vocabulary and is not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from metasd.core import files, jsontext
from metasd.core.errors import UsageError
from metasd.runtime.heads.attach import build
from metasd.runtime.heads.describe import IDS
from metasd.runtime.heads.files import CONFIG, Checkpoint
from metasd.runtime.heads.module import Head
from metasd.runtime.load import Target

FROZEN = "lm_head.weight"
WEIGHTS = "model.safetensors"
_SPREAD = 0.02
_ROPES = ("default", "linear", "dynamic", "llama3", "yarn")


def layers_of(target: Target) -> tuple[int, int, int]:
    """The states a head reads, as ``hidden_states`` counts them: 2, L/2 and L - 3, within what a small target has."""
    total = int(target.model.config.get_text_config().num_hidden_layers)
    low, middle, high = sorted(min(max(i, 1), total) for i in (2, total // 2, total - 3))
    return low, middle, high


def begun(target: Target, vocabulary: Tensor, unroll: int, seed: int) -> Head:
    """A head to be trained, on the target's device, in float32 or wider. ``vocabulary``: [Vd] ids, ascending.

    Raises UsageError for a target whose output layer is no matrix of tokens.
    """
    config = config_of(target, len(vocabulary), unroll)
    made = Checkpoint("new", "new", "", config, _tensors(target, config["transformer_layer_config"], vocabulary, seed))
    head = build(made, target.model)
    head = head.to(dtype=torch.promote_types(head.dtype, torch.float32))
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(name != FROZEN)
    return head


def write(head: Head, folder: Path, config: Mapping[str, Any]) -> int:
    """Write ``head`` into ``folder``, in half precision where it fits; bytes of its weights. Raises FileError."""
    tensors = {n: t.detach().cpu() for n, t in head.named_parameters()}
    halves = {n: t.to(torch.float16) for n, t in tensors.items()}
    narrow = not any(t.isinf().any() for t in halves.values())
    tensors = halves if narrow else {n: t.float() for n, t in tensors.items()}
    ids = head.token_ids
    if ids is not None:
        ids = ids.cpu()
        tensors["d2t"] = ids - torch.arange(len(ids))
        tensors["t2d"] = torch.zeros(head.config.vocabulary, dtype=torch.bool).index_fill_(0, ids, True)
    data = save({n: t.contiguous() for n, t in tensors.items()}, metadata={"format": "pt"})
    files.write_bytes(folder / WEIGHTS, data)
    told = {**config, "dtype": "float16" if narrow else "float32"}
    files.write_text(folder / CONFIG, jsontext.dumps(told, indent=1) + "\n")
    return len(data)


def config_of(target: Target, draft_vocabulary: int, unroll: int) -> dict[str, Any]:
    """The configuration of a head, as speculators and vLLM read it."""
    text = target.model.config.get_text_config()
    heads = int(text.num_attention_heads)
    layer = {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": int(text.hidden_size),
        "intermediate_size": int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        "num_attention_heads": heads,
        "num_key_value_heads": int(getattr(text, "num_key_value_heads", None) or heads),
        "head_dim": int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        "hidden_act": "silu",
        "rms_norm_eps": float(getattr(text, "rms_norm_eps", None) or 1e-6),
        "vocab_size": target.vocab_size,
        "max_position_embeddings": int(getattr(text, "max_position_embeddings", None) or 2048),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        **_rope(text),
    }
    method = {"proposal_type": "greedy", "speculative_tokens": unroll, "verifier_accept_k": 1, "accept_tolerance": 0.0}
    verifier = {"name_or_path": target.name, "architectures": list(target.model.config.architectures or [])}
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.8.0",
        "draft_vocab_size": draft_vocabulary,
        "target_hidden_size": None,
        "norm_before_residual": False,
        "norm_before_fc": False,
        "fc_norm": False,
        "norm_output": False,
        IDS: list(layers_of(target)),
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [method],
            "verifier": verifier,
        },
        "transformer_layer_config": layer,
        "tie_word_embeddings": False,
    }


def _rope(text: Any) -> dict[str, Any]:
    """The target's rotary settings where a head can have them, else its base alone."""
    said = dict(getattr(text, "rope_parameters", None) or {})
    if said and all(isinstance(v, Mapping) for v in said.values()):  # one a kind of layer
        said = dict(said.get("full_attention") or next(iter(said.values())))
    base = float(said.pop("rope_theta", None) or getattr(text, "rope_theta", None) or 10000.0)
    said.pop("partial_rotary_factor", None)
    scaled = said.get("rope_type", "default") in _ROPES[1:]
    return {"rope_theta": base, "rope_scaling": said if scaled else None}


def _tensors(target: Target, layer: Mapping[str, Any], vocabulary: Tensor, seed: int) -> dict[str, Tensor]:
    """See the module docstring. What the target's last layer does not have in a Llama's form begins at random."""
    generator = torch.Generator().manual_seed(seed)
    H, F, hd = layer["hidden_size"], layer["intermediate_size"], layer["head_dim"]
    own, shared = layer["num_attention_heads"] * hd, layer["num_key_value_heads"] * hd
    source = _last_layer(target.model)

    def taken(name: str, *shape: int) -> Tensor:
        found = _weight(source, name)
        if found is not None and tuple(found.shape) == shape:
            return found
        return torch.ones(shape) if len(shape) == 1 else _random(shape, generator)

    made = {"fc.weight": torch.cat([torch.zeros(H, 2 * H), torch.eye(H)], 1)}
    for name, rows in (("q_proj", own), ("k_proj", shared), ("v_proj", shared)):
        of_embedding = _random((rows, H), generator)
        made[f"layers.0.self_attn.{name}.weight"] = torch.cat([of_embedding, taken(f"self_attn.{name}", rows, H)], 1)
    made["layers.0.self_attn.o_proj.weight"] = taken("self_attn.o_proj", H, own)
    for name, shape in (("gate_proj", (F, H)), ("up_proj", (F, H)), ("down_proj", (H, F))):
        made[f"layers.0.mlp.{name}.weight"] = taken(f"mlp.{name}", *shape)
    made["layers.0.input_layernorm.weight"] = torch.ones(H)
    made["layers.0.hidden_norm.weight"] = taken("input_layernorm", H)
    made["layers.0.post_attention_layernorm.weight"] = taken("post_attention_layernorm", H)
    last = _weight(target.model.base_model, "norm") if source is not None else None
    made["norm.weight"] = torch.ones(H) if last is None or tuple(last.shape) != (H,) else last
    rows = _weight(target.model.get_output_embeddings(), "")
    if rows is None or tuple(rows.shape) != (target.vocab_size, H):
        raise UsageError(f"heads cannot be made for {target.name}: its output layer is no matrix of tokens by width")
    made[FROZEN] = rows[vocabulary]
    if len(vocabulary) < target.vocab_size:
        made["d2t"] = vocabulary - torch.arange(len(vocabulary))
    return {n: t.to(dtype=torch.promote_types(t.dtype, torch.float32)) for n, t in made.items() if n != "d2t"} | (
        {"d2t": made["d2t"]} if "d2t" in made else {}
    )


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return _SPREAD * torch.randn(shape, generator=generator)


def _last_layer(model: Any) -> Any:
    """The target's last layer; None where norms are of a kind that a head has not."""
    total = int(model.config.get_text_config().num_hidden_layers)
    found = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == total]
    gemma = "gemma" in str(model.config.get_text_config().model_type)  # its norms scale by 1 + weight
    return found[0][total - 1] if found and not gemma else None


def _weight(module: Any, name: str) -> Tensor | None:
    """A copy, on the CPU, of the weight of a submodule; None where there is none."""
    try:
        weight = (module.get_submodule(name) if name else module).weight
    except AttributeError:
        return None
    return weight.detach().cpu().clone() if isinstance(weight, Tensor) else None
