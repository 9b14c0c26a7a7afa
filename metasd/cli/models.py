"""From command-line options to a target, its drafters and encoded prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from metasd.core import builtin, shown
from metasd.core.errors import UsageError
from metasd.core.limits import LEAST_TEMPERATURE, LONGEST_DRAFT, LONGEST_TEXT
from metasd.core.prompts import DEFAULT_DOMAIN, STDIN, Prompt, load_prompts

if TYPE_CHECKING:
    from metasd.core.pool import Pool
    from metasd.drafters.base import Drafter
    from metasd.runtime.conversation import EncodedPrompt
    from metasd.runtime.load import Target
    from metasd.runtime.sampling import Sampling
    from metasd.runtime.sharded import Sharding
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
    draft_length: int | None,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    device: str,
    dtype: str,
    attention: str | None = None,
    engine: str = "auto",
    device_map: str | None = None,
    revision: str | None = None,
    skip_too_long: bool = False,
    turns: Literal["first", "all"],
    raw: bool,
    ignore_generation_config: bool = False,
    prompt_file: Path | None = None,
    sharding: Sharding | None = None,
) -> Models:
    """Check every setting, read prompts unless given, load the target. Raises UsageError for the first thing wrong."""
    check_numbers(draft_length, max_new_tokens, temperature, top_k, top_p)
    prompts = list(read_prompts(prompt_file, None, turns) if prompts is None else prompts)
    _say_idle(temperature, top_k, top_p)
    from metasd.runtime.conversation import encode_all, stops_of
    from metasd.runtime.registry import build_drafters, heavier, preview
    from metasd.runtime.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    preview(drafters, target, draft_length=draft_length)  # a wrong SPEC is reported before anything is loaded
    how = {"device": device, "dtype": dtype, "attention": attention, "device_map": device_map, "revision": revision}
    loaded = open_target(target, ignore_generation_config, engine=engine, sharding=sharding, **how)

    def build() -> tuple[list[Drafter], Pool]:
        return build_drafters(drafters, loaded, draft_length=draft_length, sampling=sampling, seed=seed)

    opened, _ = build()  # one that does not fit this target is reported before anything is decoded
    _say(heavier(loaded, opened) + [note for d in opened for note in d.notes])
    left_out: list[str] | None = [] if skip_too_long else None
    texts = encode_all(loaded, prompts, raw=raw, max_new_tokens=max_new_tokens, drafters=opened, left_out=left_out)
    say_left_out(left_out, len(prompts))
    config = {
        "target": target,
        "drafters": list(drafters),
        "draft_length": draft_length,
        "max_new_tokens": max_new_tokens,
        **asdict(sampling),
        "seed": seed,
        "device": device,
        **loading_config(loaded, device_map=device_map, revision=revision),
        "raw": raw,
        "turns": turns,
        **settings_of(loaded),
    }
    config |= {"prompts": builtin.shown_name(prompt_file), "left_out": left_out or []}
    return Models(loaded, build, prompts, texts, sampling, config, stops_of(prompts))


def _say(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(shown.line(f"warning: {warning}"), err=True)


def open_target(target: str, ignore_generation_config: bool, **how: Any) -> Target:
    """The target, with or without its generation settings. Raises UsageError for settings that cannot be honoured.

    how: what else ``load_target`` takes.
    """
    from metasd.runtime.load import load_target

    loaded = load_target(target, **how)
    if ignore_generation_config:
        return loaded.without_settings()
    loaded.processors()
    return loaded


def settings_of(target: Target) -> dict[str, Any]:
    """What a document's config says of the target's generation settings."""
    settings = target.settings
    return {"generation": dict(settings.applied), "ignore_generation_config": settings.ignored}


def loading_config(target: Target, *, device_map: str | None, revision: str | None) -> dict[str, Any]:
    """What a result says of how its target was loaded: what was asked for, and what came of it."""
    made = {"engine": target.engine.name, "engine_reason": target.engine.reason}
    return {"dtype": target.dtype, **target.arithmetic, **made, "device_map": device_map, "revision": revision}


def warm_up() -> dict[str, float]:
    """What a result says of the seconds that capturing passes took; nothing where none were."""
    from metasd.runtime.engine import graphs

    return {"engine_warm_up_seconds": graphs.spent()} if graphs.spent() else {}


def say_left_out(ids: Sequence[str] | None, prompts: int) -> None:
    """Say on stderr which prompts were left out because they do not fit."""
    if ids:
        named = ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")
        click.echo(shown.line(f"left out {len(ids)} of {prompts} prompts that do not fit: {named}"), err=True)


def _say_idle(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """A line on stderr for what is given but has no effect."""
    for name, value in (("--top-k", top_k), ("--top-p", top_p)):
        if value is not None and temperature == 0:
            click.echo(f"warning: {name} {value} does nothing at --temperature 0, which decodes greedily", err=True)


def read_prompts(path: Path | None, prompt: str | None, turns: Literal["first", "all"]) -> list[Prompt]:
    """The prompts of a file, those that ship under a name, or the one given as text."""
    from metasd.core.ids import check_ids
    from metasd.core.lines import check_text, standard_input

    if prompt is not None:
        text = standard_input().removesuffix("\n") if prompt == STDIN else prompt
        if not text.strip():
            raise UsageError("--prompt is empty; give it some text")
        check_text(text, "--prompt")
        return [Prompt("prompt", DEFAULT_DOMAIN, (text,))]
    assert path is not None
    prompts = builtin.load(path) if builtin.is_builtin(path) else load_prompts(path, turns=turns)
    check_ids(prompts)
    return prompts


def check_numbers(
    draft_length: int | None, max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Raises UsageError for the first setting outside its range."""
    low = LEAST_TEMPERATURE
    bounds = (
        ("--draft-length", draft_length, 0 <= (draft_length or 0) <= LONGEST_DRAFT, f"0 to {LONGEST_DRAFT}"),
        ("--max-new-tokens", max_new_tokens, 1 <= max_new_tokens <= LONGEST_TEXT, f"1 to {LONGEST_TEXT}"),
        ("--temperature", temperature, temperature == 0 or low <= temperature < math.inf, f"0, or {low} or more"),
        ("--top-k", top_k, top_k is None or top_k >= 1, "1 or more"),
        ("--top-p", top_p, top_p is None or low <= top_p <= 1, f"{low} to 1"),
    )
    for name, value, good, wanted in bounds:
        if not good:
            raise UsageError(f"{name} {value} is out of range; use {wanted}")
