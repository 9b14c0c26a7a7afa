"""What a recording and a trace are, as tables with units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.report.cells import words


def show_trace(facts: Mapping[str, Any], console: Console) -> None:
    """Print what ``metasd.traces.describe`` says: the trace, its configuration, drafters and domains."""
    state = "complete" if facts["complete"] else "not complete; metasd record --resume goes on"
    pairs = {
        "folder": facts["path"],
        "state": state + ("" if facts["exact"] else ", approximate: visited positions only"),
        "size": f"{facts['bytes'] / 1e6:,.1f} MB in {facts['shards']} shards, schema {facts['schema']}",
        "prompts": f"{facts['prompts']:,} ({facts['unaligned']:,} of them unaligned)",
        "positions": f"{facts['rows']:,} tokens of answers",
        "arms": ", ".join(facts["arms"]),
        "also holds": ", ".join([*facts["fields"], *(name for name in ("costs", "texts") if facts[name])])
        or "nothing else",
    }
    _print_pairs("trace", pairs, console)
    _print_pairs("recorded with", _flat(facts["config"]) | _flat(facts["versions"] or {}), console)
    _print_rows("drafters", facts["drafters"], _DRAFTER, console)
    alike = sorted((row for row in facts["alike"] if row["same"]), key=lambda row: -row["same"])
    if alike:
        _print_rows("drafters that propose the same, closest first", alike[:_PAIRS], _ALIKE, console)
    domains = [{"domain": name} | dict(row) for name, row in facts["domains"].items()]
    _print_rows("domains", domains, _DOMAIN, console)


_DRAFTER = (
    ("drafter", "name", ""),
    ("kind", "kind", ""),
    ("draft length", "draft_length", ""),
    ("has a proposal, of positions", "coverage", ".1%"),
    ("accepted of a draft, tokens", "accepted", ".2f"),
)
_ALIKE = (
    ("drafter", "drafter", ""),
    ("and", "other", ""),
    ("same first token", "same", ".1%"),
    ("of positions where both propose", "positions", ",d"),
    ("of those where either does", "shared", ".1%"),
)
_PAIRS = 5
_DOMAIN = (("domain", "domain", ""), ("prompts", "prompts", ",d"), ("tokens", "rows", ",d"))


def show_recording(summary: Mapping[str, Any], console: Console) -> None:
    """Print the summary of ``metasd record``."""
    wrong = summary["mismatched_prompts"]
    pairs = {
        "prompts": f"{summary['prompts']:,} ({summary['resumed']:,} were there already)",
        "positions": f"{summary['rows']:,} tokens of answers, {summary['tokens']:,} of them from this run",
        "size": f"{summary['bytes'] / 1e6:,.1f} MB",
        "time": f"{summary['seconds']:,.1f} s",
    }
    if summary["ratio"] is not None:
        pairs["against plain decoding"] = f"{summary['ratio']:.1f} times its {summary['plain_seconds']:,.1f} s"
    pairs["clock"] = (
        "not measured"
        if summary["costs_error"] is None
        else f"modelled seconds are {summary['costs_error']:.1%} off the measured ones (median)"
    )
    pairs["narrow against wide passes"] = (
        f"{summary['mismatches']:,} tokens differ, in {', '.join(f'{p} ({n})' for p, n in wrong.items())}"
        if wrong
        else "every token agrees"
    )
    _print_pairs("recording", pairs, console)
    stages = [{"stage": k.replace("_", " "), "seconds": v} for k, v in summary["stages"].items()]
    _print_rows("where the time went", stages, (("work", "stage", ""), ("seconds", "seconds", ",.2f")), console)
    packed = [
        {"model": k, "read": "in wide passes" if v else "position by position"} for k, v in summary["packed"].items()
    ]
    _print_rows("how models were read", packed, (("model", "model", ""), ("read", "read", "")), console)


def show_tables(tables: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what ``metasd distill`` made, one row a table."""
    rows = [dict(t) | {"megabytes": t["bytes"] / 1e6} for t in tables]
    _print_rows("tables of the target's own answers", rows, _TABLE, console)


_TABLE = (
    ("domain", "domain", ""),
    ("file", "file", ""),
    ("size, MB", "megabytes", ",.1f"),
    ("runs known", "entries", ",d"),
    ("answers", "answers", ",d"),
    ("tokens", "tokens", ",d"),
    ("ended", "ended", ",d"),
    ("cut by limit", "limit", ",d"),
    ("looped", "looped", ",d"),
)


def show_trained(kind: str, made: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the heads or models that ``metasd distill`` made, with what they do on held-out answers of every domain."""
    rows = [dict(h) | {"megabytes": h["bytes"] / 1e6} for h in made]
    domains = list(dict.fromkeys(d for h in made for d in h["acceptance"]))
    for row in rows:
        row |= {f"on {d}": found["tokens_per_round"] for d, found in row["acceptance"].items()}
    columns = (*_TRAINED, *((f"on {d}", f"on {d}", ".2f") for d in domains))
    _print_rows(f"trained {kind}: tokens a round on held-out answers", rows, columns, console)


_TRAINED = (
    ("domain", "domain", ""),
    ("size, MB", "megabytes", ",.1f"),
    ("answers", "answers", ",d"),
    ("tokens", "tokens", ",d"),
    ("held out", "held_out", ",d"),
    ("loss", "loss", ".3f"),
    ("seconds", "seconds", ",.0f"),
)


def show_forecasts(forecasts: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what replays promised of a run, one row a policy; nothing where there was no clock."""
    known = [dict(f) for f in forecasts if f["predicted"] is not None]
    if known:
        _print_rows("replay's clock against live", known, _FORECAST, console)


_FORECAST = (
    ("policy", "policy", ""),
    ("predicted, tokens/s", "predicted", ",.1f"),
    ("live, tokens/s", "live", ",.1f"),
    ("error", "error", "+.1%"),
)


def _flat(data: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested settings as ``outer.inner``; what is unknown or empty is left out."""
    found: dict[str, str] = {}
    for key, value in data.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}: ")
        elif value is not None and value != []:
            found[name] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _print_pairs(title: str, pairs: Mapping[str, str], console: Console) -> None:
    table = _empty(title, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in pairs.items():
        table.add_row(words(key), words(value, limit=None))
    console.print(table)


def _print_rows(
    title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[tuple[str, str, str]], console: Console
) -> None:
    table = _empty(title)
    for heading, _, spec in columns:
        table.add_column(heading, justify="right" if spec else "left", overflow="fold")
    for row in rows:
        table.add_row(*(words("-" if row.get(key) is None else format(row[key], spec)) for _, key, spec in columns))
    console.print(table)


def _empty(title: str, *, show_header: bool = True) -> Table:
    style = {"title_justify": "left", "title_style": "bold", "box": None, "pad_edge": False}
    return Table(title=title, show_header=show_header, **style)  # type: ignore[arg-type]
