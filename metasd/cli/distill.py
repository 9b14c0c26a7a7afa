"""``metasd distill``: build the training-free specialists (n-gram tables) of a target."""

from __future__ import annotations

from pathlib import Path

import click

from metasd.cli.common import FilePath, emit, ignore_option, json_option, loading_options, result_console
from metasd.core import shown


@click.command("distill")
@click.option("--target", required=True, help="Hub id, folder, .gguf file or smollm2.")
@click.option("--prompts", "prompt_file", type=FilePath, required=True, help="JSON lines, or a bundled name: distill.")
@click.option("--out", type=FilePath, required=True, help="Folder of the new pool of tables.")
@click.option("--tokens-per-domain", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=192, show_default=True)
@loading_options
@ignore_option
@json_option
def command(
    target: str,
    prompt_file: Path,
    out: Path,
    tokens_per_domain: int,
    max_new_tokens: int,
    device: str,
    dtype: str,
    attention: str | None,
    engine: str,
    device_map: str | None,
    revision: str | None,
    skip_too_long: bool,
    ignore_generation_config: bool,
    as_json: bool,
) -> None:
    """Build one n-gram table a domain, and one over all, from the target's own greedy answers."""
    from metasd.cli.models import loading_config, open_target, read_prompts, say_left_out, settings_of
    from metasd.core.results import document
    from metasd.distill.tables import distill

    prompts = read_prompts(prompt_file, None, "first")
    how = {"device": device, "dtype": dtype, "attention": attention, "device_map": device_map, "revision": revision}
    how["engine"] = engine
    model = open_target(target, ignore_generation_config, **how)
    left_out: list[str] | None = [] if skip_too_long else None
    summary = distill(
        model,
        prompts,
        out,
        tokens_per_domain=tokens_per_domain,
        max_new_tokens=max_new_tokens,
        left_out=left_out,
    )
    say_left_out(left_out, len(prompts))
    if as_json:
        config = {
            "target": target,
            "prompts": prompt_file.name,
            "tokens_per_domain": tokens_per_domain,
            "max_new_tokens": max_new_tokens,
            "device": device,
            **loading_config(model, device_map=device_map, revision=revision),
            **settings_of(model),
            "left_out": left_out or [],
        }
        emit(document("distill", config, [], tables=summary))
        return
    from metasd.report.facts import show_tables

    show_tables(summary, result_console())
    click.echo(shown.line(f"use them with --drafter {out}"))
