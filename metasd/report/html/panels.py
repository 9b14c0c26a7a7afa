"""Small multiples as inline SVG: one panel a policy, all with the same axes, coloured by the page's style sheet.

Written by hand rather than with a plotting library: the figures follow the reader's light or dark theme, stay text,
and a report needs nothing that the package does not already have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metasd.report.html.markup import arm_colours, number, text

WIDTH, HEIGHT = 240, 150
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 8, 26


@dataclass(frozen=True, slots=True)
class Frame:
    """Axes from data to the panel's own units."""

    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / (self.x_high or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.y_low) / ((self.y_high - self.y_low) or 1)

    def points(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        """``x,y x,y ...`` to a tenth of a unit."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def axes(self, x_label: str, spec: str) -> str:
        """Ticks and their labels."""
        parts = []
        for tick in ticks(self.y_low, self.y_high, 4):
            at = self.y(tick)
            kind = "zero" if tick == 0 else "axis"
            parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(_words(LEFT - 4, at + 3, "end", number(tick, spec)))
        parts += [_words(self.x(t), HEIGHT - 14, "middle", number(t, ",g")) for t in ticks(0, self.x_high, 4)]
        parts.append(_words((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 2, "middle", x_label))
        return "".join(parts)


def _words(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], roughly ``about`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / about
    scale = 10 ** math.floor(math.log10(rough))
    step = min((m * scale for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def panel(title: str, label: str, body: str) -> str:
    """One panel with its policy's name above."""
    return (
        f'<figure class="panel" style="margin:0"><h4>{text(title)}</h4>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{body}</svg></figure>'
    )


def regret_panels(curves: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Regret by position of each policy, the other policies in grey behind it. ``key`` makes element ids unique."""
    frame = Frame(
        x_high=max(c["position"][-1] for c in curves),
        y_low=min(0.0, *(min(c["low"] or c["mean"]) for c in curves)),
        y_high=max(0.0, *(max(c["high"] or c["mean"]) for c in curves)),
    )
    lines = "".join(f'<polyline class="context" points="{frame.points(c["position"], c["mean"])}"/>' for c in curves)
    axes = frame.axes("position (tokens)", ",g")
    shared = f'<defs><g id="context-{key}">{axes}{lines}</g></defs>'
    panels = []
    for i, c in enumerate(curves):
        band, words = _band(c, frame)
        body = (
            f'{shared if i == 0 else ""}<use href="#context-{key}"/>{band}'
            f'<polyline class="curve" points="{frame.points(c["position"], c["mean"])}"/>'
        )
        label = f"Regret of {c['policy']}: {number(c['mean'][-1], '.2f')} rounds a prompt at the end{words}"
        panels.append(panel(c["policy"], label, body))
    return panels


def _band(curve: Mapping[str, Any], frame: Frame) -> tuple[str, str]:
    """A curve's band, and what it says of the end; nothing where it was withheld."""
    if curve["low"] is None:
        return "", ""
    position, low, high = curve["position"], curve["low"], curve["high"]
    outline = frame.points([*position, *reversed(position)], [*low, *reversed(high)])
    words = f", 95 % band {number(low[-1], '.2f')} to {number(high[-1], '.2f')}"
    return f'<polygon class="band" points="{outline}"/>', words


def share_panels(shares: Sequence[Mapping[str, Any]], trace: Mapping[str, Any]) -> list[str]:
    """Arm shares by position of each policy, stacked in pool order."""
    tints = arm_colours(trace)
    frame = Frame(x_high=max(s["position"][-1] for s in shares), y_low=0.0, y_high=1.0)
    return [
        panel(s["policy"], _share_label(s), _stack(s, frame, tints) + frame.axes("position (tokens)", ".0%"))
        for s in shares
    ]


def _stack(share: Mapping[str, Any], frame: Frame, tints: Mapping[str, tuple[str, float]]) -> str:
    arms: Mapping[str, Sequence[float | None]] = share["arms"]
    known = [i for i in range(len(share["position"])) if all(v[i] is not None for v in arms.values())]
    xs = [share["position"][i] for i in known]
    floor = [0.0] * len(known)
    parts = []
    for name, values in arms.items():
        top = [f + (values[i] or 0.0) for f, i in zip(floor, known, strict=True)]
        if top != floor:
            tint, opacity = tints[name]
            outline = frame.points([*xs, *reversed(xs)], [min(y, 1.0) for y in [*top, *reversed(floor)]])
            look = f'style="fill:{tint}" fill-opacity="{opacity}"'
            parts.append(f'<polygon points="{outline}" {look}><title>{text(name)}</title></polygon>')
        floor = top
    return "".join(parts)


def _share_label(share: Mapping[str, Any]) -> str:
    """The figure in words: each arm's share in the first and in the last bin that has rounds."""
    arms: Mapping[str, Sequence[float | None]] = share["arms"]
    words = []
    for name, values in arms.items():
        known = [v for v in values if v is not None]
        if known and max(known) > 0:
            words.append(f"{name} {number(known[0], '.0%')} at first, {number(known[-1], '.0%')} at the end")
    return f"Arm shares of {share['policy']}: " + "; ".join(words)
