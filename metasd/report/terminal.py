"""The table people read, from the rows machines read: one implementation for ``run``, ``replay`` and ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.core import shown
from metasd.core.results import ALL
from metasd.report.cells import words

# (heading, key, format); a column whose values are all unknown is left out.
_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("tokens/s", "tokens_per_second", ".1f"),
    ("speed-up", "speedup", ".2f"),
    ("same text", "same", ""),
    ("tokens/round", "tokens_per_round", ".2f"),
    ("acceptance", "acceptance", ".0%"),
    ("rounds", "rounds", ",.0f"),
    ("regret", "regret_rounds", "+,.1f"),
    ("of optimum", "fraction", ".1%"),
    ("switches", "switches", ",.0f"),
    ("catch-up", "catch_up", ",.0f"),
)


def fraction(row: Mapping[str, Any]) -> float | None:
    """oracle_rounds / rounds: the share of the clairvoyant optimum that was reached."""
    return row["oracle_rounds"] / row["rounds"] if row["oracle_rounds"] and row["rounds"] else None


def same_text(row: Mapping[str, Any]) -> str | None:
    """Texts that are plain decoding's, of all; None where nothing was decoded plainly beside them."""
    return None if row.get("same_text") is None else f"{row['same_text']} of {row['prompts']}"


def shares(arms: Mapping[str, float]) -> str:
    """The arms played, as percentages of rounds, largest first."""
    total = sum(arms.values())
    played = sorted(((n, name) for name, n in arms.items() if n), key=lambda pair: -pair[0])
    return " ".join(f"{name} {n / total:.0%}" for n, name in played)


def show(rows: Sequence[Mapping[str, Any]], console: Console, *, domains: bool = True) -> None:
    """Print ``rows`` (metasd.core.results.row): the totals, and below them one table a domain unless told not to."""
    names = [d for d in dict.fromkeys(r["domain"] for r in rows) if d != ALL]
    for domain in [ALL, *(names if domains and len(names) > 1 else [])]:
        console.print(_table(domain, [r for r in rows if r["domain"] == domain]))


def _table(domain: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [dict(r) | {"fraction": fraction(r), "same": same_text(r)} for r in rows]
    columns = [c for c in _COLUMNS if any(r[c[1]] is not None for r in cells)]
    prompts = rows[0]["prompts"] if rows else 0
    title = f"{'all domains' if domain == ALL else shown.name(domain)}, {prompts} prompt{'s' if prompts != 1 else ''}"
    table = Table(title=words(title, "bold", None), title_justify="left", box=None, pad_edge=False)
    table.add_column("policy", overflow="fold")
    for heading, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("arms", overflow="fold", style="dim")
    for r in cells:
        values = ["-" if r[key] is None else format(r[key], spec) for _, key, spec in columns]
        label = f"{r['policy']}" + ("" if r["reset"] == "prompt" else " (kept)")
        table.add_row(words(label), *values, words(shares(r["arms"]), limit=None))
    return table
