"""The proposer inside vLLM itself, on a tiny random model: the same greedy tokens, the same counts. ``tox -e vllm``."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vllm")
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

WORDS, MOST = 64, 4
Prompts = list[list[int]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=WORDS, num_key_value_heads=2, initializer_range=0.3, eos_token_id=None, **shape)
    folder = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def engine(model: str, settings: dict[str, Any] | None, **more: Any) -> Any:
    from vllm import LLM

    own: dict[str, Any] = {}
    if settings is not None:
        place = "metasd.serve.vllm.MetaSDProposer"
        own["speculative_config"] = {"method": "custom_class", "model": place, "num_speculative_tokens": MOST}
        own["additional_config"] = {"metasd": settings}
    own |= {"max_num_seqs": 32, "max_model_len": 256, "async_scheduling": False, "disable_log_stats": False, **more}
    return LLM(model, skip_tokenizer_init=True, dtype="float32", enforce_eager=True, **own)


def adapter_of(llm: Any) -> Any:
    worker = llm.llm_engine.engine_core.engine_core.model_executor.driver_worker.worker
    return worker.model_runner.drafter.adapter


def counted(llm: Any) -> dict[str, Any]:
    found = {m.name.removeprefix("vllm:spec_decode_num_"): m for m in llm.get_metrics() if "spec_decode_num" in m.name}
    return {name: getattr(m, "values", None) or getattr(m, "value", None) for name, m in found.items()}


def answers(llm: Any, prompts: Prompts, at_once: int, tokens: int = 60) -> Prompts:
    from vllm import SamplingParams

    how = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
    said: Prompts = []
    for i in range(0, len(prompts), at_once):
        inputs = [{"prompt_token_ids": p} for p in prompts[i : i + at_once]]
        said += [list(o.outputs[0].token_ids) for o in llm.generate(inputs, how, use_tqdm=False)]
    return said


def prompts(count: int, twins: int) -> Prompts:
    draw = random.Random(1)
    made = [[draw.randrange(WORDS) for _ in range(draw.randint(4, 40))] for _ in range(count - twins)]
    return made + made[:twins]


@pytest.fixture(scope="module")
def plain(model: str) -> Iterator[dict[int, Prompts]]:
    llm = engine(model, None)
    yield {n: answers(llm, prompts(48, 4), n) for n in (1, 8, 32)}
    del llm
    gc.collect()


def test_greedy_tokens_are_vllms_own_and_so_are_the_counts(model: str, plain: dict[int, Prompts]) -> None:
    llm = engine(model, {})
    for at_once, expected in plain.items():
        assert answers(llm, prompts(48, 4), at_once) == expected
    ours, theirs = adapter_of(llm).counters, counted(llm)
    assert ours.accepted > 0
    assert ours.requests == 3 * 48
    assert (ours.drafts, ours.drafted) == (theirs["drafts"], theirs["draft_tokens"])
    assert (ours.accepted, ours.at_position.tolist()) == (
        theirs["accepted_tokens"],
        theirs["accepted_tokens_per_pos"],
    )


def expanded(x: Any, ends: Any, count: int, replace_from: float = 0, replace_to: float = 0) -> Any:
    """What ``rejection_sampler.expand_batch_to_tokens`` of vLLM says that it does."""
    x = x.masked_fill(x == replace_from, replace_to)
    return x.repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))


def law_of_third(model: str, prompt: list[int], temperature: float) -> Any:
    """[WORDS] chances of the third token of an answer, by transformers."""
    import torch
    from transformers import LlamaForCausalLM

    target = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    reached: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        texts = [t for t, chance in reached.items() if chance > 1e-7]
        with torch.no_grad():
            logits = [
                target(torch.tensor([[*prompt, *t] for t in texts[i : i + 256]])).logits[:, -1]
                for i in range(0, len(texts), 256)
            ]
        chances = (torch.cat(logits) / temperature).softmax(-1).double().numpy()
        reached = {(*t, w): reached[t] * row[w] for t, row in zip(texts, chances, strict=True) for w in range(WORDS)}
    law = np.zeros(WORDS)
    for tokens, chance in reached.items():
        law[tokens[2]] += chance
    return law


def test_sampled_tokens_have_the_targets_law(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Third tokens of 1,500 answers at temperature 0.8, drafted at every step, against their law, by chi-squared.

    Where vLLM judges drafts under another temperature than is asked for (docs/vllm.md), that is mended first.
    """
    import torch
    from vllm import SamplingParams

    prompt = random.Random(5).sample(range(WORDS), WORDS)
    prompt += prompt[:6]
    llm = engine(model, {"policy": "fixed:arm=lookup@4", "goodput": False, "pool": ["lookup"]}, max_num_seqs=64)
    sampler = sys.modules["vllm.v1.sample.rejection_sampler"]
    asked = sampler.expand_batch_to_tokens(torch.full((2,), 0.8), torch.tensor([1, 3]), 3)
    if not torch.equal(asked, torch.full((3,), 0.8)):
        monkeypatch.setattr(sampler, "expand_batch_to_tokens", expanded)
    how = SamplingParams(temperature=0.8, max_tokens=3, ignore_eos=True, detokenize=False)
    said = llm.generate([{"prompt_token_ids": prompt}] * 1500, how, use_tqdm=False)
    assert counted(llm)["drafts"] > 2500
    counts = np.bincount([o.outputs[0].token_ids[2] for o in said], minlength=WORDS)
    expected = 1500 * law_of_third(model, prompt, 0.8)
    often = expected >= 5
    counts, expected = (np.append(x[often], x[~often].sum()) for x in (counts, expected))
    statistic, free = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    assert free > 20
    assert statistic < free + 4 * (2 * free) ** 0.5, (statistic, free)


