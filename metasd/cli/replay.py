"""``metasd replay``: policies on a recorded trace, without torch."""

from __future__ import annotations

from pathlib import Path

import click

from metasd.cli.common import (
    COSTS_HELP,
    POLICY_HELP,
    emit,
    json_option,
    load_costs,
    load_prior,
    prior_option,
    reset_option,
    result_console,
    say_approximate,
    seeds_option,
    trace_option,
    unaligned_option,
)
from metasd.core import shown


@click.command("replay")
@trace_option
@click.option("--policy", "specs", multiple=True, required=True, metavar="SPEC", help=f"{POLICY_HELP} (repeat).")
@seeds_option(1)
@click.option("--draft-length", type=int, help="Cut every arm to this draft length. Default: as recorded.")
@click.option("--costs", type=click.Path(path_type=Path), help=COSTS_HELP)
@reset_option
@prior_option
@unaligned_option
@json_option
def command(
    source: str,
    specs: tuple[str, ...],
    seeds: int,
    draft_length: int | None,
    costs: Path | None,
    reset: str | None,
    prior: Path | None,
    include_unaligned: bool,
    as_json: bool,
) -> None:
    """Replay policies on a trace and print what they would have reached."""
    from metasd.core.results import document
    from metasd.report.terminal import show
    from metasd.sim.oracle.regret import rows as rows_of
    from metasd.sim.replay.run import replay
    from metasd.traces import open_trace
    from metasd.traces.alike import nearly_one, sentences

    trace = open_trace(source, include_unaligned=include_unaligned)
    clock = load_costs(costs)
    learned = load_prior(prior)
    outcomes = [
        replay(trace, spec, seeds=seeds, reset=reset, draft_length=draft_length, prior=learned, costs=clock)
        for spec in specs
    ]
    rows = [row for outcome in outcomes for row in rows_of(outcome)]
    if not trace.exact:
        say_approximate(trace.manifest["approximation"])
    notes = sentences(nearly_one(trace))
    if not as_json:
        show(rows, result_console())
        for note in notes:
            click.echo(shown.line(note))
        return
    config = {
        "trace": trace.name,
        "exact": trace.exact,
        "seeds": seeds,
        "draft_length": draft_length,
        "prior": prior.name if prior else None,
        "include_unaligned": include_unaligned,
        "policies": [outcome.settings for outcome in outcomes],
    }
    emit(document("replay", config, rows, notes=notes))
