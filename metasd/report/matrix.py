"""A pool of specialists as tables and as a heat map: what each is, and how it does in every domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.report.cells import words
from metasd.report.heatmap import heatmap

_MEMBER = (
    ("specialist", "kind", ""),
    ("domain", "domain", ""),
    ("file", "file", ""),
    ("size, MB", "megabytes", ",.1f"),
    ("answers", "answers", ",d"),
    ("tokens", "tokens", ",d"),
    ("drafter of the trace", "drafter", ""),
    ("a token costs, of a pass", "token_cost", ".4f"),
)


def show_members(facts: Mapping[str, Any], members: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what the pool is made for and from, and one row a specialist."""
    made = "complete" if facts["complete"] else "not complete: distilling was interrupted"
    trained = facts["set"] or f"prompts {str(facts['prompts'])[:12]}"
    console.print(words(f"for {facts['target']}, answers to {trained}, {made}", "bold", None))
    rows = [dict(m) | {"megabytes": None if m["bytes"] is None else m["bytes"] / 1e6} for m in members]
    columns = [c for c in _MEMBER if any(r.get(c[1]) is not None for r in rows)]
    table = Table(box=None, pad_edge=False)
    for heading, _, spec in columns:
        table.add_column(heading, justify="right" if spec else "left", overflow="fold")
    for row in rows:
        table.add_row(*(words("-" if row.get(key) is None else format(row[key], spec)) for _, key, spec in columns))
    console.print(table)


def show_matrix(
    cells: Sequence[Mapping[str, Any]],
    members: Sequence[Mapping[str, Any]],
    crossings: Sequence[Mapping[str, Any]],
    console: Console,
) -> None:
    """Print tokens per round by domain and arm, the specialist's own domain marked, then what that gains."""
    domains, arms, values, notes, own = _grid(cells, members)
    table = Table(title="tokens per round (* own domain)", title_justify="left", box=None, pad_edge=False)
    table.add_column("arm", overflow="fold")
    for domain in domains:
        table.add_column(words(domain), justify="right", overflow="fold")
    for c, arm in enumerate(arms):
        cells_of = [f"{values[r][c]:.2f}{'*' if (r, c) in own else ''}\n{notes[r][c]}" for r in range(len(domains))]
        table.add_row(words(arm), *cells_of)
    console.print(table)
    for row in crossings:
        interval = "no interval" if row["interval"] is None else "{:.2f} to {:.2f}".format(*row["interval"])
        against = "the best foreign one" if row["against"] == "foreign" else "one for all"
        line = f"{row['drafter']} on {row['domain']}: {row['times']:.2f} times {row['other']}, {against} ({interval})"
        console.print(words(line, "", None))


def picture(title: str, cells: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]) -> str:
    """The matrix as an SVG heat map, every specialist's own domain framed."""
    domains, arms, values, notes, own = _grid(cells, members)
    return heatmap(title, domains, arms, values, notes=notes, framed=own)


Grid = tuple[list[str], list[str], list[list[float | None]], list[list[str]], set[tuple[int, int]]]


def _grid(cells: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]) -> Grid:
    """Domains, arms, values and intervals by domain and arm, and the cells of specialists on their own domain."""
    domains, arms = list(dict.fromkeys(c["domain"] for c in cells)), list(dict.fromkeys(c["arm"] for c in cells))
    of = {(c["domain"], c["arm"]): c for c in cells}
    mine = {m["drafter"]: m["domain"] for m in members if m["drafter"]}
    values = [[of[d, a]["tokens_per_round"] for a in arms] for d in domains]
    ends = [[of[d, a]["interval"] for a in arms] for d in domains]
    notes = [["" if e is None else "{:.2f}-{:.2f}".format(*e) for e in row] for row in ends]
    own = {(r, c) for r, d in enumerate(domains) for c, a in enumerate(arms) if mine.get(of[d, a]["drafter"]) == d}
    return domains, arms, values, notes, own
