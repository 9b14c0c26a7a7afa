"""The rows of ``metasd bench serve``: a table for the terminal, and one SVG of throughput and latency. No script."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table

from metasd.core import shown
from metasd.report.cells import words

Rows = Sequence[Mapping[str, Any]]

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 210, 60, 58, 20
"""Pixels of a panel's axes, of what is left of and above them, and around."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999")
_TEXT = 'font-family="sans-serif" font-size="11" fill="#222"'
_COLUMNS = (
    ("tokens/s", ("tokens_per_second",), 1.0, ".1f"),
    ("first token, ms, p50 / p99", ("first_token_seconds_p50", "first_token_seconds_p99"), 1e3, ".0f"),
    ("per token, ms, p50 / p99", ("token_seconds_p50", "token_seconds_p99"), 1e3, ".1f"),
    ("request, s, p50 / p99", ("request_seconds_p50", "request_seconds_p99"), 1.0, ".2f"),
    ("accepted", ("acceptance",), 1.0, ".1%"),
)
_PANELS = (
    ("tokens per second", "tokens_per_second", 1.0),
    ("ms per output token, median", "token_seconds_p50", 1e3),
    ("ms to the first token, median", "first_token_seconds_p50", 1e3),
)


def show(rows: Rows, console: Console) -> None:
    """Print the rows, a line each."""
    table = Table(title="servers", title_justify="left")
    for name in ("server", "at a time", "failed", *(heading for heading, *_ in _COLUMNS)):
        table.add_column(name, justify="left" if name == "server" else "right", no_wrap=name == "server")
    for row in rows:
        cells = [_cell(row, keys, scale, form) for _, keys, scale, form in _COLUMNS]
        table.add_row(words(row["server"]), str(row["concurrency"]), str(row["failed"]), *cells)
    console.print(table)


def _cell(row: Mapping[str, Any], keys: Sequence[str], scale: float, form: str) -> str:
    return " / ".join("-" if row[key] is None else f"{row[key] * scale:{form}}" for key in keys)


def figure(rows: Rows) -> str:
    """Panels over concurrency, a line a server."""
    servers = list(dict.fromkeys(row["server"] for row in rows))
    panel = LEFT + WIDTH + GAP
    width, height = len(_PANELS) * panel, TOP + HEIGHT + 46
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for n, server in enumerate(servers):
        x, colour = 8 + n * 220, _colour(n)
        made.append(f'<path d="M{x} 14h18" stroke="{colour}" stroke-width="2.5"/>')
        made.append(f'<text x="{x + 24}" y="18" {_TEXT}>{escape(shown.line(server, 32))}</text>')
    for n, (title, key, scale) in enumerate(_PANELS):
        made += _panel(rows, servers, n * panel + LEFT, title, key, scale)
    return "\n".join([*made, "</svg>"]) + "\n"


def _panel(rows: Rows, servers: Sequence[str], left: int, title: str, key: str, scale: float) -> list[str]:
    levels = sorted({row["concurrency"] for row in rows})
    most = max((row[key] * scale for row in rows if row[key] is not None), default=0.0) or 1.0
    top, bottom = _round_up(most), TOP + HEIGHT

    def x(level: int) -> float:
        low, high = math.log2(levels[0]), math.log2(levels[-1])
        return left + (WIDTH / 2 if low == high else WIDTH * (math.log2(level) - low) / (high - low))

    def y(value: float) -> float:
        return bottom - HEIGHT * value / top

    made = [f'<text x="{left}" y="{TOP - 12}" {_TEXT} font-weight="bold">{title}</text>']
    made += [f'<path d="M{left} {TOP}V{bottom}H{left + WIDTH}" fill="none" stroke="#222"/>']
    for value in (0.0, top / 2, top):
        made.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end" {_TEXT}>{value:g}</text>')
    for level in levels:
        made.append(f'<text x="{x(level):.1f}" y="{bottom + 16}" text-anchor="middle" {_TEXT}>{level}</text>')
    made.append(
        f'<text x="{left + WIDTH / 2}" y="{bottom + 34}" text-anchor="middle" {_TEXT}>requests at a time</text>'
    )
    for n, server in enumerate(servers):
        mine = [r for r in rows if r["server"] == server and r[key] is not None]
        made += _line(sorted((r["concurrency"], r[key] * scale) for r in mine), x, y, _colour(n))
    return made


def _line(
    points: Sequence[tuple[int, float]], x: Callable[[int], float], y: Callable[[float], float], colour: str
) -> list[str]:
    if not points:
        return []
    at = [f"{x(level):.1f} {y(value):.1f}" for level, value in points]
    dots = [f'<circle cx="{p.split()[0]}" cy="{p.split()[1]}" r="3" fill="{colour}"/>' for p in at]
    return [f'<path d="M{"L".join(at)}" fill="none" stroke="{colour}" stroke-width="2"/>', *dots]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
