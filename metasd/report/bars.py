"""A bar a contender as one SVG: medians with the least and the most, and what passes alone would allow. No script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from metasd.core import shown
from metasd.core.results import ALL

LEFT, WIDTH, ROW, TOP = 190, 760, 22, 56
"""Pixels of the names, of the whole, of a bar with its gap, above the first."""
_COLOURS = {"policy": "#0072b2", "arm": "#56b4e9", "plain": "#999999"}
_OTHER = "#d55e00"
_TEXT = 'font-family="sans-serif" font-size="12" fill="#222"'


def bars(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """The figure of result rows of ``metasd bench live``: of those over all domains, in their order."""
    whole = [r for r in rows if r["domain"] == ALL]
    most = max((max(r["tokens_per_second_high"], r["roofline"] or 0.0) for r in whole), default=1.0)
    scale = (WIDTH - LEFT - 70) / most
    height = TOP + ROW * len(whole) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" {_TEXT} font-weight="bold">{_said(title)}</text>',
        f'<text x="8" y="40" {_TEXT}>tokens per second: median, least, most of the repeats; | what passes alone allow'
        "</text>",
    ]
    parts += [_bar(row, TOP + ROW * i, scale) for i, row in enumerate(whole)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: Mapping[str, Any], y: int, scale: float) -> str:
    speed, low, high = (row[f"tokens_per_second{end}"] for end in ("", "_low", "_high"))
    middle, colour = y + 7, _COLOURS.get(row["kind"], _OTHER)
    made = [
        f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end" {_TEXT}>{_said(row["contender"])}</text>',
        f'<rect x="{LEFT}" y="{y}" width="{speed * scale:.1f}" height="14" fill="{colour}"/>',
        f'<path d="M{LEFT + low * scale:.1f} {middle}H{LEFT + high * scale:.1f}" stroke="#222" stroke-width="1.5"/>',
    ]
    end = max(high, speed)
    if row["roofline"] is not None:
        made.append(f'<path d="M{LEFT + row["roofline"] * scale:.1f} {y - 2}v18" stroke="#222" stroke-width="2"/>')
        end = max(end, row["roofline"])
    made.append(f'<text x="{LEFT + end * scale + 6:.1f}" y="{y + 11}" {_TEXT}>{speed:.1f}</text>')
    return "\n".join(made)


def _said(text: str) -> str:
    return escape(shown.line(text))
