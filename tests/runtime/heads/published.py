"""Heads as others publish them, small and with random weights, and their forward in plain functions of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

EAGLE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
SPECFORGE = {**EAGLE, "architectures": ["LlamaForCausalLMEagle3"], **SHAPE, "vocab_size": 64, "draft_vocab_size": 40}
YARN = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "rope_type": "yarn",
    "truncate": False,
}


def speculators(layer: Mapping[str, Any], **top: Any) -> dict[str, Any]:
    inner = {"model_type": "llama", "num_hidden_layers": 1, **SHAPE, "vocab_size": 64, "rms_norm_eps": 1e-6, **layer}
    made = {"architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3", "draft_vocab_size": 40}
    return {**made, "transformer_layer_config": inner, **top}


def nested(*ids: int, **more: Any) -> dict[str, Any]:
    return {"eagle_config": {"eagle_aux_hidden_state_layer_ids": list(ids), **more}}


IDS = "eagle_aux_hidden_state_layer_ids"
FIXTURES: dict[str, dict[str, Any]] = {  # the public configurations, their sizes made small and their quirks kept
    "eagle3": {
        **SPECFORGE,
        "architectures": ["LlamaForCausalLM"],
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
    },
    "qwen3-4b": {**SPECFORGE, "head_dim": 8, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000},
    "gpt-oss-20b": {**SPECFORGE, "num_attention_heads": 8, "head_dim": 4, **nested(1, 3, 4)},
    "deepseek-v3": {**SPECFORGE, "num_attention_heads": 8, **nested(1, 3, 4, use_aux_hidden_state=True)},
    "qwen3-30b-3.1": {**SPECFORGE, "head_dim": 8, "fc_norm": True, "norm_output": True},
    "qwen2.5-0.5b": {**SPECFORGE, "draft_vocab_size": 16, "sliding_window": 3, "use_sliding_window": False},
    "speculators-qwen3-8b": speculators({"head_dim": 4, "rope_theta": 1000000}, norm_before_residual=True),
    "speculators-gpt-oss": speculators({"head_dim": 4}, norm_before_fc=True, architectures=["Eagle3DraftModel"]),
    "speculators-0.8": speculators(
        {"layer_types": ["sliding_attention"], "sliding_window": 5, "rope_parameters": {"rope_type": "default"}},
        norm_before_residual=True,
        norm_before_fc=True,
        norm_output=True,
        **{IDS: [1, 3, 4, 6]},
    ),
    "nebius": {**SPECFORGE, "architectures": ["LlamaForCausalLM"], "rope_theta": 150000, "rope_scaling": YARN},
    "eagle1": {**EAGLE, **SHAPE, "num_key_value_heads": None, "rms_norm_eps": 1e-6, "vocab_size": 64},
    "one-state": {**SPECFORGE, "eagle_config": {"use_aux_hidden_state": False}},
    "linear": {**SPECFORGE, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "same-vocabulary": {**SPECFORGE, "draft_vocab_size": 64},
    "wide-target": {**SPECFORGE, "hidden_size": 32, "target_hidden_size": 16},
    "speculators-qwen3-two": speculators({"model_type": "qwen3", "num_hidden_layers": 2, "head_dim": 8}),
}


def facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration means, worked out here on its own."""
    spec = "transformer_layer_config" in config
    c = config["transformer_layer_config"] if spec else config
    inner = config.get("eagle_config") or {}
    one = "draft_vocab_size" not in config
    ids = config.get(IDS) or inner.get(IDS)
    heads = c["num_attention_heads"]
    final = one or inner.get("use_aux_hidden_state") is False
    return {
        "one": one,
        "final": final,
        "A": 1 if final else len(ids or (0, 0, 0)),
        "H": c["hidden_size"],
        "Ht": config.get("target_hidden_size") or c["hidden_size"],
        "F": c["intermediate_size"],
        "heads": heads,
        "kv": c.get("num_key_value_heads") or heads,
        "hd": c.get("head_dim") or c["hidden_size"] // heads,
        "V": c["vocab_size"],
        "Vd": config.get("draft_vocab_size") or c["vocab_size"],
        "eps": c.get("rms_norm_eps", 1e-6),
        "theta": c.get("rope_theta", 10000.0),
        "scaling": c.get("rope_scaling") or {},
        "window": c.get("sliding_window") if "layer_types" in c else None,
        "L": c["num_hidden_layers"],
        "qk": c.get("model_type") == "qwen3",
        "nbr": config.get("norm_before_residual", spec),
        "out": config.get("norm_output", False),
        "fcn": config.get("fc_norm", False),
        "nbf": config.get("norm_before_fc", False),
    }


