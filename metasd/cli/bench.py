"""``metasd bench ...``: how fast this machine decodes, beside other people's programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from metasd.cli import bench_serve, costs
from metasd.cli.common import (
    LENGTH_HELP,
    POLICY_HELP,
    PROMPTS_HELP,
    FilePath,
    emit,
    ignore_option,
    json_option,
    loading_options,
    result_console,
)

if TYPE_CHECKING:
    from metasd.bench.kept import Kept
    from metasd.core.prompts import Prompt

FAILED = 1
"""Exit code where a contender failed: everything else was measured and is printed."""


@click.group("bench")
def group() -> None:
    """Measure how fast this machine decodes, beside other people's programs."""


group.add_command(bench_serve.command)


@group.command("live")
@click.option("--prompts", "prompt_file", type=FilePath, required=True, help=PROMPTS_HELP)
@click.option("--out", type=FilePath, required=True, help="Folder where every finished run is kept at once.")
@click.option("--resume", is_flag=True, help="Go on with what --out holds.")
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="Runs of every contender.")
@click.option("--policy", "policies", multiple=True, metavar="SPEC", help=f"Another contender (repeat): {POLICY_HELP}.")
@click.option("--only", multiple=True, metavar="NAME", help="Only this contender (repeat).")
@click.option("--target", default="smollm2", show_default=True, help="Hub id, folder, .gguf file or smollm2.")
@click.option("--drafter", "drafters", multiple=True, metavar="SPEC", help="name or name:key=value,... (repeat).")
@click.option("--draft-length", type=int, help=LENGTH_HELP)
@click.option("--max-new-tokens", type=int, default=128, show_default=True, help="Token budget of a text.")
@click.option("--turns", type=click.Choice(["first", "all"]), default="first", help="Turns of a Spec-Bench line.")
@click.option("--raw", is_flag=True, help="Do not apply the chat template.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of every contender. Default: PyTorch's own.")
@click.option("--svg", type=FilePath, help="Also write the speeds as a figure.")
@costs.costs_option
@ignore_option
@loading_options
@json_option
def live(
    prompt_file: Path,
    out: Path,
    resume: bool,
    repeats: int,
    policies: tuple[str, ...],
    only: tuple[str, ...],
    threads: int | None,
    svg: Path | None,
    costs_from: str,
    as_json: bool,
    turns: Literal["first", "all"],
    **options: Any,
) -> int:
    """Decode the same prompts with every contender, each in a process of its own, and compare their speeds.

    Contenders: transformers' generate, prompt lookup and, with a model drafter, assisted generation, on the model as it
    comes; plain decoding (twice, which shows the noise), every fixed arm, lookup-first, default and planner; flashspec
    and vLLM's n-gram speculation where they are installed. Greedy; prompts' stop strings are not used.
    """
    from metasd.bench.jobs import field
    from metasd.bench.run import measure
    from metasd.cli.models import check_numbers, read_prompts
    from metasd.core import files
    from metasd.core.progress import bar
    from metasd.runtime.registry import preview

    check_numbers(options["draft_length"], options["max_new_tokens"], 0.0, None, None)
    pool = preview(options["drafters"], options["target"], draft_length=options["draft_length"])
    prompts = read_prompts(prompt_file, None, turns)
    wanted = costs.asked(costs_from)
    if svg is not None:
        files.check_place(svg)
    taking = field(pool, options["drafters"], policies, only)
    settings = _settings(options, prompts, threads, costs_from if isinstance(wanted, str) else str(Path(costs_from)))
    with bar(repeats * len(taking.jobs), "benchmark (runs)") as advance:
        kept = measure(settings, taking.jobs, repeats, out, resume=resume, advance=advance)
    config = {k: v for k, v in settings.items() if k != "prompts"} | {"prompts": prompt_file.name, "repeats": repeats}
    made = document_of(kept, taking.jobs, taking.skipped, repeats, config | {"turns": turns})
    if svg is not None:
        from metasd.report.bars import bars

        files.write_text(svg, bars(made["results"], f"{made['scene']['model']}, {len(prompts)} prompts"))
    if as_json:
        emit(made)
    else:
        from metasd.report.live import show

        show(made, result_console())
    return FAILED if made["failed"] else 0


def _settings(
    options: Mapping[str, Any], prompts: Sequence[Prompt], threads: int | None, costs_from: str
) -> dict[str, Any]:
    """What every contender is told; all of it must be the same for runs that are compared."""
    from metasd.core.results import versions

    told = [{k: v for k, v in asdict(prompt).items() if k not in ("where", "stop")} for prompt in prompts]
    more = {"prompts": told, "threads": threads, "costs": costs_from, "versions": versions()}
    return dict(options) | {"drafters": list(options["drafters"])} | more


def document_of(
    kept: Kept, jobs: Sequence[Any], skipped: Sequence[tuple[str, str]], repeats: int, config: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON document, from the runs that are kept."""
    from metasd.bench import rows
    from metasd.core.results import document

    scene = dict(kept.scene or {})
    found, heard = rows.rows(jobs, kept.runs, scene["texts"], repeats), rows.noise(kept.runs, repeats)
    done = {r["contender"] for r in found}
    errors = {r["contender"]: r["error"] for r in kept.runs if r.get("error")}
    failed = [{"contender": name, "error": why} for name, why in errors.items() if name not in done]
    told = scene["costs"]
    passes = told and {"widths": told["widths"], "seconds": told["verify_seconds"], "context": told["context"]}
    head = {k: v for k, v in scene.items() if k not in ("texts", "costs")}
    return document(
        "bench live",
        config,
        found,
        scene=head,
        passes=passes,
        noise=heard,
        skipped=[{"contender": name, "why": why} for name, why in skipped],
        failed=failed,
        verdicts=rows.sentences(found, heard),
    )
