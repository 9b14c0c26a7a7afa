"""What looks like a head and is none that can be run here: each refused by its name, before anything else is read."""

from __future__ import annotations

from typing import Any

from metasd.core.errors import UsageError
from metasd.runtime.heads.files import Checkpoint

_KINDS = (
    (("peagle", "p_eagle", "parallel_draft"), "a parallel-draft head (P-EAGLE)"),
    (("dflash", "dspark"), "a block-diffusion head (DFlash)"),
    (("medusa",), "a Medusa head"),
    (("deepseek", "_mla", "mlafor"), "a head with latent attention (MLA)"),
)
_TENSORS = (
    ("kv_a_proj", "a head with latent attention (MLA)"),
    ("mask_hidden", "a parallel-draft head (P-EAGLE)"),
    ("medusa", "a Medusa head"),
)
_QUANTISED = ("quantization_config", "compression_config")
_PACKED = ("_scale", "_packed", "_zero_point", "qweight", "qzeros", "_shape", "weight_scale_inv")
_USE = "use an EAGLE-1, EAGLE-2 or EAGLE-3 head"


def check_kind(checkpoint: Checkpoint) -> None:
    """Raises UsageError, naming what it is, for a checkpoint that is no EAGLE head or is quantised."""
    config, spec = checkpoint.config, checkpoint.spec
    layer = config.get("transformer_layer_config")
    inner: dict[str, Any] = layer if isinstance(layer, dict) else {}
    for key in _QUANTISED:
        if config.get(key) or inner.get(key):
            raise UsageError(
                f"head {spec!r} is quantised ({key}), which is not supported; use the head in full precision"
            )
    for name, tensor in checkpoint.tensors.items():
        number = name not in ("d2t", "t2d")
        if name.endswith(_PACKED) or (number and (not tensor.is_floating_point() or tensor.element_size() < 2)):
            raise UsageError(
                f"head {spec!r} is quantised ({name}), which is not supported; use the head in full precision"
            )
    _check_names(checkpoint, inner)


def _check_names(checkpoint: Checkpoint, inner: dict[str, Any]) -> None:
    config, spec = checkpoint.config, checkpoint.spec
    kind = config.get("speculators_model_type")
    named = [kind, config.get("model_type"), inner.get("model_type"), *(config.get("architectures") or [])]
    said = " ".join(str(n) for n in named).lower()
    for marks, what in _KINDS:
        if any(mark in said for mark in marks) or (marks[-1] == "parallel_draft" and config.get("parallel_drafting")):
            raise UsageError(f"head {spec!r} is {what}, which is not supported; {_USE}")
    for part, what in _TENSORS:
        if any(part in name for name in checkpoint.tensors):
            raise UsageError(f"head {spec!r} is {what}, which is not supported; {_USE}")
    if "kv_lora_rank" in config or "kv_lora_rank" in inner:
        raise UsageError(f"head {spec!r} is {_KINDS[-1][1]}, which is not supported; {_USE}")
    if kind is not None and kind != "eagle3":
        raise UsageError(f"head {spec!r} is of speculators type {kind!r}, which is not supported; {_USE}")
