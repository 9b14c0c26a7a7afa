"""Tiny random models without any hub: what the runtime is tested on."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from metasd.runtime.load import Target, as_target

VOCAB = 64
EOS = 1


def tiny_tokenizer(words: int = VOCAB) -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<eos>": EOS} | {f"w{i}": i for i in range(2, words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")


def tiny_model(
    seed: int, layers: int = 2, vocab: int = VOCAB, dtype: torch.dtype = torch.float64, spread: float = 0.3
) -> LlamaForCausalLM:
    """A random Llama; ``spread`` is the deviation of its weights: large enough that texts are not one loop."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=spread,
        eos_token_id=EOS,
        bos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).to(dtype).eval()


def perturbed(model: LlamaForCausalLM, seed: int, noise: float) -> LlamaForCausalLM:
    """A model near ``model``: one that agrees with it often, not always."""
    twin = tiny_model(seed, model.config.num_hidden_layers, model.config.vocab_size, model.dtype)
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(noise * parameter.std() * torch.randn_like(parameter))
    return twin


@pytest.fixture(scope="session")
def tiny_target() -> Target:
    return as_target(tiny_model(2, layers=4), tiny_tokenizer(), "tiny")


@pytest.fixture(scope="session")
def tiny_drafter(tiny_target: Target) -> LlamaForCausalLM:
    return perturbed(tiny_target.model, 5, 0.05)


@pytest.fixture(scope="session")
def target(tiny_target: Target) -> Target:
    """The tiny target, ending at tokens it likes, so that texts end inside drafts."""
    return dataclasses.replace(tiny_target, eos_ids=frozenset({34, 61}))
