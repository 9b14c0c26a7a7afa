"""``metasd trace ...``: look at, check, split, import, export and make traces."""

from __future__ import annotations

from pathlib import Path

import click

from metasd.cli.common import FilePath, emit, json_option, result_console, unaligned_option
from metasd.core import shown
from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_TEXT


@click.group("trace")
def group() -> None:
    """Look at, check, split, import, export and make traces."""


@group.command("show")
@click.argument("source")
@json_option
def show(source: str, as_json: bool) -> None:
    """Describe a trace: models, arms, prompts, sizes."""
    from metasd.core.results import document
    from metasd.traces import describe
    from metasd.traces.find import folder_of

    facts = describe(folder_of(source))
    if as_json:
        emit(document("trace show", {"trace": source}, [], trace=facts))
        return
    from metasd.report.facts import show_trace

    show_trace(facts, result_console())


@group.command("validate")
@click.argument("source")
def validate(source: str) -> None:
    """Check every byte and every rule of a trace; exit 3 and name the shard if one fails."""
    from metasd.traces import validate as check
    from metasd.traces.find import folder_of

    for fact in check(folder_of(source)):
        click.echo(shown.line(fact))


@group.command("split")
@click.argument("source")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", "outs", type=FilePath, nargs=2, required=True, metavar="A B", help="The two new folders.")
def split(source: str, seed: int, outs: tuple[Path, Path]) -> None:
    """Split a trace into two halves by prompt."""
    from metasd.traces import split as divide
    from metasd.traces.find import folder_of

    divide(folder_of(source), seed, *outs)


@group.command("pack")
@click.argument("source")
@click.option("--out", type=FilePath, required=True, help="Folder of the packed trace.")
def pack(source: str, out: Path) -> None:
    """Write a trace anew, compressed to a fifth: for sending and shipping. It opens like any other."""
    from metasd.traces import open_trace, save_trace
    from metasd.traces.find import folder_of
    from metasd.traces.reader import read_index

    folder = folder_of(source)
    if not read_index(folder).complete:
        raise UsageError(f"the recording {source} is not complete; finish it with metasd record --resume")
    trace = open_trace(folder, include_unaligned=True)
    save_trace(trace, out, packed=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    click.echo(shown.line(f"{out}: {len(trace)} prompts, {len(trace.tokens)} positions, {size / 1e6:.2f} MB"))


@group.command("import")
@click.argument("form", metavar="FORMAT")
@click.argument("path", type=FilePath)
@click.option("--out", type=FilePath, required=True, help="Folder of the new trace.")
@click.option("--tokenizer", metavar="NAME", help="The target's, to be kept by name; metasd trace text reads it.")
@json_option
def import_(form: str, path: Path, out: Path, tokenizer: str | None, as_json: bool) -> None:
    """Import other people's traces: specdecode-bench, spec-bench or vllm."""
    from metasd.core.results import document
    from metasd.traces import describe, import_trace

    made = import_trace(form, path, out, tokenizer=tokenizer)
    for warning in made.warnings:
        click.echo(shown.line(f"warning: {warning}"), err=True)
    if as_json:
        extra = {"unaligned": made.unaligned, "warnings": made.warnings}
        emit(document("trace import", {"format": form, "path": path.name}, [], trace=describe(out), **extra))
    else:
        said = f"{out}: {made.prompts} prompts, {made.rows} positions, {made.unaligned} prompts unaligned"
        click.echo(shown.line(said))


@group.command("text")
@click.argument("source")
@click.option("--tokenizer", metavar="NAME", help="Hub id or folder. Default: the one that the trace names.")
def text(source: str, tokenizer: str | None) -> None:
    """Keep the text of a trace's tokens with it, so that reports show words. Recordings have it already."""
    from metasd.cli.spell import spell

    click.echo(shown.line(spell(source, tokenizer)))


@group.command("export")
@click.argument("source")
@click.option("--to", "form", type=click.Choice(["parquet"]), required=True, help="Format.")
@click.option("--out", type=FilePath, metavar="FILE", help="File to write. Default: NAME.parquet, in this folder.")
@unaligned_option
def export(source: str, form: str, out: Path | None, include_unaligned: bool) -> None:
    """Write a trace as a table, one row a prompt, position and drafter. Needs the extra metasd[parquet]."""
    from metasd.core import files
    from metasd.traces import open_trace
    from metasd.traces.export import to_parquet

    trace = open_trace(source, include_unaligned=include_unaligned)
    out = out or Path(f"{trace.name.replace(' ', '-')}.{form}")
    files.check_place(out)
    click.echo(shown.line(f"{out}: {to_parquet(trace, out)} rows"))


@group.command("synth")
@click.argument("kind")
@click.option("--out", type=FilePath, required=True, help="Folder of the new trace.")
@click.option("--prompts", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--length", type=click.IntRange(1, LONGEST_TEXT), default=256, show_default=True, help="Tokens of a text."
)
@click.option("--arms", type=click.IntRange(1, 64), default=5, show_default=True, help="Drafters.")
@click.option("--draft-length", type=click.IntRange(1, 64), default=5, show_default=True)
@click.option("--free", type=click.IntRange(min=0), default=0, show_default=True, help="Drafters that are no models.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def synth(kind: str, out: Path, **settings: int) -> None:
    """Make a synthetic trace: iid, two-language, drift, alternation, flip or ties."""
    from metasd.traces import synth as make

    make(kind, out, **settings)
