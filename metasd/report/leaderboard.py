"""The leaderboard of a comparison on a terminal, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from metasd.core import shown
from metasd.core.pool import PLAIN
from metasd.core.results import ALL, SIGNIFICANT
from metasd.report.cells import words

# (heading, key, format); a column whose values are all unknown is left out.
_IN_SECONDS = (
    ("tokens/s", "tokens_per_second", ".1f"),
    ("x plain", "speedup", ".2f"),
    ("of optimum", "fraction_of_optimum_seconds", ".1%"),
    ("vs {reference}", "difference", "+.1f"),
    ("tokens/round", "tokens_per_round", ".2f"),
    ("regret s", "pseudo_regret_seconds", "+,.1f"),
)
_IN_ROUNDS = (
    ("tokens/round", "tokens_per_round", ".2f"),
    ("of optimum", "fraction_of_optimum", ".1%"),
    ("vs {reference}", "difference", "+.2f"),
    ("regret rounds", "pseudo_regret_rounds", "+,.1f"),
    ("switches", "switches", ",.0f"),
)
_WITH_INTERVAL = {"difference"}  # the JSON has them all; a terminal has 100 columns


def show(document: Mapping[str, Any], console: Console, *, by_domain: bool = False) -> None:
    """Print one table a trace (and one over all traces), best policy first, comparators below.

    Best is fastest where a clock is known, and fewest rounds where not.
    by_domain: also one a domain of each trace.
    """
    reference = document["config"]["reference"]
    for trace in dict.fromkeys(r["trace"] for r in document["results"]):
        those = [r for r in document["results"] if r["trace"] == trace]
        beside = [c for c in document["comparators"] if c["trace"] == trace and shown_beside(c)]
        name = "all traces" if trace == ALL else trace
        console.print(_table(name, ranked([r for r in those if r["domain"] == ALL]), beside, reference))
        for domain in dict.fromkeys(r["domain"] for r in those if by_domain and r["domain"] != ALL):
            console.print(
                _table(f"{name}, {domain}", ranked([r for r in those if r["domain"] == domain]), [], reference)
            )
    several = len(document["traces"]) > 1
    for trace in document["traces"]:
        for note in trace["notes"]:
            console.print(words(f"{trace['name']}: {note}" if several else note, "dim", None))
    for skipped in document["skipped"]:
        left_out = f"left out: {skipped['policy']} on {skipped['trace']} ({skipped['reason']})"
        console.print(words(left_out, "dim", None))


def rate_of(row: Mapping[str, Any]) -> str:
    """The rate that ranks ``row``: tokens a second where a clock is known, else tokens a round."""
    timed = row["currency"] == "seconds" if "currency" in row else row["tokens_per_second"] is not None
    return "tokens_per_second" if timed else "tokens_per_round"


def ranked(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """``rows``, best first."""
    return sorted(rows, key=lambda r: -(r[rate_of(r)] or 0))


def shown_beside(comparator: Mapping[str, Any]) -> bool:
    """Whether a table shows the comparator: the best ones, and of the arms plain decoding."""
    return bool(comparator["comparator"] != "fixed arm" or comparator["arm"] == PLAIN)


def _table(name: str, rows: Sequence[Mapping[str, Any]], beside: Sequence[Mapping[str, Any]], reference: str) -> Table:
    timed = any(r["currency"] == "seconds" for r in rows)
    prompts, seeds = (rows[0]["prompts"], rows[0]["seeds"]) if rows else (0, 0)
    table = Table(
        title=words(f"{shown.name(name)}: {prompts} prompts, {seeds} seeds, {_intervals(rows)}", "bold", None),
        caption=_caption(rows, reference),
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("policy", overflow="fold")
    columns = _IN_SECONDS if timed else _IN_ROUNDS
    for heading, _, _ in columns:
        table.add_column(words(heading.format(reference=reference)), justify="right", no_wrap=True)
    for r in rows:
        label = r["policy"] + ("" if r["reset"] == "prompt" else " *")
        table.add_row(words(label), *(_cell(_with_difference(r), key, spec) for _, key, spec in columns))
    for c in beside:
        label = c["comparator"] + (f": {c['arm']}" if c["arm"] else "")
        table.add_row(words(label), *(_cell(c, key, spec) for _, key, spec in columns), style="dim")
    return table


def _caption(rows: Sequence[Mapping[str, Any]], reference: str) -> Text | None:
    lines = (
        ["* keeps what it learned from prompt to prompt: its intervals cover runs too, a single run has none."]
        if any(r["reset"] != "prompt" for r in rows)
        else []
    )
    if bound := bound_words(rows):
        lines.append(bound)
    if rows:
        lines.append("Regret is to the best fixed arm of all prompts.")
    same = [r["policy"] for r in rows if r["runs"]["alike"]]
    if same:
        lines.append(f"Seeds change nothing for {', '.join(same)}.")
    unclear = [r["policy"] for r in rows if (r["paired"]["p_holm"] or 0) > SIGNIFICANT]
    if unclear:
        lines.append(f"Not told from {reference} (5 %, Holm): {', '.join(unclear)}.")
    return words(" ".join(lines), "dim", None) if lines else None


def bound_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far the optimum in seconds may lie below the best schedule; empty where it is exact or no clock is known."""
    if not any(r.get("oracle_seconds") for r in rows) or all(r["oracle_seconds_exact"] for r in rows):
        return ""
    gap = max(r["oracle_seconds_gap"] or 0.0 for r in rows)
    return f"The optimum in seconds is a lower bound, so shares of it are too: at most {gap:.1%} below the best."


def _intervals(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the table's intervals are, or why it has none."""
    if rows and rows[0]["prompts_missing"]:
        return f"no intervals ({withheld(rows[0])})"
    return "95 % intervals by prompt"


def withheld(row: Mapping[str, Any]) -> str:
    """What an interval of ``row`` would need, in words."""
    missing = row["prompts_missing"]
    if missing:
        return f"{missing} more prompt{'s' if missing > 1 else ''} needed"
    return "one more run (seed) needed" if row["interval_unit"] == "run" and row["seeds"] < 2 else "too little spread"


def _with_difference(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` with its difference to the reference, in the rate it is ranked by."""
    name, paired = rate_of(row), row["paired"]
    around = {**row["intervals"], "difference": paired[f"{name}_interval"]}
    return {**row, "difference": paired[name], "intervals": around}


def _cell(row: Mapping[str, Any], key: str, spec: str) -> str:
    if row.get(key) is None:
        return ""
    return spread(row, key, spec) if key in _WITH_INTERVAL else format(row[key], spec)


def spread(row: Mapping[str, Any], key: str, spec: str) -> str:
    """``value [low, high]``, ``-`` where unknown."""
    if row[key] is None:
        return "-"
    interval = row["intervals"].get(key)
    around = "" if interval is None else f" [dim]\\[{format(interval[0], spec)}, {format(interval[1], spec)}][/]"
    return format(row[key], spec) + around
