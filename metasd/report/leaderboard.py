"""The leaderboard of a comparison on a terminal, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.core import shown
from metasd.core.results import ALL
from metasd.report.cells import words

_LATER = {"best fixed arm", "best fixed arm of each domain", "best fixed arm of each prompt", "clairvoyant optimum"}


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print one table a trace (and one over all traces), best policy first, comparators below."""
    reference = document["config"]["reference"]
    for trace in dict.fromkeys(r["trace"] for r in document["results"]):
        rows = [r for r in document["results"] if r["trace"] == trace and r["domain"] == ALL]
        beside = [c for c in document["comparators"] if c["trace"] == trace and c["comparator"] in _LATER]
        console.print(_table(trace, sorted(rows, key=lambda r: -(r["tokens_per_round"] or 0)), beside, reference))
    for skipped in document["skipped"]:
        left_out = f"left out: {skipped['policy']} on {skipped['trace']} ({skipped['reason']})"
        console.print(words(left_out, "dim", None))


def _table(trace: str, rows: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]], reference: str) -> Table:
    timed = any(r["regret_seconds"] is not None for r in rows)
    prompts, seeds = (rows[0]["prompts"], rows[0]["seeds"]) if rows else (0, 0)
    name = "all traces" if trace == ALL else trace
    table = Table(
        title=words(f"{shown.name(name)}: {prompts} prompts, {seeds} seeds, 95 % intervals by prompt", "bold", None),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("policy", overflow="fold")
    headings = ["tokens/round", "of optimum", f"vs {reference}", "regret", "regret s", "switches"]
    for heading in headings:
        if timed or heading != "regret s":
            table.add_column(words(heading), justify="right", overflow="fold")
    for r in rows:
        cells = _cells(r)
        label = r["policy"] + ("" if r["reset"] == "prompt" else " (kept)")
        table.add_row(words(label), *_without(cells, timed))
    for c in beside:
        label = c["comparator"] + (f": {c['arm']}" if c["arm"] else "")
        cells = [spread(c, "tokens_per_round", ".2f"), spread(c, "fraction_of_optimum", ".1%"), "", "", "", ""]
        table.add_row(words(label), *_without(cells, timed), style="dim")
    return table


def _cells(row: Mapping[str, Any]) -> list[str]:
    paired = row["paired"]
    difference = {"d": paired["tokens_per_round"], "intervals": {"d": paired["tokens_per_round_interval"]}}
    return [
        spread(row, "tokens_per_round", ".2f"),
        spread(row, "fraction_of_optimum", ".1%"),
        spread(difference, "d", "+.2f"),
        spread(row, "regret_rounds", "+,.1f"),
        spread(row, "regret_seconds", "+,.2f"),
        format(row["switches"], ",.0f"),
    ]


def _without(cells: list[str], timed: bool) -> list[str]:
    return cells if timed else [*cells[:4], *cells[5:]]


def spread(row: Mapping[str, Any], key: str, spec: str) -> str:
    """``value [low, high]``, ``-`` where unknown."""
    if row[key] is None:
        return "-"
    interval = row["intervals"].get(key)
    around = "" if interval is None else f" [dim]\\[{format(interval[0], spec)}, {format(interval[1], spec)}][/]"
    return format(row[key], spec) + around
