"""Tiny random models for the recorder's tests, and a small world to record: as a program, in processes to be killed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 13


def tiny_llama(seed: int = 0, *, dtype: torch.dtype = torch.float64, attention: str = "sdpa", **settings: Any):
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


def perturbed(model, amount: float, seed: int = 9):
    """A drafter that often agrees with ``model``."""
    other = tiny_llama(num_hidden_layers=model.config.num_hidden_layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for mine, its in zip(other.parameters(), model.parameters(), strict=True):
            mine.copy_(its + amount * torch.randn(its.shape, generator=generator, dtype=its.dtype))
    return other


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0} | {f"w{i}": i for i in range(1, VOCABULARY)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


class World:
    """A target, a pool of every kind of drafter and prompts: the same in every process.

    eos: token that ends a text; None: texts run to their budget.
    """

    def __init__(self, eos: int | None = None, arms: dict[int, tuple[int, ...]] | None = None, **sampling: Any) -> None:
        from metasd.core.pool import DrafterInfo, Pool
        from metasd.core.prompts import Prompt
        from metasd.drafters import LookupDrafter, TableDrafter
        from metasd.runtime.load import as_target
        from metasd.runtime.models import ModelDrafter, SkipDrafter
        from metasd.runtime.sampling import Sampling

        model = tiny_llama(num_hidden_layers=3, eos_token_id=eos)
        self.target = as_target(model, tiny_tokenizer(), "tiny")
        rule = Sampling(**sampling)
        near = DrafterInfo("near", "model", free=False, deterministic=False)
        self.drafters = [
            LookupDrafter(draft_length=4),
            TableDrafter(draft_length=4),
            ModelDrafter(near, perturbed(model, 0.05), vocab_size=VOCABULARY, sampling=rule),
            SkipDrafter(self.target, "1-1", sampling=rule),
        ]
        lengths = arms or {0: (2, 4), 1: (4,), 2: (4,), 3: (3,)}
        self.pool = Pool([d.info for d in self.drafters], [(d, n) for d, ns in lengths.items() for n in ns])
        words = [[(7 * p + 3 * i * i + i) % (VOCABULARY - 1) + 1 for i in range(4 + p % 3)] for p in range(9)]
        self.prompts = [
            Prompt(f"p{p}", ("a", "b")[p % 2], (" ".join(f"w{i}" for i in text),)) for p, text in enumerate(words)
        ]

    def record(self, out: Path, **settings: Any) -> dict[str, Any]:
        from metasd.record.run import record

        texts = [(p.id, p.domain, self.target.encode(p.text)) for p in self.prompts]
        return record(self.target, self.drafters, self.pool, texts, out, **{"max_new_tokens": 20} | settings)


@pytest.fixture
def tiny():
    """``tiny_llama``, as a fixture: test folders are not packages."""
    return tiny_llama


@pytest.fixture
def near():
    return perturbed


@pytest.fixture
def world():
    return World


def main() -> None:
    """For each line ``{"out", "delay"}`` on stdin: record in a child process, slowly, a shard a prompt.

    Says the child's id, then how it ended. Children are forked, since importing torch takes longer than recording.
    """
    from metasd.core import files
    from metasd.record import run as module

    module.FLUSH_SECONDS = 0.0
    commit = files.commit
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child:
            print(child, flush=True)  # noqa: T201
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201
            continue

        def slow_commit(made: Path, path: Path, delay: float = order["delay"]) -> None:
            time.sleep(delay)
            commit(made, path)
            time.sleep(delay)

        files.commit = slow_commit
        torch.set_num_threads(1)
        World().record(Path(order["out"]), resume=True)
        os._exit(0)


if __name__ == "__main__":
    main()
