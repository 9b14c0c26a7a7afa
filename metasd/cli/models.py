"""From command-line options to a target, its drafters and encoded prompts."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from metasd.core.errors import UsageError
from metasd.core.prompts import DEFAULT_DOMAIN, STDIN, Prompt, bundled, load_prompts

if TYPE_CHECKING:
    from metasd.core.pool import Pool
    from metasd.drafters.base import Drafter
    from metasd.runtime.conversation import EncodedPrompt
    from metasd.runtime.load import Target
    from metasd.runtime.sampling import Sampling
    from metasd.runtime.stops import Stops


@dataclass(slots=True)
class Models:
    """A loaded target, a maker of fresh drafters, and the prompts."""

    target: Target
    open_drafters: Callable[[], tuple[list[Drafter], Pool]]
    prompts: list[Prompt]
    texts: list[EncodedPrompt]
    sampling: Sampling
    config: dict[str, Any]
    stops: Stops

    def build(self, draft_length: int | None = None) -> tuple[list[Drafter], Pool]:
        """Fresh drafters and their pool, its arms cut to ``draft_length``."""
        drafters, pool = self.open_drafters()
        return drafters, pool if draft_length is None else pool.cut(draft_length)


def open_models(
    prompts: Sequence[Prompt] | None = None,
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
    turns: Literal["first", "all"],
    raw: bool,
    prompt_file: Path | None = None,
) -> Models:
    """Check every setting, read the prompts unless given, load the target; remarks go to stderr.

    Raises UsageError for the first thing that is wrong.
    """
    check_numbers(
        draft_length=draft_length, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p
    )
    prompts = list(read_prompts(prompt_file, None, turns) if prompts is None else prompts)
    _say_idle(temperature, top_k, top_p)
    from metasd.runtime.conversation import encode_all, stops_of
    from metasd.runtime.load import load_target
    from metasd.runtime.registry import build_drafters, heavier, preview
    from metasd.runtime.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    preview(drafters, target, draft_length=draft_length)  # a wrong SPEC is reported before anything is loaded
    loaded = load_target(target, device=device, dtype=dtype)
    texts = encode_all(loaded, prompts, raw=raw, max_new_tokens=max_new_tokens)

    def build() -> tuple[list[Drafter], Pool]:
        return build_drafters(drafters, loaded, draft_length=draft_length, sampling=sampling, seed=seed)

    for remark in heavier(loaded, build()[0]):  # and one that does not fit this target before anything is decoded
        click.echo(f"warning: {remark}", err=True)

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
        "dtype": dtype,
        "raw": raw,
        "turns": turns,
        "prompts": prompt_file.name if prompt_file else None,
    }
    return Models(loaded, build, prompts, texts, sampling, config, stops_of(prompts))


def _say_idle(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """A line on stderr for what is given but has no effect."""
    for name, value in (("--top-k", top_k), ("--top-p", top_p)):
        if value is not None and temperature == 0:
            click.echo(f"warning: {name} {value} does nothing at --temperature 0, which decodes greedily", err=True)


def read_prompts(path: Path | None, prompt: str | None, turns: Literal["first", "all"]) -> list[Prompt]:
    """The prompts of a file, a bundled file named without its folder, or the one given as text."""
    if prompt is not None:
        text = sys.stdin.read().removesuffix("\n") if prompt == STDIN else prompt
        if not text.strip():
            raise UsageError("--prompt is empty; give it some text")
        return [Prompt("prompt", DEFAULT_DOMAIN, (text,))]
    assert path is not None
    bare = str(path) != STDIN and not path.exists() and path.suffix == "" and path.name == str(path)
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
