"""From command-line options to a target, its drafters and encoded prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from metasd.core.errors import UsageError

if TYPE_CHECKING:
    from metasd.core.pool import Pool
    from metasd.core.prompts import Prompt
    from metasd.drafters.base import Drafter
    from metasd.runtime.conversation import EncodedPrompt
    from metasd.runtime.load import Target
    from metasd.runtime.sampling import Sampling


@dataclass(slots=True)
class Models:
    """A loaded target, a maker of fresh drafters, and the prompts."""

    target: Target
    open_drafters: Callable[[], tuple[list[Drafter], Pool]]
    prompts: list[Prompt]
    texts: list[EncodedPrompt]
    sampling: Sampling
    config: dict[str, Any]

    def build(self, draft_length: int | None = None) -> tuple[list[Drafter], Pool]:
        """Fresh drafters and their pool, its arms cut to ``draft_length``."""
        drafters, pool = self.open_drafters()
        return drafters, pool if draft_length is None else pool.cut(draft_length)


def open_models(
    *,
    target: str,
    drafters: Sequence[str],
    draft_length: int,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    device: str,
    dtype: str,
    attention: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    skip_too_long: bool = False,
    turns: Literal["first", "all"],
    raw: bool,
    prompt_file: Path | None = None,
    prompt: str | None = None,
) -> Models:
    """Check every setting, read the prompts, load the target. Raises UsageError for the first thing that is wrong."""
    check_numbers(
        draft_length=draft_length, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p
    )
    prompts = read_prompts(prompt_file, prompt, turns)
    from metasd.runtime.conversation import encode_all
    from metasd.runtime.load import load_target
    from metasd.runtime.registry import build_drafters
    from metasd.runtime.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    loaded = load_target(
        target, device=device, dtype=dtype, attention=attention, device_map=device_map, revision=revision
    )

    def build() -> tuple[list[Drafter], Pool]:
        return build_drafters(
            drafters,
            loaded,
            draft_length=draft_length,
            sampling=sampling,
            seed=seed,
        )

    opened, _ = build()  # a wrong SPEC is reported before anything is decoded
    left_out: list[str] | None = [] if skip_too_long else None
    texts = encode_all(loaded, prompts, raw=raw, max_new_tokens=max_new_tokens, drafters=opened, left_out=left_out)
    say_left_out(left_out, len(prompts))
    config = {
        "target": target,
        "drafters": list(drafters),
        "draft_length": draft_length,
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "device": device,
        **loading_config(loaded, device_map=device_map, revision=revision),
        "raw": raw,
        "turns": turns,
        "prompts": prompt_file.name if prompt_file else None,
        "left_out": left_out or [],
    }
    return Models(loaded, build, prompts, texts, sampling, config)


def loading_config(target: Target, *, device_map: str | None, revision: str | None) -> dict[str, Any]:
    """What a result says of how its target was loaded: what was asked for, and what came of it."""
    return {"dtype": target.dtype, **target.arithmetic, "device_map": device_map, "revision": revision}


def say_left_out(ids: Sequence[str] | None, prompts: int) -> None:
    """Say on stderr which prompts were left out because they do not fit."""
    if ids:
        named = ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")
        click.echo(f"left out {len(ids)} of {prompts} prompts that do not fit: {named}", err=True)


def read_prompts(path: Path | None, prompt: str | None, turns: Literal["first", "all"]) -> list[Prompt]:
    """The prompts of a file, a bundled file named without its folder, or the one given as text."""
    from metasd.core.prompts import DEFAULT_DOMAIN, Prompt, bundled, load_prompts

    if prompt is not None:
        if not prompt.strip():
            raise UsageError("--prompt is empty; give it some text")
        return [Prompt("prompt", DEFAULT_DOMAIN, (prompt,))]
    assert path is not None
    bare = not path.exists() and path.suffix == "" and path.name == str(path)
    return load_prompts(bundled(path.name) if bare else path, turns=turns)


def check_numbers(
    *, draft_length: int, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Raises UsageError for the first setting outside its range."""
    bounds = (
        ("--draft-length", draft_length, draft_length >= 0, "0 or more"),
        ("--max-new-tokens", max_new_tokens, max_new_tokens >= 1, "1 or more"),
        ("--temperature", temperature, 0 <= temperature < math.inf, "0 or more, finite"),
        ("--top-k", top_k, top_k is None or top_k >= 1, "1 or more"),
        ("--top-p", top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1"),
    )
    for name, value, good, wanted in bounds:
        if not good:
            raise UsageError(f"{name} {value} is out of range; use {wanted}")
