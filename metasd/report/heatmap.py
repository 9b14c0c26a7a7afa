"""A matrix as a picture: an SVG heat map with the numbers in its cells, in whatever font the reader has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from metasd.core import shown

_CELL, _ROW, _LEFT, _TOP, _CHARACTER = 84, 34, 20, 70, 7.2
_PALE, _DEEP = (239, 246, 252), (8, 69, 148)


def heatmap(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    notes: Sequence[Sequence[str]] = (),
    framed: Collection[tuple[int, int]] = (),
) -> str:
    """SVG of ``values`` [r][c], darker where larger within its row; None stays white.

    notes: [r][c] small text below the number, an interval perhaps. framed: cells with a frame.
    """
    left = _LEFT + int(max(map(len, rows), default=0) * _CHARACTER)
    width, height = left + _CELL * len(columns) + _LEFT, _TOP + _ROW * len(rows) + _LEFT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT / 2, 20, title, "start", 14),
    ]
    for c, name in enumerate(columns):
        out.append(_text(left + _CELL * (c + 0.5), _TOP - 10, name, "middle", 11))
    for r, name in enumerate(rows):
        known = [v for v in values[r] if v is not None]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        out.append(_text(left - 8, _TOP + _ROW * (r + 0.6), name, "end"))
        for c, value in enumerate(values[r]):
            share = 0.0 if value is None or high == low else (value - low) / (high - low)
            note = notes[r][c] if notes else ""
            out.append(_cell(left + _CELL * c, _TOP + _ROW * r, value, share, note, (r, c) in framed))
    return "\n".join([*out, "</svg>"]) + "\n"


def _cell(x: float, y: float, value: float | None, share: float, note: str, framed: bool) -> str:
    colour = tuple(round(p + share * (d - p)) for p, d in zip(_PALE, _DEEP, strict=True))
    fill = "white" if value is None else f"rgb{colour}".replace(" ", "")
    ink = "white" if share > 0.55 else "#222"
    frame = ' stroke="#d95f02" stroke-width="2.5"' if framed else ' stroke="white"'
    parts = [f'<rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_ROW - 2}" fill="{fill}"{frame}/>']
    if value is not None:
        parts.append(_text(x + _CELL / 2, y + (15 if note else 21), f"{value:.2f}", "middle", 12, ink))
    if note:
        parts.append(_text(x + _CELL / 2, y + 27, note, "middle", 9, ink))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, size: int = 12, colour: str = "#222") -> str:
    said = escape(shown.line(text))
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{said}</text>'
