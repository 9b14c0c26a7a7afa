"""Reading a checkpoint: its configuration, its weights, all of them and no others, and its tokenizer.

Every failure is one whole line that names the model and the mend.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from metasd.core.errors import UsageError
from metasd.runtime import weighing

NAMED = 3
"""Weights that a message names at most."""


def read(
    path: str,
    spec: str,
    *,
    dtype: torch.dtype | str,
    attention: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    sharded: bool = False,
) -> tuple[Any, Any]:
    """The model and the tokenizer in ``path``, a folder or a Hugging Face id; ``spec`` is what the user called it.

    dtype: "auto" for that of the checkpoint. sharded: over all processes, by the model's own plan; all call this alike.
    Raises UsageError for what is not there, is no causal language model, brings code of its own, has weights missing
    or left over, or no plan.
    """
    where: dict[str, Any] = {"trust_remote_code": False} | ({"revision": revision} if revision else {})
    _check_adapter(Path(path), spec)
    try:
        config = transformers.AutoConfig.from_pretrained(path, **where)
        _check_kind(config, spec)
        _check_settings(path, spec, where)
        named = {"attn_implementation": attention, "device_map": device_map}
        how: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
        how |= _plan(config, spec) if sharded else {}
        with weighing.told(Path(path), spec, str(dtype).removeprefix("torch.")):
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **where, **how
            )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **where)
    except UsageError:
        raise
    except Exception as error:  # the loaders raise many kinds
        raise UsageError(f"cannot load model {spec!r}: {reason(error)}") from error
    _check_weights(found, spec)
    return model, tokenizer


def reason(error: Exception) -> str:
    """The whole message of a loader's error on one line, with the mend where the loader's own would be none here."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        return f"its configuration says {said}, which transformers does not know"
    if isinstance(error, json.JSONDecodeError):
        return f"one of its JSON files is broken ({said}); get the checkpoint whole"
    if isinstance(error, FileNotFoundError):
        return f"{said}; get the checkpoint whole"
    if isinstance(error, SafetensorError):
        return f"{said}; a weight file is cut short, or the pointer that Git LFS left for it; get the checkpoint whole"
    if "trust_remote_code" in said:
        return "it comes with code of its own, which is not supported; use a model that transformers itself knows"
    return said


def _check_adapter(folder: Path, spec: str) -> None:
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UsageError(
            f"model {spec!r} is an adapter without the model it changes; merge it into that one (merge_and_unload of "
            "peft), save the result and give its folder"
        )


def _check_settings(path: str, spec: str, where: dict[str, Any]) -> None:
    """Raises UsageError for a generation_config.json that is there and cannot be read: the loader takes it for none."""
    try:
        transformers.GenerationConfig.from_pretrained(path, **where)
    except OSError as error:
        if "JSON" in str(error):
            said = "its generation_config.json is broken, so what it asks of decoding is unknown; mend or remove it"
            raise UsageError(f"cannot load model {spec!r}: {said}") from error


def _check_kind(config: Any, spec: str) -> None:
    name = type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"model {spec!r} ({name}) is an encoder with a decoder; use a decoder-only model")
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UsageError(f"model {spec!r} ({name}) is no causal language model; use one that continues text")


def _plan(config: Any, spec: str) -> dict[str, Any]:
    """What asks for the model's own tensor-parallel plan. Raises UsageError for a model without one."""
    if not getattr(config.get_text_config(decoder=True), "base_model_tp_plan", None):
        raise UsageError(
            f"model {spec!r} ({type(config).__name__}) has no plan for tensor parallelism in transformers; run it "
            "without --tensor-parallel, or spread its layers with --device-map auto"
        )
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(tp_size=torch.distributed.get_world_size())}


def _check_weights(found: dict[str, Any], spec: str) -> None:
    for key, what in (("missing_keys", "lacks"), ("mismatched_keys", "has in another shape")):
        if found.get(key):
            raise UsageError(f"model {spec!r} {what} {_named(found[key])}; get the checkpoint whole")
    if found.get("unexpected_keys"):
        raise UsageError(
            f"model {spec!r} has weights that its architecture does not use: {_named(found['unexpected_keys'])}; "
            "it is not the causal language model its configuration says"
        )


def _named(keys: Collection[Any]) -> str:
    names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
