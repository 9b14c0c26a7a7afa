"""``metasd run --dry-run``: the memory that a run will need, told before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import emit, result_console
from metasd.core import shown

if TYPE_CHECKING:
    from metasd.core.prompts import Prompt
    from metasd.runtime.memory import Part


def run(options: Mapping[str, Any], prompts: Sequence[Prompt], *, entrants: int, lanes: int, as_json: bool) -> None:
    """Print what a run with ``options`` of ``prompts`` will hold at most, were ``entrants`` to decode side by side,
    each of them ``lanes`` texts at once."""
    from metasd.core.results import document
    from metasd.runtime import memory
    from metasd.runtime.registry import preview

    how = {name: options[name] for name in ("device", "dtype", "revision")}
    target = memory.sized(options["target"], **how)
    pool = preview(options["drafters"], options["target"], draft_length=options["draft_length"])
    prompt = _longest(options, prompts)
    total = prompt + options["max_new_tokens"] + pool.max_draft_length
    rows = lanes * (pool.max_draft_length + 1)
    size: dict[str, Any] = {"prompt": prompt, "total": total, "rows": rows, "texts": entrants * lanes}
    parts = memory.parts_of(target, engine=options["engine"], **size)
    parts += _drafters(options, target, size)
    about = {
        "prompt_tokens": prompt,
        "entrants": entrants,
        "lanes": lanes,
        "dtype": str(target.dtype).removeprefix("torch."),
    }
    made = memory.report(parts, **about)
    if as_json:
        config = {k: v for k, v in options.items() if isinstance(v, str | int | float | bool | tuple | None)}
        emit(document("run", config, [], memory=made))
        return
    _show(parts, made)


def _drafters(options: Mapping[str, Any], target: Any, size: Mapping[str, Any]) -> list[Part]:
    """Of drafters that are models; those that work on tokens alone take next to nothing."""
    from metasd.runtime import memory
    from metasd.runtime.registry import parsed

    found: list[Part] = []
    dtype = str(target.dtype).removeprefix("torch.")
    for wanted in parsed(options["drafters"], options["draft_length"], smollm2=False):
        keys = wanted.settings
        if wanted.name == "model":
            own = memory.sized(keys["path"], device=options["device"], dtype=dtype, revision=keys.get("revision"))
            found += memory.parts_of(own, engine="auto", **size)
        elif wanted.name == "skip":
            found += [p for p in memory.parts_of(target, engine="eager", shared=True, **size) if p.what == "cache"]
        elif wanted.name == "head":
            found.append(memory.head_part(keys["path"]))
    return found


def _longest(options: Mapping[str, Any], prompts: Sequence[Prompt]) -> int:
    """Tokens of the longest prompt, with room for the answers to its turns before the last."""
    from metasd.runtime import template
    from metasd.runtime.load import load_tokenizer

    if options["target"].endswith(".gguf"):
        return max(sum(len(turn) for turn in p.turns) for p in prompts) // 3  # about, where its tokenizer is inside
    tokenizer, name = load_tokenizer(options["target"])

    def tokens(prompt: Prompt) -> int:
        said = prompt.messages([""] * (len(prompt.turns) - 1))
        answers = options["max_new_tokens"] * (len(prompt.turns) - 1)
        return len(template.encode(tokenizer, said, name, raw=options["raw"])) + answers

    return max(map(tokens, prompts))


def _show(parts: Sequence[Part], made: Mapping[str, Any]) -> None:
    from rich.table import Table

    from metasd.report.cells import words

    table = Table(title="memory of a run", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("model", "what"):
        table.add_column(heading, overflow="fold")
    table.add_column("MB", justify="right")
    for part in parts:
        table.add_row(words(part.of), words(part.what), f"{part.bytes / 1e6:,.1f}")
    table.add_row("all", "", f"{made['bytes'] / 1e6:,.1f}")
    result_console().print(table)
    click.echo(
        shown.line(
            f"longest prompt {made['prompt_tokens']} tokens, {made['dtype']}; Python, PyTorch and tokenizer not counted"
        )
    )
