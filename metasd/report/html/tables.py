"""The report's tables: leaderboard and heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metasd.core import jsontext
from metasd.core.results import SIGNIFICANT
from metasd.report.html.markup import cell, data_ends, interval, number, text
from metasd.report.leaderboard import rate_of

Row = Mapping[str, Any]


def leaderboard(rows: Sequence[Row], comparators: Sequence[Row], reference: str) -> str:
    """Sortable table of ``rows`` (one a policy), with comparators in its foot."""
    timed = any(r.get("seconds") is not None for r in rows)
    shared = any(r.get("oracle_rounds") is not None for r in rows)
    key = "fraction_of_optimum_seconds" if any(r.get("oracle_seconds") for r in rows) else "fraction_of_optimum"
    low = min((_ends(r, key)[0] for r in [*rows, *comparators] if r.get(key) is not None), default=0.0)
    heads = [_head("policy", "ascending")]
    heads += [_head("tokens per second", "descending", here=True), _head("times plain", "descending")] if timed else []
    heads += [_head("tokens per round", "descending", here=not timed)]
    heads += [_head("of the optimum", "descending")] if shared else []
    heads += [_head(f"against {reference}", "descending")] if any("paired" in r for r in rows) else []
    pseudo = "pseudo_" if any("pseudo_regret_rounds" in r for r in rows) else ""
    heads += [_head("time regret, s", "ascending")] if timed else []
    heads += [_head("regret, rounds" if pseudo else "hindsight regret, rounds", "ascending")]
    heads += [_head("s draft", "ascending")] if timed else []
    heads += [_head("s verify", "ascending"), _head("s catch-up", "ascending")] if timed else []
    heads += [_head("switches", "ascending")]
    body = "".join(
        f'<tr data-at="{i}">{_policy(r)}{"".join(_cells(r, timed, key if shared else None, low, pseudo))}</tr>'
        for i, r in enumerate(rows)
    )
    foot = "".join(_comparator(c, len(heads), timed, key, low) for c in comparators)
    return (
        f'<div class="scroll" tabindex="0"><table class="board"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody><tfoot>{foot}</tfoot></table></div>"
    )


def _head(name: str, first: str, *, here: bool = False) -> str:
    now = ' aria-sort="descending"' if here else ""
    return f'<th scope="col" data-first="{first}"{now}><button type="button">{text(name)}</button></th>'


def _policy(row: Row) -> str:
    notes = [] if row["reset"] == "prompt" else ["keeps what it learned"]
    notes += ["every run alike"] if row.get("runs", {}).get("alike") else []
    kept = f"<small>{', '.join(notes)}</small>" if notes else ""
    return f'<th scope="row">{text(row["policy"])}{kept}</th>'


def _rates(row: Row, timed: bool) -> list[str]:
    """Tokens per second and times plain where there is a clock, and tokens per round."""
    ends = row.get("intervals", {})
    shown = (("tokens_per_second", ",.1f"), ("speedup", ".2f")) if timed else ()
    return [cell(row.get(key), spec, ends.get(key)) for key, spec in (*shown, ("tokens_per_round", ".2f"))]


def _cells(row: Row, timed: bool, share: str | None, low: float, pseudo: str) -> list[str]:
    ends = row.get("intervals", {})
    cells = _rates(row, timed)
    if share is not None:
        value, around = row.get(share), ends.get(share)
        cells.append(cell(value, ".1%", around, before=whisker(value, around, low)))
    if "paired" in row:
        cells.append(_difference(row["paired"], rate_of(row)))
    if timed:
        cells.append(cell(row.get("pseudo_regret_seconds"), "+,.2f", ends.get("pseudo_regret_seconds")))
    cells.append(cell(row[f"{pseudo}regret_rounds"], "+,.1f", ends.get(f"{pseudo}regret_rounds")))
    if timed:
        cells += [cell(row.get(f"{part}_seconds"), ",.2f") for part in ("draft", "verify", "catch_up")]
    cells.append(cell(row["switches"], ",.0f", ends.get("switches")))
    return cells


def _difference(paired: Mapping[str, Any], rate: str) -> str:
    value, p = paired[rate], paired["p_holm"]
    clear = p is not None and p <= SIGNIFICANT
    mark = "" if not clear else '<span class="up">▲ </span>' if value > 0 else '<span class="down">▼ </span>'
    chance = "" if p is None else f" (Holm p {number(p, '.3f')})"
    small = f"<small>{interval(paired[f'{rate}_interval'], '+.2f')}{chance}</small>"
    raw = "" if value is None else repr(float(value))
    bounds = data_ends(paired[f"{rate}_interval"])
    return f'<td data-value="{raw}"{bounds}>{mark}<span class="n">{number(value, "+.2f")}</span>{small}</td>'


def _comparator(row: Row, columns: int, timed: bool, key: str, low: float) -> str:
    name = text(row["comparator"]) + (f"<small>{text(row['arm'])}</small>" if row["arm"] else "")
    ends = row["intervals"]
    share = cell(row.get(key), ".1%", ends.get(key), before=whisker(row.get(key), ends.get(key), low))
    cells = [*_rates(row, timed), share]
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}{"<td></td>" * (columns - 1 - len(cells))}</tr>'


def _ends(row: Row, key: str) -> Sequence[float]:
    around = row["intervals"].get(key)
    return around if around is not None else [row[key]] * 2


def whisker(value: float | None, ends: Sequence[float] | None, low: float) -> str:
    """A dot with its interval on a scale from ``low`` to 1."""
    if value is None:
        return ""
    first, last = ends if ends is not None else (value, value)

    def at(v: float) -> str:
        return f"{4 + 102 * (v - low) / max(1 - low, 1e-9):.1f}"

    return (
        '<svg class="whisker" viewBox="0 0 110 16" aria-hidden="true">'
        '<line class="axis" x1="4" x2="106" y1="8" y2="8"/>'
        f'<line x1="{at(first)}" x2="{at(last)}" y1="8" y2="8" style="stroke:var(--accent);stroke-width:3;opacity:.5"/>'
        f'<circle cx="{at(value)}" cy="8" r="3.6" style="fill:var(--accent)"/></svg>'
    )


def heat_map(rows: Sequence[Row], policies: Sequence[str], key: str = "fraction_of_optimum", spec: str = ".1%") -> str:
    """Domain by policy: ``key`` as number with its interval, shaded from a domain's least to its most."""
    domains = list(dict.fromkeys(r["domain"] for r in rows))
    values = {(r["policy"], r["domain"]): r[key] for r in rows}
    around = {(r["policy"], r["domain"]): r["intervals"].get(key) for r in rows}
    ends = {d: [v for (_, where), v in values.items() if where == d and v is not None] for d in domains}
    head = "".join(
        f'<th scope="col" data-first="descending"><button type="button">{text(d)}</button></th>' for d in domains
    )
    body = []
    for i, policy in enumerate(policies):
        cells = [_shade(values.get((policy, d)), around.get((policy, d)), ends[d], spec) for d in domains]
        body.append(f'<tr data-at="{i}"><th scope="row">{text(policy)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="heat board">'
        f"<thead><tr>{_head('policy', 'ascending')}{head}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _shade(value: float | None, around: Sequence[float] | None, known: Sequence[float], spec: str) -> str:
    if value is None:
        return "<td></td>"
    depth = 0.04 + 0.5 * (value - min(known)) / max(max(known) - min(known), 1e-9)
    return cell(value, spec, around, style=f"background:rgba(var(--heat),{depth:.2f})")


def forecast_table(forecasts: Sequence[Row]) -> str:
    """What replay promised of each policy, what the run made, and the error of the promise."""
    columns = [("predicted", "predicted, tokens/s", ",.1f"), ("live", "live, tokens/s", ",.1f")]
    columns.append(("error", "error of the prediction", "+.1%"))
    heads = _head("policy", "ascending") + "".join(_head(words, "descending") for _, words, _ in columns)
    body = "".join(
        f'<tr><th scope="row">{text(f["policy"])}</th>{"".join(cell(f[key], spec) for key, _, spec in columns)}</tr>'
        for f in forecasts
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="board"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def settings_table(rows: Sequence[Row]) -> str:
    """Every policy with all its settings."""
    body = []
    for i, row in enumerate(rows):
        known = row.get("settings") or {}
        items = "".join(f"<li><b>{text(k)}</b> {text(_setting(v))}</li>" for k, v in known.items())
        body.append(f'<tr data-at="{i}"><th scope="row">{text(row["policy"])}</th><td><ul>{items}</ul></td></tr>')
    return (
        '<div class="scroll tall" tabindex="0"><table class="board settings"><thead><tr><th scope="col">policy</th>'
        f'<th scope="col">settings</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.dumps(value)
