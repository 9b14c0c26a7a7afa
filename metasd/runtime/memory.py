"""How much memory models will take, before any weight is read: from configurations and the headers of checkpoints.

A model is made on PyTorch's ``meta`` device, where tensors have sizes and no contents, and so are the caches of a text.
What Python, PyTorch, the tokenizer and n-gram tables take is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from metasd.core.errors import UsageError
from metasd.runtime import weights
from metasd.runtime.engine import paths
from metasd.runtime.engine.support import croppable_cache
from metasd.runtime.load import check_device, check_dtype
from metasd.runtime.locate import locate
from metasd.runtime.weighing import Weight, weigh

_NAMES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""What the headers of safetensors files call dtypes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one thing: ``of`` a model, its ``what`` (weights, packed weights, cache, passes)."""

    of: str
    what: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Sized:
    """A model without contents: where its checkpoint lies, and what its weights will be."""

    name: str
    model: Any
    dtype: torch.dtype
    weight: Weight | None
    mapped: bool
    """Whether its weights stay in the mapped checkpoint: on a CPU, in the dtype of the file."""

    @property
    def packed(self) -> bool:
        """Whether a model like this is packed where ``--engine auto`` decides."""
        return self.dtype == torch.float32 and paths.ONEDNN.is_available() and self.linear >= paths.LARGE

    @property
    def linear(self) -> int:
        """Numbers in the weights of linear layers; one that is shared with the embeddings counts."""
        return sum(m.weight.numel() for m in self.model.modules() if type(m) is nn.Linear)

    @property
    def bytes(self) -> int:
        """Of all weights, shared ones once."""
        size = sum(p.numel() for p in self.model.parameters())
        return size * self.dtype.itemsize


def sized(spec: str, *, device: str, dtype: str, revision: str | None = None) -> Sized:
    """The model called ``spec``, as ``load_target`` would load it. Raises UsageError for one that is not there."""
    where, kind = check_device(device), check_dtype(dtype)
    if kind is None and where.type == "cpu":
        kind = torch.float32
    path, name, _ = locate(spec, kind, revision)
    try:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False, revision=revision)
        kind = kind or getattr(config, "dtype", None) or torch.float32
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
    except Exception as error:  # the loaders raise many kinds
        raise UsageError(f"cannot size model {spec!r}: {weights.reason(error)}") from error
    weight = weigh(Path(path))
    same = weight is None or _NAMES.get(weight.dtype) == kind
    return Sized(name, model.eval(), kind, weight, where.type == "cpu" and same)


def cache_bytes(model: Any, prompt: int, total: int) -> int:
    """Of the keys and values of a text: ``prompt`` tokens read at once, then one after the other up to ``total``."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    held = 0
    for layer in croppable_cache(model).layers:
        for tokens in [max(prompt, 1), *[1] * max(total - prompt, 0)]:
            keys, _ = layer.update(*(torch.empty(1, heads, tokens, width, dtype=model.dtype, device="meta"),) * 2)
        held += 2 * keys.untyped_storage().nbytes()
    return held


def pass_bytes(model: Any, tokens: int, rows: int) -> int:
    """About what a pass of ``tokens`` holds at once: two states, the widest layer's three, ``rows`` of logits twice."""
    config = model.config.get_text_config(decoder=True)
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return model.dtype.itemsize * (tokens * (2 * config.hidden_size + 3 * inner) + 2 * rows * config.vocab_size)


def parts_of(
    made: Sized, *, engine: str, prompt: int, total: int, rows: int, texts: int = 1, shared: bool = False
) -> list[Part]:
    """What a model takes for ``texts`` caches of ``total`` tokens each; ``shared``: its weights are another's.

    Packed weights lie beside the mapped checkpoint, whose pages the system may take back. Where the checkpoint is of
    another dtype it is converted, and packing then moves all weights but a head that is shared with the embeddings.
    """
    paths.check_path(engine)
    found = [] if shared else [Part(made.name, "weights", made.bytes)]
    if not shared and (engine == paths.PACKED or (engine == paths.AUTO and made.packed)):
        more = made.linear * made.dtype.itemsize
        found.append(Part(made.name, "packed weights", more if made.mapped else _twice(made.model)))
    found.append(Part(made.name, "cache", texts * cache_bytes(made.model, prompt, total)))
    return [*found, Part(made.name, "passes", pass_bytes(made.model, max(prompt, 1), rows))]


def _twice(model: Any) -> int:
    """Bytes of linear weights that the embeddings hold as well."""
    rows = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    both = [m.weight for m in model.modules() if type(m) is nn.Linear and id(m.weight) in rows]
    return sum(w.numel() * w.element_size() for w in both)


def head_part(spec: str) -> Part:
    """The weights of a trained head in a folder. Raises UsageError where its checkpoint has no headers to read."""
    weight = weigh(Path(spec).expanduser())
    if weight is None:
        raise UsageError(f"the memory of head {spec!r} is only known for a folder with model.safetensors; load it")
    return Part(Path(spec).name, "weights", weight.bytes)


def report(parts: Sequence[Part], **about: Any) -> Mapping[str, Any]:
    """For a document: all parts and their sum."""
    return {"bytes": sum(p.bytes for p in parts), "parts": [asdict(p) for p in parts], **about}
