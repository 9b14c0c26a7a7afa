"""The table people read, from the rows machines read: one implementation for ``run``, ``replay`` and ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metasd.core import shown
from metasd.core.results import ALL
from metasd.report.cells import words

Column = tuple[str, str, str, float]
"""Heading, key of the row, format, and what its value is multiplied by."""

# A column whose values are all unknown, or that counts what never happened, is left out.
_COLUMNS: tuple[Column, ...] = (
    ("tokens\nper s", "tokens_per_second", ",.1f", 1),
    ("speed-up\n(times)", "speedup", ".2f", 1),
    ("lowest,\nhighest", "spread", "", 1),
    ("same\ntext", "same", "", 1),
    ("first\ntoken, s", "first_token_seconds", ",.2f", 1),
    ("prefill\ntokens/s", "prefill_tokens_per_second", ",.0f", 1),
    ("drafters'\nstart, ms", "begin_seconds", ",.0f", 1000),
    ("tokens\n/round", "tokens_per_round", ".2f", 1),
    ("drafts\nkept", "acceptance", ".0%", 1),
    ("rounds", "rounds", ",.0f", 1),
    ("regret,\nrounds", "regret_rounds", "+,.1f", 1),
    ("of\noptimum", "fraction", ".1%", 1),
    ("switches", "switches", ",.0f", 1),
    ("re-read\ntokens", "catch_up", ",.0f", 1),
)
_LEAST = ("switches", "catch_up", "begin_seconds", "acceptance", "tokens_per_round", "prefill_tokens_per_second")
"""What is left out first where a table would not fit; ``--json`` has all of it."""
WIDTH = 100
"""Columns of a terminal that every table fits in."""
_KEPT = " (kept)"


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
    """Print ``rows`` (metasd.core.results.row): the totals, and below them one table a domain unless told not to.

    Where a policy played several arms, a line below the table says which, and how often.
    """
    names = [d for d in dict.fromkeys(r["domain"] for r in rows) if d != ALL]
    for domain in [ALL, *(names if domains and len(names) > 1 else [])]:
        those = [r for r in rows if r["domain"] == domain]
        console.print(_table(domain, those, console.width))
        for r in those:
            if sum(n > 0 for n in r["arms"].values()) > 1:
                console.print(words(f"{_label(r)} played {shares(r['arms'])}", "dim", None), soft_wrap=False)
    if any(_label(r).endswith(_KEPT) for r in rows):
        console.print(Text("(kept): keeps what it learned from prompt to prompt; others start anew.", style="dim"))


def _label(row: Mapping[str, Any]) -> str:
    return shown.line(row["policy"]) + ("" if row["reset"] == "prompt" else _KEPT)


def _table(domain: str, rows: Sequence[Mapping[str, Any]], width: int) -> Table:
    cells = [dict(r) | {"fraction": fraction(r), "same": same_text(r), "spread": _spread(r)} for r in rows]
    columns = [c for c in _COLUMNS if any(r.get(c[1]) is not None for r in cells) and not _idle(c[1], cells)]
    columns = _fitting(columns, cells, width)
    prompts = rows[0]["prompts"] if rows else 0
    title = f"{'all domains' if domain == ALL else shown.name(domain)}, {prompts} prompt{'s' if prompts != 1 else ''}"
    table = Table(title=words(title, "bold", None), title_justify="left", box=None, pad_edge=False)
    table.add_column("policy", overflow="fold", vertical="bottom")
    for heading, _, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for r in cells:
        values = [_cell(r.get(key), spec, scale) for _, key, spec, scale in columns]
        table.add_row(words(_label(r)), *values)
    return table


def _fitting(columns: list[Column], rows: Sequence[Mapping[str, Any]], width: int) -> list[Column]:
    """``columns`` without those that matter least, as far as the table would be wider than ``width``."""
    room = width - max((len(_label(r)) for r in rows), default=0) - 1
    for least in _LEAST:
        if sum(_width(c, rows) for c in columns) <= room:
            break
        columns = [c for c in columns if c[1] != least]
    return columns


def _width(column: Column, rows: Sequence[Mapping[str, Any]]) -> int:
    heading, key, spec, scale = column
    shown = [*heading.split("\n"), *(_cell(r.get(key), spec, scale) for r in rows)]
    return max(map(len, shown)) + 2


def _cell(value: Any, spec: str, scale: float) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else format(value * scale, spec)


def _spread(row: Mapping[str, Any]) -> str | None:
    """The least and the most of the repetitions' speed-ups."""
    if row.get("repeats", 1) < 2 or row["speedup"] is None:
        return None
    return f"{row['speedup_low']:.2f}, {row['speedup_high']:.2f}"


def _idle(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a column counts what never happened."""
    return key in ("switches", "catch_up") and not any(r[key] for r in rows)
