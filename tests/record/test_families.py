"""Model families: windows, chunks and sinks, as target and drafter, live, recorded and replayed, on tiny random models.

Texts of 120 tokens run far beyond windows of 16 and the 32 positions that scaled rotary factors were made for, so a
mask, a cache or a packed pass that goes by the wrong positions shows. Two layers suffice: one with a window and one
without.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import tiny
import torch
import transformers

from metasd.core.costs import CostModel
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.pool import DrafterInfo, Pool
from metasd.distill.answers import batch_answers
from metasd.drafters import LookupDrafter
from metasd.policies import make
from metasd.record import run as module
from metasd.record.reader import PackedReader, Reader, StepReader, can_pack
from metasd.runtime.load import Target, as_target
from metasd.runtime.models import ModelDrafter
from metasd.runtime.session import LiveSession
from metasd.sim.replay.fidelity import check
from metasd.traces import open_trace

WINDOW, LENGTH, VOCABULARY = 16, 120, 24
PROMPT = [int(t) for t in np.random.default_rng(3).integers(2, VOCABULARY, 12)] * 2
BUDGET, BATCHED = LENGTH - len(PROMPT), 20
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
CHUNKED = {"interleave_moe_layer_step": 2, "layer_types": ["chunked_attention", "full_attention"]}
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
SCALED = {"factor": 4.0, "rope_theta": 100.0, "original_max_position_embeddings": 32}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Llama, linear": {"rope_parameters": {"rope_type": "linear"} | SCALED},
    "Llama, llama3": {"rope_parameters": LLAMA3 | SCALED},
    "Qwen3, yarn": {"rope_parameters": {"rope_type": "yarn"} | SCALED, "head_dim": 8},
    "Mistral": {"sliding_window": WINDOW},
    "Phi3": {"sliding_window": WINDOW},
    "Qwen2": {"sliding_window": WINDOW, "use_sliding_window": True} | MIXED,
    "Gemma2": {"sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8} | MIXED,
    "Gemma3Text": {"sliding_window": WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8} | MIXED,
    "GptOss": {"sliding_window": WINDOW, "head_dim": 8} | MOE | MIXED,
    "Cohere2": {"sliding_window": WINDOW} | MIXED,
    "Olmo3": {"sliding_window": WINDOW} | MIXED,
    "Exaone4": {"sliding_window": WINDOW, "sliding_window_pattern": 2} | MIXED,
    "Llama4Text": {"attention_chunk_size": WINDOW, "head_dim": 8, "intermediate_size_mlp": 32} | MOE | CHUNKED,
    "GPTNeo": {"window_size": WINDOW, "attention_types": [[["global", "local"], 1]]},
}
UNPACKED = {"GPTNeo"}
"""Their windows go by places in the cache, so they are read step by step."""


def made(family: str, wide: bool, seed: int = 7) -> Any:
    """A random model, float32, weights large enough that its text does not loop at once."""
    size = 32 if wide else 16
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": size, "intermediate_size": 2 * size, "num_hidden_layers": 2,
        "num_attention_heads": 4 if wide else 2, "num_key_value_heads": 2, "max_position_embeddings": 128,
        "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
        "tie_word_embeddings": False,
    }  # fmt: skip
    family, _, _ = (given := family).partition(",")
    if family == "GPTNeo":
        shape["num_layers"], shape["num_heads"] = shape.pop("num_hidden_layers"), shape.pop("num_attention_heads")
        del shape["num_key_value_heads"]
    config = getattr(transformers, f"{family}Config", None)
    if config is None:
        pytest.skip(f"this transformers has no {family}")
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config(**shape | FAMILIES[given]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model.float().eval().requires_grad_(False)


def near(model: Any) -> Any:
    twin = type(model)(model.config)
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(8)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.05 * parameter.std(correction=0) * torch.randn_like(parameter))
    return twin.float().eval().requires_grad_(False)


def pool_for(target: Target, drafter: Any) -> tuple[list[Any], Pool]:
    info = DrafterInfo("near", "model", free=False, deterministic=False)
    drafters = [LookupDrafter(draft_length=3), ModelDrafter(info, drafter, vocab_size=VOCABULARY)]
    return drafters, Pool([d.info for d in drafters], [(0, 3), (1, 3), (-1, 0)])


def costs(target: Target, drafters: Any, pool: Pool, text: Any) -> CostModel:
    """A clock that nobody measured."""
    one = np.ones(len(drafters))
    return CostModel(
        tuple(d.info.name for d in drafters),
        widths=np.array([1.0, 4.0]),
        verify_seconds=np.array([1.0, 2.0]),
        draft_fixed=one,
        draft_per_token=one,
        catch_up_fixed=one,
        catch_up_per_token=one,
        context=10.0,
    )


def lively(family: str, wide: bool, budget: int = BUDGET) -> tuple[Target, list[int]]:
    """A target whose greedy text, by transformers itself, is no loop of one token; and that text."""
    ids = torch.tensor([PROMPT])
    for seed in range(7, 30):
        target = as_target(made(family, wide, seed), tiny.tokenizer(VOCABULARY), family)
        out = target.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=budget, do_sample=False, pad_token_id=0
        )
        text = out[0, len(PROMPT) :].tolist()
        if len(set(text[-4 * WINDOW :])) > 3:
            return dataclasses.replace(target, eos_ids=frozenset()), text
    raise AssertionError(f"no seed gives {family} a text")


@pytest.mark.parametrize("wide", [False, True], ids=["small", "wide"])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_text_whoever_reads_it(family: str, wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' greedy text is that of plain decoding, every arm, a random policy and the recording."""
    target, expected = lively(family, wide)
    drafter = near(target.model)
    rounds: list[Any] = []
    for spec in ("fixed:arm=plain", "fixed:arm=lookup", "fixed:arm=near", "random"):
        drafters, pool = pool_for(target, drafter)
        session = LiveSession(target, drafters, pool, [("p", PROMPT)], max_new_tokens=BUDGET)
        policy = make(spec)
        policy.bind(pool, 1)
        rounds = []
        decode(session, policy, Ledger(pool, 1), on_rounds=rounds.append)
        assert session.texts == [expected], spec
    assert sum(int(r.accepted.sum()) for r in rounds) > 0
    drafters, pool = pool_for(target, drafter)
    monkeypatch.setattr(module, "measure_costs", costs)  # seconds are no part of it
    done = module.record(target, drafters, pool, [("p", "d", PROMPT)], tmp_path / "t", max_new_tokens=BUDGET)
    trace = open_trace(tmp_path / "t")
    assert trace.tokens.tolist() == expected
    assert done["mismatches"] == 0
    assert check(rounds, ["p"], trace, "random", budget=BUDGET).identical
    assert set(done["packed"].values()) == {family not in UNPACKED}


