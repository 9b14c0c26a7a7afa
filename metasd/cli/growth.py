"""``metasd growth``: how fast a policy's regret grows on a trace, beside what theory allows."""

from __future__ import annotations

import click

from metasd.cli.common import emit, json_option, result_console, seeds_option, trace_option

_COLUMNS = (
    ("rounds", "rounds", ",.0f"),
    ("regret, tokens", "regret", ",.1f"),
    ("exponent", "exponent", ".2f"),
    ("± s.e.", "error", ".2f"),
    ("least (C ln T)", "least", ",.1f"),
    ("UCB bound, rounds", "bound", ",.0f"),
)


@click.command("growth")
@trace_option
@click.option("--policy", "specs", multiple=True, required=True, metavar="SPEC", help="name or name:key=value,...")
@seeds_option(1)
@json_option
def command(source: str, specs: tuple[str, ...], seeds: int, as_json: bool) -> None:
    """Growth of pseudo-regret: exponent c of R ~ T^c (0: logarithm, 1: linear), its lower bound, and UCB's bound."""
    import math

    from metasd.core.results import document
    from metasd.sim.theory.measure import measure
    from metasd.traces import open_trace

    trace = open_trace(source)
    found = [measure(trace, spec, seeds=seeds) for spec in specs]
    if as_json:
        emit(document("growth", {"trace": trace.name, "seeds": seeds}, found))
        return
    from rich.table import Table

    from metasd.report.cells import words

    table = Table(title=words(f"{trace.name}: {len(trace)} prompts, {seeds} seeds"), box=None, pad_edge=False)
    table.add_column("policy")
    for heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right")
    for row in found:
        row["least"] = row["lai_robbins"] * math.log(row["rounds"])
        values = ["-" if row[key] is None else format(row[key], spec) for _, key, spec in _COLUMNS]
        table.add_row(words(row["policy"]), *values)
    result_console().print(table)
