"""``metasd record``: capture what every drafter of a pool would do at every position."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import PROMPTS_HELP, FilePath, emit, json_option, loading_options, model_options, result_console
from metasd.core import shown
from metasd.core.pool import DRAFT_LENGTH
from metasd.core.results import document

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.runtime.group import Group


@click.command("record")
@click.option("--prompts", "prompt_file", type=FilePath, required=True, help=PROMPTS_HELP)
@click.option("--out", type=FilePath, required=True, help="Folder of the new trace.")
@click.option("--resume", is_flag=True, help="Go on with a recording that was interrupted.")
@model_options
@loading_options
@json_option
def command(prompt_file: Path, out: Path, resume: bool, as_json: bool, **options: Any) -> None:
    """Record the target's own text and, at every position, what every drafter would have done.

    Under torchrun the prompts are shared among the processes, all of which write into one trace.
    """
    from metasd.cli import together

    with together.joined() as group:
        if group is not None:
            together.check_prompts(prompt_file)
            options["device"] = together.own_device(options["device"], group)
        models, summary = _recorded(prompt_file, out, resume, group, options)
        if group is not None and group.rank:
            return
    if as_json:
        emit(document("record", models.config, [], record=summary))
        return
    from metasd.report.facts import show_recording

    show_recording(summary, result_console())
    click.echo(shown.line(f"trace: {out}"))


def _recorded(
    prompt_file: Path, out: Path, resume: bool, group: Group | None, options: dict[str, Any]
) -> tuple[Models, dict[str, Any]]:
    """The models, and what the recorder says of the trace. All processes of ``group`` print one moment as the date."""
    from metasd.cli.models import open_models
    from metasd.record.run import record
    from metasd.runtime import moment
    from metasd.traces.writer import begun, check_free

    if group is None or not group.rank:
        check_free(out, resume)
    if options["draft_length"] is None:
        options["draft_length"] = DRAFT_LENGTH  # one block a drafter, of which every shorter one can be replayed
    when = begun(out) if resume else None
    if group is not None:
        when = group.shared("moment", lambda: when or moment.now().isoformat())
    with moment.at(when):
        models = open_models(prompt_file=prompt_file, **options)
        drafters, pool = models.build()
        summary = record(
            models.target,
            drafters,
            pool,
            models.texts,
            out,
            max_new_tokens=options["max_new_tokens"],
            sampling=models.sampling,
            seed=options["seed"],
            raw=options["raw"],
            resume=resume,
            stops=models.stops,
            group=group,
        )
    return models, summary