def read_all(reader: Reader, text: list[int]) -> torch.Tensor:
    """Logits along ``text``, and of branches that leave it inside and beyond a window of its end."""
    along = [logits for _, logits in reader.read(text, 3, 7)]
    seen = [len(text)] * 3 + [WINDOW + 3] * 3 + [len(text) - 1] * 2
    beside = reader.grow([2, 3, 4, 5, 6, 7, 8, 9], seen, [-1, 0, 1, -1, 3, 4, -1, 6])
    deeper = reader.grow([9, 8], [len(text), WINDOW + 3], [2, 5])
    return torch.cat([*along, beside, deeper])


@pytest.mark.parametrize("wide", [False, True], ids=["small", "wide"])
@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in UNPACKED])
def test_packed_reading_is_stepwise_reading_beyond_the_window(family: str, wide: bool) -> None:
    model = made(family, wide)
    text = [int(t) for t in np.random.default_rng(5).integers(2, VOCABULARY, LENGTH)]
    packed, steps = (read_all(reader, text) for reader in (PackedReader(model), StepReader(model)))
    torch.testing.assert_close(packed.log_softmax(-1), steps.log_softmax(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", ["Mistral", "Gemma3Text", "GptOss", "Llama4Text", "GPTNeo"])
def test_batched_answers_are_those_of_each_prompt(family: str) -> None:
    """What tables are counted from: prompts of different lengths, padded, in texts longer than the window."""
    target, expected = lively(family, False, BATCHED)
    prompts = [PROMPT, PROMPT[:-5], [*PROMPT[3:], 2]]
    answers = {tuple(a.before): a.tokens for a in batch_answers(target, prompts, BATCHED, lambda _: None)}
    assert answers[tuple(PROMPT[-4:])] == expected
    for prompt in prompts[1:]:
        session = LiveSession(target, [], Pool([], [(-1, 0)]), [("p", prompt)], max_new_tokens=BATCHED)
        while not session.done:
            session.play(np.array([0]))
        assert [answers[tuple(prompt[-4:])]] == session.texts


def test_attention_that_takes_no_mask_is_not_tried() -> None:
    """A mask that FlashAttention does not take can end in a device assert, which nothing survives."""
    model = made("Llama", False)
    assert can_pack(model)
    model.config._attn_implementation = "flash_attention_2"
    model.forward = None  # whoever tries fails
    assert not can_pack(model)