def test_200_requests_some_identical_aborted_or_preempted(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import SamplingParams
    from vllm.v1.core.sched.scheduler import Scheduler

    placeholders: list[int] = []
    schedule = Scheduler.schedule

    def watched(self: Any, *given: Any, **named: Any) -> Any:
        out = schedule(self, *given, **named)
        placeholders.extend(len(d) for d in out.scheduled_spec_decode_tokens.values() if d[0] == -1)
        return out

    plain = engine(model, None)
    expected = answers(plain, prompts(200, 40), 32)
    del plain
    gc.collect()
    monkeypatch.setattr(Scheduler, "schedule", watched)
    llm = engine(model, {"policy": "ucb1"}, num_gpu_blocks_override=20, block_size=32, enable_prefix_caching=True)
    core, draw, everyone = llm.llm_engine, random.Random(7), prompts(200, 40)
    lengths = {str(i): draw.randint(5, 60) for i in range(200)}
    waiting, said, gone = list(range(200)), {}, set()
    while waiting or core.has_unfinished_requests():
        for _ in range(draw.choice((0, 0, 1, 3))):
            if waiting:
                i = waiting.pop(0)
                how = SamplingParams(temperature=0, max_tokens=lengths[str(i)], ignore_eos=True, detokenize=False)
                core.add_request(str(i), {"prompt_token_ids": everyone[i]}, how)
                if i % 10 == 9:
                    gone.add(str(i))
        for out in core.step():
            if out.finished:
                said[out.request_id] = list(out.outputs[0].token_ids)
            elif out.request_id in gone and len(out.outputs[0].token_ids) > 4:
                core.abort_request([out.request_id])
    preempted = sum(m.value for m in llm.get_metrics() if m.name == "vllm:num_preemptions")
    assert preempted > 0
    assert {str(i) for i in range(200)} - gone <= set(said)
    for i, tokens in said.items():
        assert tokens == expected[int(i)][: lengths[i]]
    ours, theirs = adapter_of(llm).counters, counted(llm)
    assert ours.accepted == theirs["accepted_tokens"]
    assert ours.at_position.tolist() == theirs["accepted_tokens_per_pos"]
    assert ours.padded == len(placeholders) > 0
    assert theirs["drafts"] == ours.drafts + ours.padded
    assert theirs["draft_tokens"] == ours.drafted + MOST * ours.padded
    assert ours.requests == 200


def test_what_is_recorded_replays_to_the_rounds_served(model: str, tmp_path: Path) -> None:
    from served import replays, watch

    from metasd.traces import open_trace

    pool = ["lookup", "suffix", "table"]
    llm = engine(model, {"pool": pool, "policy": "ucb1", "goodput": False, "records": str(tmp_path / "t")})
    adapter = adapter_of(llm)
    rounds, order = watch(adapter)
    answers(llm, prompts(12, 2), 6)
    adapter.close()
    trace = open_trace(tmp_path / "t")
    assert len(trace) == 12
    assert replays(trace, adapter.pool, [rounds[number] for number in order]) > 100


def test_what_cannot_work_stops_the_engine_with_one_line(model: str) -> None:
    with pytest.raises(RuntimeError, match="metasd settings have no key 'polcy'"):
        engine(model, {"polcy": "ucb1"})


def test_the_state_is_there_when_the_server_has_ended(model: str, tmp_path: Path) -> None:
    file, stats = tmp_path / "state", tmp_path / "stats.json"
    settings = {"state": str(file), "stats": str(stats)}
    place = repr(str(Path(__file__).parent))
    code = (
        f"import sys; sys.path.insert(0, {place}); import test_engine as t\n"
        f"llm = t.engine({model!r}, {settings!r}); t.answers(llm, t.prompts(4, 0), 4, 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(stats.read_text())["requests"] == 4
    assert file.stat().st_size > 0
