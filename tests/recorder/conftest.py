"""Tiny random models for the recorder's tests."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 13


def tiny_llama(seed: int = 0, *, dtype: torch.dtype = torch.float64, attention: str = "sdpa", **settings):
    """A random Llama whose logits vary enough to have no ties."""
    config = LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.6,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        | settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.set_attn_implementation(attention)
    return model.to(dtype).eval().requires_grad_(False)


@pytest.fixture
def tiny():
    """``tiny_llama``, as a fixture: test folders are not packages."""
    return tiny_llama
