"""``metasd distill``: make specialists of a target from its own answers: tables, trained heads, small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from metasd.cli.common import FilePath, emit, ignore_option, json_option, loading_options, result_console
from metasd.core import shown

ASKED = ("best", "tokens_per_domain", "max_new_tokens", "raw", "temperature", "seed")


@click.command("distill")
@click.option("--target", required=True, help="Hub id, folder, .gguf file or smollm2.")
@click.option(
    "--prompts",
    "prompt_file",
    type=FilePath,
    required=True,
    help="JSON lines, or what ships: train, train/code, distill.",
)
@click.option("--out", type=FilePath, required=True, help="Folder of the new pool.")
@click.option(
    "--kind",
    type=click.Choice(["table", "head", "model", "all"]),
    default="table",
    show_default=True,
    help="What to make.",
)
@click.option(
    "--best",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Continuations a table keeps of a run, the further ones as branches.",
)
@click.option("--tokens-per-domain", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=192, show_default=True)
@click.option(
    "--draft-vocabulary", type=click.IntRange(min=1), default=8192, show_default=True, help="Tokens heads can draft."
)
@click.option(
    "--unroll", type=click.IntRange(min=1), default=3, show_default=True, help="Steps of heads on their own features."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=6, show_default=True, help="Of training; may stop earlier."
)
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 answers greedily.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of answers that are drawn.")
@click.option("--raw", is_flag=True, help="Do not apply the chat template.")
@loading_options
@ignore_option
@json_option
def command(target: str, prompt_file: Path, out: Path, kind: str, as_json: bool, **options: Any) -> None:
    """Make one specialist a domain, and one over all, from the target's own answers.

    Tables are counted; heads (EAGLE-3) and small models are trained, for minutes to hours. Run it again to go on with
    what was killed.
    """
    from metasd.cli.models import loading_config, open_target, read_prompts, say_left_out, settings_of
    from metasd.core.builtin import refuse_evaluation, shown_name
    from metasd.core.results import document

    prompts = read_prompts(prompt_file, None, "first")
    refuse_evaluation(prompts)
    from metasd.distill.run import distill
    from metasd.distill.train import Training

    how = {key: options[key] for key in ("device", "dtype", "attention", "device_map", "revision", "engine")}
    model = open_target(target, options["ignore_generation_config"], **how)
    left_out: list[str] | None = [] if options["skip_too_long"] else None
    asked = {key: options[key] for key in ASKED}
    training = Training(**{key: options[key] for key in ("draft_vocabulary", "unroll", "epochs")})
    summary = distill(model, prompts, out, kind=kind, training=training, left_out=left_out, **asked)
    say_left_out(left_out, len(prompts))
    if as_json:
        config = {
            "target": target,
            "prompts": shown_name(prompt_file),
            "kind": kind,
            **asked,
            "device": options["device"],
            **loading_config(model, device_map=options["device_map"], revision=options["revision"]),
            **settings_of(model),
            "left_out": left_out or [],
        }
        emit(document("distill", config, [], **{"tables": [], **summary}))
        return
    from metasd.report.facts import show_tables, show_trained

    console = result_console()
    if "tables" in summary:
        show_tables(summary["tables"], console)
    for kind in ("heads", "models"):
        if kind in summary:
            show_trained(kind, summary[kind], console)
    click.echo(shown.line(f"use them with --drafter {out}"))
