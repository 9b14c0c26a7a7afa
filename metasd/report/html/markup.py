"""Small pieces of HTML: escaping, numbers, colours of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from metasd.core import shown
from metasd.report.colours import colour

MISSING = "\u2013"
_MINUS = "\u2212"


def text(value: object) -> str:
    """``value`` as HTML text."""
    return escape(shown.line(value))


def number(value: float | None, spec: str) -> str:
    """``value`` in format ``spec`` with a true minus sign, a dash where unknown."""
    return MISSING if value is None else format(value, spec).replace("-", _MINUS)


def interval(ends: Sequence[float] | None, spec: str) -> str:
    """``low to high``, empty where unknown."""
    return "" if ends is None else f"{number(ends[0], spec)} to {number(ends[1], spec)}"


def cell(
    value: float | None, spec: str, ends: Sequence[float] | None = None, *, before: str = "", style: str = ""
) -> str:
    """A table cell with the full number for sorting and its interval below."""
    raw = "" if value is None else repr(float(value))
    small = f"<small>{interval(ends, spec)}</small>" if ends is not None else ""
    look = f' style="{style}"' if style else ""
    shown = f'<span class="n">{number(value, spec)}</span>'
    return f'<td data-value="{raw}"{data_ends(ends)}{look}>{before}{shown}{small}</td>'


def data_ends(ends: Sequence[float] | None) -> str:
    """An interval for the page's scripts, nothing where unknown."""
    return "" if ends is None else f' data-low="{ends[0]!r}" data-high="{ends[1]!r}"'


def save(kind: str, what: str) -> str:
    """A button that hands out a file of what stands beside it."""
    name = kind.upper()
    return f'<button type="button" class="save" data-save="{kind}" aria-label="{what} as {name}">{name}</button>'


def part(kind: str, title: str, what: str, body: str, buttons: str = "") -> str:
    """A figure or table with its title, what it shows and the buttons beside it."""
    return (
        f'<div class="part" data-part="{kind}"><div class="head"><h3>{title}</h3>{buttons}</div>'
        f'<p class="what">{what}</p>{body}</div>'
    )


def arm_colours(trace: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Colour and opacity of every arm of a trace: a drafter has one colour, its shorter drafts are paler."""
    drafters: list[int] = trace["arm_drafters"]
    names: list[str] = trace["arms"]
    found: dict[str, tuple[str, float]] = {}
    for i, (name, drafter) in enumerate(zip(names, drafters, strict=True)):
        if drafter < 0:
            found[name] = ("var(--plain)", 1.0)
            continue
        siblings = [j for j, d in enumerate(drafters) if d == drafter]
        rank = siblings.index(i)
        found[name] = (colour(drafter), round(1 - 0.65 * (len(siblings) - 1 - rank) / max(len(siblings), 1), 2))
    return found


def legend(trace: Mapping[str, Any]) -> str:
    """Which colour is which arm; the page's script reads the colours from here."""
    items = [
        f'<li data-arm="{text(name)}" data-colour="{tint}" data-opacity="{opacity}">'
        f'<i style="background:{tint};opacity:{opacity}"></i>{text(name)}</li>'
        for name, (tint, opacity) in arm_colours(trace).items()
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'
