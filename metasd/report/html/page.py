"""One self-contained HTML page from a result document: no network, and every number in it is in its embedded JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.results import ALL, BEST_FIXED, SIGNIFICANT
from metasd.report.html.markup import interval, number, text
from metasd.report.html.pack import packed
from metasd.report.html.sections import best_rows, section
from metasd.report.leaderboard import rate_of, withheld

Document = Mapping[str, Any]

PLOTLY = "plotly-basic-4.1.1.min.js"
SCRIPTS = ("data.js", "downloads.js", "tables.js", "plots.js", "figures.js", "prompts.js", "rounds.js", "main.js")


def write_report(
    document: Document,
    path: Path,
    *,
    timelines: Sequence[Mapping[str, Any]] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write the page for ``document`` (of ``compare``, or any document with ``results``) to ``path`` at once.

    timelines, curves: take the place of the document's own.
    Returns the document as embedded, additions included. Raises FileError.
    """
    full = dict(document)
    for name, given in (("timelines", timelines), ("curves", curves)):
        full[name] = list(given if given is not None else document.get(name, []))
    for name in ("traces", "comparators", "shares", "skipped", "histograms", "learning", "by_prompt"):
        full.setdefault(name, [])
    files.write_text(path, page(full))
    return full


def page(document: Document) -> str:
    """The whole page."""
    names = list(dict.fromkeys(r.get("trace", ALL) for r in document["results"]))
    ordered = sorted(names, key=lambda n: n != ALL)
    sections = "".join(section(document, name, best_rows(document, name)) for name in ordered)
    embedded = jsontext.dumps(packed(document), compact=True).replace("<", "\\u003c")
    script = "".join(map(_asset, SCRIPTS))
    save = '<button type="button" class="save" data-save="json" aria-label="The whole document as JSON">JSON</button>'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>MetaSD: {text(document["command"])}</title>'
        f"<style>{_asset('style.css')}</style></head>\n"
        f'<body><main><div class="head"><h1>MetaSD {text(document["command"])}</h1>{save}</div>'
        f"{_headline(document)}{_notes(document)}{sections}{_foot(document)}</main>\n"
        f'<script type="application/json" id="data">{embedded}</script>\n'
        f"<script>{_asset(PLOTLY)}</script>\n<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return (resources.files("metasd") / "data" / "report" / name).read_text(encoding="utf-8")


def _headline(document: Document) -> str:
    traces = list(dict.fromkeys(r.get("trace", ALL) for r in document["results"]))
    if not traces:
        return '<p class="headline">No policy could run.</p>'
    where = ALL if ALL in traces else traces[0]
    best = best_rows(document, where)[0]
    place = f"{len(document['traces'])} traces" if where == ALL and document["traces"] else where
    many = len(best_rows(document, where))
    chosen = f"the best of {many} policies on these prompts is " if many > 1 else ""
    words = f"On {text(place)} ({best['prompts']} prompts), {chosen}<b>{text(best['policy'])}</b>, with "
    timed = rate_of(best) == "tokens_per_second"
    if timed:
        words += f"{number(best['tokens_per_second'], '.1f')} tokens per second"
        words += f", {number(best['speedup'], '.2f')} times plain decoding" if best.get("speedup") is not None else ""
        words += f" ({number(best['tokens_per_round'], '.2f')} tokens per round)"
    else:
        words += f"{number(best['tokens_per_round'], '.2f')} tokens per round"
    share = best.get("fraction_of_optimum_seconds" if timed else "fraction_of_optimum")
    if share is not None:
        words += f", {number(share, '.1%')} of what perfect foresight would reach"
    if best.get("paired") and best["paired"][rate_of(best)] is not None:
        known = [t for t in document["traces"] if where in (ALL, t["name"])]
        words += _versus(best, document["config"]["reference"], alike=not any(t["arms_differ"] for t in known))
    return f'<p class="headline">{words}.</p>'


def _versus(best: Mapping[str, Any], reference: str, *, alike: bool) -> str:
    """How the best of many stands to the reference, in words that claim no more than is shown.

    alike: whether no drafting arm is shown to be slower than another.
    """
    rate, paired = rate_of(best), best["paired"]
    difference, p = paired[rate], paired["p_holm"]
    other = f"{'the ' if reference == BEST_FIXED else ''}{text(reference)}"
    around = interval(paired[f"{rate}_interval"], "+.2f")
    gap = f"{abs(difference):.2f} {'more' if difference >= 0 else 'fewer'}" + (f" ({around})" if around else "")
    if best["policy"] == reference:
        return "; differences are to it"
    if p is None:
        return f"; that is {gap} than {other} (no interval: {withheld(best)})"
    if p <= SIGNIFICANT:
        return f"; that is {gap} than {other} (p {number(p, '.3f')} among all policies)"
    same = ": the arms of this pool are interchangeable here" if alike else ""
    return f"; that is {gap} than {other}, which these prompts do not tell from nothing{same}"


def _notes(document: Document) -> str:
    rough = [t for t in document["traces"] if not t["exact"]]
    notes = [f"{t['name']} replays only approximately: {t['approximation']}" for t in rough]
    shown = "".join(f'<p class="what note">{text(note)}</p>' for note in notes)
    out = [f"{s['policy']} on {s['trace']}: {s['reason']}" for s in document["skipped"]]
    if not out:
        return shown
    items = "".join(f"<li>{text(line)}</li>" for line in out)
    return f'{shown}<details class="more"><summary>{len(out)} left out, and why</summary><ul>{items}</ul></details>'


def _foot(document: Document) -> str:
    facts = {f"trace {t['name']}": f"{t['fingerprint']}, target {_plainly(t['target'])}" for t in document["traces"]}
    for key, value in document["config"].items():
        facts[key.replace("_", " ")] = _plainly(value)
    installed = {k: v for k, v in document["versions"].items() if v is not None}
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in installed.items())
    items = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in facts.items())
    return f'<h2>How this was made</h2><dl class="facts">{items}</dl>'


def _plainly(value: Any) -> str:
    """A setting as people write it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_plainly(v)}" for k, v in value.items())
    if value is None:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value)