def weights(config: Mapping[str, Any], seed: int = 0, embed: bool = False, fc_bias: bool = False) -> dict[str, Tensor]:
    """Random tensors under the names of the format that ``config`` is written in."""
    g, f = torch.Generator().manual_seed(seed), facts(config)
    made: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        scale = 0.5 if len(shape) > 1 else 0.2
        made[name] = scale * torch.randn(*shape, generator=g) + (len(shape) == 1)

    H, own, shared = f["H"], f["heads"] * f["hd"], f["kv"] * f["hd"]
    for i in range(f["L"]):
        at = "midlayer." if i == 0 and "speculators_model_type" not in config and not f["one"] else f"layers.{i}."
        wide = i == 0 and not f["one"]
        for name, rows in (("q", own), ("k", shared), ("v", shared)):
            add(f"{at}self_attn.{name}_proj.weight", rows, 2 * H if wide else H)
        add(f"{at}self_attn.o_proj.weight", H, own)
        for name, shape in (("gate", (f["F"], H)), ("up", (f["F"], H)), ("down", (H, f["F"]))):
            add(f"{at}mlp.{name}_proj.weight", *shape)
        norms = ["post_attention_layernorm"] + ["input_layernorm"] * (wide or i > 0) + ["hidden_norm"] * wide
        for name in norms:
            add(f"{at}{name}.weight", H)
        for name in ["q_norm", "k_norm"] * f["qk"]:
            add(f"{at}self_attn.{name}.weight", f["hd"])
    if f["one"]:
        add("fc.weight", H, 2 * H)
    elif not f["final"]:
        add("fc.weight", H, f["A"] * f["Ht"])
    if fc_bias:
        add("fc.bias", H)
    if not f["one"]:
        add("norm.weight", H)
        add("lm_head.weight", f["Vd"], H)
    if f["nbf"]:
        add("input_norm.weight", f["A"] * f["Ht"])
    for i in range(f["A"] * f["fcn"]):
        add(f"fc_norm.{i}.weight", f["Ht"])
    if embed or f["H"] != f["Ht"]:
        add("embed_tokens.weight", f["V"], H)
    if f["Vd"] != f["V"]:
        chosen = torch.randperm(f["V"], generator=g)[: f["Vd"]].sort().values
        made["d2t"] = chosen - torch.arange(f["Vd"])
        made["t2d"] = torch.zeros(f["V"], dtype=torch.bool).index_fill(0, chosen, True)
    return made


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], pickled: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if pickled:
        torch.save(dict(tensors), folder / "pytorch_model.bin")
    else:
        save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "model.safetensors")
    return folder


# -- the forward again, one entry at a time over lists of all entries -------------------------------------------------


def rms(x: Tensor, w: Tensor, eps: float) -> Tensor:
    return w * x / (x.pow(2).mean() + eps).sqrt()


