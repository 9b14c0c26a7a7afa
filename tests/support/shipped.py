"""Tiny targets of two architectures that ship generation settings, and what ``generate`` says with them."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.drafters.base import Drafter
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling

BUDGET = 14
PROMPTS = [("one", [9]), ("a", [5, 9, 7, 5, 9])]
ARMS = ((0, 6), (1, 4), (2, 5), (3, 3), (-1, 0))

SETTINGS: dict[str, Any] = {
    "repetition_penalty": 1.4,
    "encoder_repetition_penalty": 2.5,
    "no_repeat_ngram_size": 2,
    "encoder_no_repeat_ngram_size": 1,
    "bad_words_ids": [[w] for w in range(2, 9)] + [[w, v] for w in range(9, 16) for v in range(9, 24)],
    "suppress_tokens": [3, 8, 11, 14, 16, 19, 20, 23],
    "begin_suppress_tokens": [*range(2, 13), *range(14, 23)],
    "forced_bos_token_id": 17,
    "forced_eos_token_id": 12,
    "min_length": 12,
    "min_new_tokens": 12,
    "sequence_bias": [[[w], 2.5] for w in (4, 6, 10)] + [[[w, 21], 4.0] for w in (4, 6, 10)],
    "exponential_decay_length_penalty": [3, 1.3],
    "remove_invalid_values": True,
    "renormalize_logits": True,
}
"""Each large enough to change the text of some prompt below, but for the last two, which never change a greedy one."""
TOGETHER = {
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
    "bad_words_ids": [[4], [9, 7]],
    "suppress_tokens": [3],
    "begin_suppress_tokens": [6, 8],
    "forced_bos_token_id": 17,
    "forced_eos_token_id": 5,
    "min_new_tokens": 7,
    "min_length": 40,
    "sequence_bias": [[[10], 1.5]],
    "exponential_decay_length_penalty": [9, 1.1],
    "renormalize_logits": True,
}


def llama(**settings: Any) -> Target:
    return _target(tiny.llama(7, 3, torch.float32), {"eos_token_id": [3, 1]} | settings)


def gpt2(**settings: Any) -> Target:
    torch.manual_seed(4)
    config = GPT2Config(
        vocab_size=tiny.VOCABULARY, n_embd=16, n_layer=3, n_head=2, n_positions=160, initializer_range=0.5,
        bos_token_id=None, eos_token_id=tiny.EOS, pad_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    return _target(model, {"eos_token_id": [22, 16]} | settings)


def _target(model: Any, settings: dict[str, Any]) -> Target:
    model.generation_config.update(**({"pad_token_id": 0} | settings))
    return as_target(model, tiny.tokenizer(), "tiny")


def build(target: Target, sampling: Sampling | None = None) -> tuple[list[Drafter], Pool]:
    """One drafter of each kind; the model is the target itself without its settings, so that it is often right."""
    sampling = sampling or Sampling()
    drafters: list[Drafter] = [
        LookupDrafter(draft_length=6),
        TableDrafter(draft_length=4),
        ModelDrafter(
            DrafterInfo("own", "model", free=False, deterministic=False),
            target.model,
            vocab_size=target.vocab_size,
            sampling=sampling,
        ),
        SkipDrafter(target, "1-1", sampling=sampling),
    ]
    return drafters, Pool([d.info for d in drafters], ARMS)


def generated(target: Target, prompt: list[int], budget: int = BUDGET, **more: Any) -> list[int]:
    """What transformers itself decodes, greedily, with what the target ships."""
    ids = torch.tensor([prompt])
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": budget, "do_sample": False} | more
    return target.model.generate(ids, **given)[0, len(prompt) :].tolist()
