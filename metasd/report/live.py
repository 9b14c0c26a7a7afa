"""The tables of a live benchmark: everyone over all prompts, then everyone's speed in every domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.core.results import ALL
from metasd.report.cells import words

Row = Mapping[str, Any]
DOMAINS = 6
"""Domains side by side in one table."""

_COLUMNS = (
    ("tokens\nper s", "tokens_per_second", ",.1f", 1.0),
    ("lowest,\nhighest", "spread", "", 1.0),
    ("x gene-\nrate", "times_generate", ".2f", 1.0),
    ("x\nplain", "times_plain", ".2f", 1.0),
    ("same\ntext", "same", "", 1.0),
    ("tokens\n/round", "tokens_per_round", ".2f", 1.0),
    ("of roof-\nline", "of_roofline", ".0%", 1.0),
    ("outside\nmodels", "outside_models", ".1%", 1.0),
    ("peak,\nGB", "peak_bytes", ".2f", 1e-9),
)


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print the document of ``metasd bench live``: tables, the roofline, who did not take part, noise, sentences."""
    rows = document["results"]
    console.print(_totals([r for r in rows if r["domain"] == ALL]))
    names = [d for d in dict.fromkeys(r["domain"] for r in rows) if d != ALL]
    if len(names) > 1:
        for first in range(0, len(names), DOMAINS):
            console.print(_by_domain(rows, names[first : first + DOMAINS]))
    for line in lines(document):
        console.print(words(line, limit=None))


def lines(document: Mapping[str, Any]) -> list[str]:
    """What stands below the tables."""
    said = [_passes(document["passes"])] if document["passes"] else []
    for row in document["results"]:
        if row["domain"] == ALL and row["kind"] == "policy" and row["roofline"] is not None:
            allowed = f"{row['roofline']:.1f} tokens/s at {row['tokens_per_round']:.2f} tokens a round"
            reached = f"{row['reached']:.1f} (reading prompts left out)"
            said.append(f"{row['contender']}: passes alone allow {allowed}, reached {reached}")
    said += [f"left out: {s['contender']} ({s['why']})" for s in document["skipped"]]
    said += [f"failed: {f['contender']} ({f['error']})" for f in document["failed"]]
    heard = document["noise"]
    if heard is not None:
        said.append(
            f"noise: plain decoding and the same once more differ by {heard['typical']:.1%} "
            f"(at most {heard['most']:.1%}) in {heard['repeats']} repeats"
        )
    return said + list(document["verdicts"])


def _passes(passes: Mapping[str, Any]) -> str:
    told = ", ".join(f"{w}: {1000 * s:.1f}" for w, s in zip(passes["widths"], passes["seconds"], strict=True))
    return f"ms of a pass by width behind {passes['context']:.0f} tokens: {told}"


def _totals(rows: Sequence[Row]) -> Table:
    cells = [
        dict(r) | {"same": _same(r), "spread": f"{r['tokens_per_second_low']:.1f}, {r['tokens_per_second_high']:.1f}"}
        for r in rows
    ]
    columns = [c for c in _COLUMNS if any(r[c[1]] is not None for r in cells)]
    table = Table(title=_title(rows), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("contender", overflow="fold", vertical="bottom")
    for heading, _, _, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for r in cells:
        table.add_row(words(r["contender"]), *(_cell(r[key], spec, scale) for _, key, spec, scale in columns))
    return table


def _title(rows: Sequence[Row]) -> str:
    prompts, repeats = (max((r[key] for r in rows), default=0) for key in ("prompts", "repeats"))
    return (
        f"all prompts ({prompts}), medians of {repeats} repeats" if repeats != 1 else f"all prompts ({prompts}), once"
    )


def _by_domain(rows: Sequence[Row], names: Sequence[str]) -> Table:
    table = Table(title="tokens per s by domain", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("contender", overflow="fold")
    for name in names:
        table.add_column(words(name), justify="right", overflow="fold")
    speed = {(r["contender"], r["domain"]): r["tokens_per_second"] for r in rows}
    for contender in dict.fromkeys(r["contender"] for r in rows):
        table.add_row(words(contender), *(_cell(speed.get((contender, name)), ".1f", 1.0) for name in names))
    return table


def _same(row: Row) -> str | None:
    return None if row["same_text"] is None else f"{row['same_text']}/{row['prompts']}"


def _cell(value: Any, spec: str, scale: float) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else format(value * scale, spec)