def frequencies(f: Mapping[str, Any]) -> tuple[list[float], float]:
    hd, theta, s = f["hd"], f["theta"], f["scaling"]
    plain = [theta ** (-2 * i / hd) for i in range(hd // 2)]
    kind = s.get("rope_type", s.get("type"))
    if kind == "linear":
        return [v / s["factor"] for v in plain], 1.0
    if kind != "yarn":
        return plain, 1.0

    def edge(turns: float) -> float:
        return hd * math.log(s["original_max_position_embeddings"] / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(edge(s["beta_fast"]), 0), min(edge(s["beta_slow"]), hd - 1)
    keep = [1 - min(max((i - low) / (high - low), 0), 1) for i in range(hd // 2)]
    mixed = [v / s["factor"] * (1 - k) + v * k for v, k in zip(plain, keep, strict=True)]
    return mixed, 0.1 * math.log(s["factor"]) + 1


def turned(x: Tensor, at: int, f: Mapping[str, Any]) -> Tensor:
    """One head [hd] at a position, pair by pair."""
    found, scale = frequencies(f)
    half, out = f["hd"] // 2, x.clone()
    for i, w in enumerate(found):
        c, s = math.cos(at * w) * scale, math.sin(at * w) * scale
        out[i], out[i + half] = x[i] * c - x[i + half] * s, x[i + half] * c + x[i] * s
    return out


def drafted(
    config: Mapping[str, Any],
    w: Mapping[str, Tensor],
    text: list[int],
    states: Tensor,
    m: int,
    embed: Any,
    unembed: Any,
) -> tuple[list[int], Tensor]:
    """The greedy draft of ``m`` behind ``text`` and its logits [m, Vd]; ``states`` [n, A * Ht] are the target's."""
    f = facts(config)
    w = {n.replace("midlayer.", "layers.0."): t.double() if t.is_floating_point() else t for n, t in w.items()}
    kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(f["L"])]
    feature, logits, tokens, rows = None, None, list[int](), list[Tensor]()
    for i in range(len(text) - 1 + m):
        if i >= len(text) - 1:
            assert logits is not None
            rows.append(logits)
            d = int(logits.argmax())
            tokens.append(d + int(w["d2t"][d]) if "d2t" in w else d)
        x = text[i + 1] if i + 1 < len(text) else tokens[i + 1 - len(text)]
        true = states[i].double() if i < len(text) - 1 else None
        logits, feature = entry(f, w, kept, i, x, true, feature, embed, unembed)
    return tokens, torch.stack(rows)


def entry(
    f: Any, w: Any, kept: Any, at: int, token: int, true: Tensor | None, own: Tensor | None, embed: Any, unembed: Any
) -> tuple[Tensor, Tensor]:
    e = (w["embed_tokens.weight"] if "embed_tokens.weight" in w else embed.double())[token]
    x: Any = own if true is None else true
    if not f["one"] and not f["final"] and true is not None:
        if f["nbf"]:
            x = rms(x, w["input_norm.weight"], f["eps"])
        if f["fcn"]:
            parts = x.view(f["A"], -1)
            x = torch.cat([rms(p, w[f"fc_norm.{i}.weight"], f["eps"]) for i, p in enumerate(parts)])
        x = w["fc.weight"] @ x + w.get("fc.bias", 0)
    if f["one"]:
        x = w["fc.weight"] @ torch.cat([e, x]) + w.get("fc.bias", 0)
    for i in range(f["L"]):
        at_layer = f"layers.{i}."
        if i == 0 and not f["one"]:
            n = rms(x, w[at_layer + "hidden_norm.weight"], f["eps"])
            read = torch.cat([rms(e, w[at_layer + "input_layernorm.weight"], f["eps"]), n])
            x = n if f["nbr"] else x
        else:
            read = x if i == 0 else rms(x, w[at_layer + "input_layernorm.weight"], f["eps"])
        x = x + attended(f, w, at_layer + "self_attn.", kept[i], at, read)
        y = rms(x, w[at_layer + "post_attention_layernorm.weight"], f["eps"])
        gate = w[at_layer + "mlp.gate_proj.weight"] @ y
        up = w[at_layer + "mlp.up_proj.weight"] @ y
        x = x + w[at_layer + "mlp.down_proj.weight"] @ (gate / (1 + (-gate).exp()) * up)
    z = x if f["one"] else rms(x, w["norm.weight"], f["eps"])
    head = w["lm_head.weight"] if "lm_head.weight" in w else unembed.double()
    return head @ z, z if f["out"] else x


def attended(f: Any, w: Any, name: str, kept: Any, at: int, read: Tensor) -> Tensor:
    hd, group = f["hd"], f["heads"] // f["kv"]
    q, k, v = ((w[f"{name}{n}_proj.weight"] @ read).view(-1, hd) for n in "qkv")
    if f["qk"]:
        q = torch.stack([rms(h, w[name + "q_norm.weight"], f["eps"]) for h in q])
        k = torch.stack([rms(h, w[name + "k_norm.weight"], f["eps"]) for h in k])
    kept.append((torch.stack([turned(h, at, f) for h in k]), v))
    seen = kept if f["window"] is None else kept[-f["window"] :]
    out = []
    for h in range(f["heads"]):
        query = turned(q[h], at, f)
        weight = torch.stack([key[h // group] @ query / math.sqrt(hd) for key, _ in seen]).softmax(0)
        out.append(sum(a * value[h // group] for a, (_, value) in zip(weight, seen, strict=True)))
    return w[name + "o_proj.weight"] @ torch.cat(out)
