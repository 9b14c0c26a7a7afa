"""What every part is told, and the targets and prompts it measures with.

A random target needs neither a download nor a package: it has weights drawn from a seed and reads characters. Its
texts mean nothing, so parity and seconds can be read off it, acceptance and speed-ups cannot.
"""

from __future__ import annotations

import gc
import math
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.prompts import Prompt, bundled, load_prompts
from metasd.drafters.base import Drafter
from metasd.runtime.conversation import EncodedPrompt, encode_all
from metasd.runtime.load import DTYPES, Target, as_target, load_target
from metasd.runtime.registry import build_drafters, default_pool

from .plan import RANDOM, Setting

Shape = dict[str, int]


@dataclass(frozen=True, slots=True)
class Random:
    """A model with random weights. spread: their deviation; a wide one keeps greedy texts from looping at once."""

    name: str
    shape: Shape
    spread: float = 0.02


def _shape(vocabulary: int, hidden: int, inner: int, layers: int, heads: int, groups: int) -> Shape:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
    }


TINY = Random("random, tiny", _shape(128, 32, 64, 3, 4, 2), spread=0.3)
SMALL = Random("random, shape of SmolLM2-135M", _shape(49152, 576, 1536, 30, 9, 3))
LARGE = Random("random, shape of Llama-3-8B", _shape(128256, 4096, 14336, 32, 32, 8))
CONTEXT = 8192
"""Positions of a random model."""


def open_target(setting: Setting, dtype: str) -> Target:
    """The target that was asked for, in ``dtype`` on the device. Raises UsageError when it cannot be loaded."""
    if setting.target == RANDOM:
        return random_target(TINY if setting.quick else SMALL, setting.device, dtype)
    return load_target(setting.target, device=setting.device, dtype=dtype)


def random_target(kind: Random, device: str, dtype: str, seed: int = 0) -> Target:
    """A random model built on its device. Raises UsageError when the device has too little free memory for it."""
    config = LlamaConfig(
        **kind.shape,
        max_position_embeddings=CONTEXT,
        initializer_range=kind.spread,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    where = torch.device(device)
    _check_room(config, where, DTYPES[dtype], kind.name)
    torch.manual_seed(seed)  # seeds the generators of all devices
    with where:
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    return as_target(model.to(where), characters(), kind.name, f"seed {seed}")


def _check_room(config: Any, where: torch.device, dtype: torch.dtype, name: str) -> None:
    if where.type != "cuda":
        return
    with torch.device("meta"):
        weights = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters()) * dtype.itemsize
    free, _ = torch.cuda.mem_get_info(where)
    if free < 1.1 * weights:
        raise UsageError(f"{name} needs {weights / 1e9:.1f} GB, but {free / 1e9:.1f} GB of {where} are free")


def characters() -> PreTrainedTokenizerFast:
    """One token a printable character."""
    vocabulary = {"<unk>": 0} | {c: i for i, c in enumerate(string.printable, start=1)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def prompts_of(count: int) -> list[Prompt]:
    """``count`` of the demo's prompts, one of each domain first."""
    by_domain: dict[str, list[Any]] = {}
    for prompt in load_prompts(bundled("demo")):
        by_domain.setdefault(prompt.domain, []).append(prompt)
    turns: list[Prompt] = [prompt for group in zip(*by_domain.values(), strict=True) for prompt in group]
    return turns[:count]


def texts_of(target: Target, count: int, tokens: int) -> list[EncodedPrompt]:
    """``prompts_of`` as tokens of the target."""
    return encode_all(target, prompts_of(count), raw=False, max_new_tokens=tokens)


def builder(target: Target, draft_length: int, *, skip: bool) -> Callable[..., tuple[list[Drafter], Pool]]:
    """Makes fresh drafters of the default pool, with ``skip`` also the target without a fifth of its layers.

    The one it returns takes a draft length to cut the pool to.
    """
    layers = max(int(target.model.config.get_text_config().num_hidden_layers) // 5, 1)
    wanted = [*default_pool(smollm2=target.smollm2), *([f"skip:layers={layers}"] if skip else [])]

    def build(cut: int | None = None) -> tuple[list[Drafter], Pool]:
        drafters, pool = build_drafters(wanted, target, draft_length=draft_length)
        return drafters, pool if cut is None else pool.cut(cut)

    return build


def generate(target: Target, prompt: list[int], tokens: int) -> list[int]:
    """What transformers' own ``generate`` answers, greedily; on CUDA it has finished when this returns."""
    ids = torch.tensor([prompt], device=target.device)
    mask = torch.ones_like(ids)
    out = target.model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False)
    return [int(token) for token in out[0, len(prompt) :].tolist()]


def synchronize(device: torch.device) -> None:
    """Return when the device has finished what was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory(device: str, into: dict[str, Any]) -> Iterator[None]:
    """Fills ``into`` with the most bytes held inside: of the device, on the CPU of the process since it began."""
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.init()  # a new process has no counters to reset
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(where)
    try:
        yield
    finally:
        if where.type == "cuda":
            into["allocated_bytes"] = torch.cuda.max_memory_allocated(where)
            into["reserved_bytes"] = torch.cuda.max_memory_reserved(where)
        else:
            import resource

            into["process_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finite(value: float) -> float | None:
    """``value``, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None
