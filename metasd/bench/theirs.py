"""Contenders by other people on the same model: transformers' own generators, flashspec, vLLM's n-gram speculation.

Everyone decodes greedily from token ids to token ids, one prompt at a time, and is otherwise as its makers ship it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers

from metasd.bench.jobs import Job
from metasd.bench.ours import WARM
from metasd.bench.scene import opened, texts_of
from metasd.runtime.load import Target, load_target
from metasd.runtime.locate import locate

Answer = Callable[[list[int], int], list[int]]
"""(prompt tokens, budget) -> answer tokens, the end-of-text token among them; finished when it returns."""


def decode(settings: dict[str, Any], scene: dict[str, Any], job: Job) -> dict[str, Any]:
    """One run: ``texts`` with the seconds of each, from prompt to last token."""
    texts, budget = texts_of(scene), settings["max_new_tokens"]
    answer = ANSWERS[job.kind](settings, scene, job)
    answer(texts[0][2], min(WARM, budget))
    made = []
    for _, _, prompt in texts:
        began = time.perf_counter()
        tokens = answer(prompt, budget)
        made.append({"seconds": time.perf_counter() - began, "tokens": tokens})
    return {"texts": made}


def _generate(settings: dict[str, Any], scene: dict[str, Any], job: Job) -> Answer:
    target = opened(settings, as_it_comes=True)
    more: dict[str, Any] = {}
    if job.kind == "prompt-lookup":
        more["prompt_lookup_num_tokens"] = job.length
    if job.kind == "assisted":
        more["assistant_model"] = _drafter(settings, target, job).model
    if target.settings.ignored:
        target.model.generation_config = transformers.GenerationConfig(eos_token_id=sorted(target.eos_ids) or None)

    @torch.inference_mode()
    def answer(prompt: list[int], budget: int) -> list[int]:
        ids = torch.tensor([prompt], device=target.device)
        made = target.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget, **more
        )
        return [int(token) for token in made[0, len(prompt) :].tolist()]

    return answer


def _drafter(settings: dict[str, Any], target: Target, job: Job) -> Target:
    return load_target(job.spec, settings["device"], target.dtype, engine="eager")


def _flashspec(settings: dict[str, Any], scene: dict[str, Any], job: Job) -> Answer:
    """Its default strategy with a model drafter, its prompt lookup without one."""
    theirs, parts = importlib.import_module("flashspec"), importlib.import_module("flashspec.engine")
    target = opened(settings, as_it_comes=True)
    where, dtype = str(target.device), target.model.dtype
    asked = {"device": where, "sampling": theirs.SamplingConfig(temperature=0.0), "dtype": target.dtype}
    drafter: Any
    if job.spec:
        drafter = parts.HuggingFaceDrafter(job.spec, where, dtype, model=_drafter(settings, target, job).model)
    else:
        drafter = parts.NgramDrafter()
        asked |= {"drafter_strategy": "bandit", "bandit": theirs.BanditConfig(n_arms=1)}
    wrapped = parts.TargetModel(target.name, target.device, dtype, model=target.model)
    engine = theirs.SpeculativeEngine(theirs.FlashSpecConfig(**asked), [drafter], wrapped)
    ends = tuple(sorted(target.eos_ids))

    def answer(prompt: list[int], budget: int) -> list[int]:
        ids = torch.tensor([prompt], device=target.device)
        made = engine.generate(ids, max_new_tokens=budget, eos_token_ids=ends)
        return [int(token) for token in made.output_ids[0, : made.n_tokens_generated].tolist()]

    return answer


def _vllm(settings: dict[str, Any], scene: dict[str, Any], job: Job) -> Answer:
    """Its n-gram speculation, one request at a time."""
    theirs = importlib.import_module("vllm")
    path, _, _ = locate(settings["target"], getattr(torch, scene["dtype"]), settings["revision"])
    longest = max(len(prompt) for _, _, prompt in texts_of(scene)) + settings["max_new_tokens"]
    engine = theirs.LLM(
        model=path,
        revision=settings["revision"],
        dtype=scene["dtype"],
        max_model_len=longest + job.length + 1,
        max_num_seqs=1,
        speculative_config={"method": "ngram", "num_speculative_tokens": job.length, "prompt_lookup_max": 4},
    )

    def answer(prompt: list[int], budget: int) -> list[int]:
        asked = theirs.SamplingParams(temperature=0.0, max_tokens=budget)
        (made,) = engine.generate([{"prompt_token_ids": prompt}], asked, use_tqdm=False)
        return [int(token) for token in made.outputs[0].token_ids]

    return answer


ANSWERS: dict[str, Callable[[dict[str, Any], dict[str, Any], Job], Answer]] = {
    "generate": _generate,
    "prompt-lookup": _generate,
    "assisted": _generate,
    "flashspec": _flashspec,
    "vllm-ngram": _vllm,
}
