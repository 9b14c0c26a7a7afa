"""What all contenders of a live benchmark share: the target, the prompts as its tokens, and what a pass costs here."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from metasd.bench.jobs import POLICIES
from metasd.core.prompts import Prompt
from metasd.runtime import costs
from metasd.runtime.conversation import EncodedPrompt, encode_all
from metasd.runtime.engine.paths import EAGER
from metasd.runtime.identity import machine
from metasd.runtime.load import Target, load_target
from metasd.runtime.registry import build_drafters

LOADING = ("device", "dtype", "attention", "device_map", "revision", "engine")


def opened(settings: dict[str, Any], *, as_it_comes: bool = False) -> Target:
    """The target; ``as_it_comes``: with the model's own linear layers, as transformers decodes with it."""
    how = {name: settings[name] for name in LOADING}
    if as_it_comes:
        how["engine"] = EAGER
    target = load_target(settings["target"], **how)
    return target.without_settings() if settings["ignore_generation_config"] else target


def set_scene(settings: dict[str, Any]) -> dict[str, Any]:
    """Encode the prompts and measure what passes cost. Raises UsageError for what cannot work."""
    target = opened(settings)
    target.processors()
    build = partial(build_drafters, settings["drafters"], target, draft_length=settings["draft_length"])
    left_out: list[str] | None = [] if settings["skip_too_long"] else None
    texts = encode_all(
        target,
        [prompt_of(p) for p in settings["prompts"]],
        raw=settings["raw"],
        max_new_tokens=settings["max_new_tokens"],
        drafters=build()[0],
        left_out=left_out,
    )
    wanted = settings["costs"]
    known = costs.known(
        wanted if wanted in (costs.AUTO, costs.MEASURE, costs.NONE) else Path(wanted), POLICIES, target, build
    )
    return {
        "texts": texts,
        "left_out": left_out or [],
        "costs": None if known.costs is None else known.costs.to_json(),
        "costs_said": known.said,
        "model": target.name,
        "dtype": target.dtype,
        "engine": target.engine.name,
        "engine_reason": target.engine.reason,
        "machine": machine(target.device),
    }


def texts_of(scene: dict[str, Any]) -> list[EncodedPrompt]:
    """The prompts of a scene that has been kept as JSON."""
    return [(name, domain, list(tokens)) for name, domain, tokens in scene["texts"]]


def prompt_of(said: dict[str, Any]) -> Prompt:
    """A prompt from JSON, without its stop strings: not every contender knows them."""
    before = tuple((role, text) for role, text in said["before"])
    return Prompt(said["id"], said["domain"], tuple(said["turns"]), before)


def set_threads(threads: int | None) -> None:
    """Arithmetic threads of this process; None: as many as PyTorch takes."""
    if threads is not None:
        torch.set_num_threads(threads)
