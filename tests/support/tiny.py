"""Tiny random language models, made without any hub: a target, a drafter near it, a tokenizer, a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 24
EOS = 1
LETTERS = 98


def tokenizer(words: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """One token a word: ``w2``, ``w3``, ..."""
    vocabulary = {"<unk>": 0, "<eos>": EOS} | {f"w{i}": i for i in range(2, words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")


def llama(seed: int = 2, layers: int = 4, dtype: torch.dtype = torch.float64, **settings: Any) -> LlamaForCausalLM:
    """A random Llama with weights large enough that its texts do not loop at once."""
    config = LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 160,
            "initializer_range": 0.3,
            "eos_token_id": EOS,
            "bos_token_id": None,
            "pad_token_id": 0,
        }
        | settings
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)


def near(model: LlamaForCausalLM, noise: float = 0.08, seed: int = 5) -> LlamaForCausalLM:
    """A model that agrees with ``model`` often, not always."""
    sizes = {name: getattr(model.config, name) for name in ("vocab_size", "max_position_embeddings")}
    twin = llama(seed, model.config.num_hidden_layers, model.dtype, **sizes)
    torch.manual_seed(seed)
    with torch.no_grad():
        for mine, its in zip(twin.parameters(), model.parameters(), strict=True):
            mine.copy_(its + noise * its.std() * torch.randn_like(its))
    return twin


def save(model: LlamaForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> Path:
    """A folder that ``--target`` can name."""
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def letters(template: str | None = None, appends_end: bool = False) -> PreTrainedTokenizerFast:
    """One token a printable character, LETTERS with the two special ones; ``appends_end``: after every raw text."""
    alphabet = ["Ġ", "Ċ", *map(chr, range(33, 127))]  # space and line break as byte-level tokenizers write them
    known = {"<unk>": 0, "<eos>": EOS} | {c: i + 2 for i, c in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(known, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if appends_end:
        inner.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", EOS)])
    made = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    made.chat_template = template
    return made
