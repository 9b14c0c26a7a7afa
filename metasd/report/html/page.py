"""One self-contained HTML page from a result document: no network, and every number in it is in its embedded JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.results import ALL, BEST_FIXED, SIGNIFICANT
from metasd.report.html.markup import interval, legend, number, text
from metasd.report.html.panels import regret_panels, share_panels
from metasd.report.html.tables import heat_map, leaderboard
from metasd.report.leaderboard import ranked as best_first
from metasd.report.leaderboard import rate_of, shown_beside, withheld

Document = Mapping[str, Any]
Decode = Callable[[Sequence[int]], str]

OPEN_PANELS = 4  # further panels are folded away


def write_report(
    document: Document,
    path: Path,
    *,
    timelines: Sequence[Mapping[str, Any]] | None = None,
    curves: Sequence[Mapping[str, Any]] | None = None,
    decode: Decode | None = None,
) -> dict[str, Any]:
    """Write the page for ``document`` (of ``compare``, or any document with ``results``) to ``path`` at once.

    timelines, curves: take the place of the document's own.
    decode: token ids to text; with it timelines show text instead of token ids.
    Returns the document as embedded, additions included. Raises FileError.
    """
    full = dict(document)
    for name, given in (("timelines", timelines), ("curves", curves)):
        full[name] = list(given if given is not None else document.get(name, []))
    for name in ("traces", "comparators", "shares", "skipped"):
        full.setdefault(name, [])
    if decode is not None:
        full["timelines"] = [{**t, "texts": pieces(t["tokens"], decode)} for t in full["timelines"]]
    files.write_text(path, page(full))
    return full


def pieces(tokens: Sequence[int], decode: Decode) -> list[str]:
    """The text each token adds. A token may hold part of a character: its text then comes with the one that ends it."""
    shown, found = "", []
    for i in range(len(tokens)):
        so_far = decode(tokens[: i + 1])
        whole = not so_far.endswith("\ufffd") or i + 1 == len(tokens)
        found.append(so_far[len(shown) :] if whole else "")
        shown = so_far if whole else shown
    return found


def page(document: Document) -> str:
    """The whole page."""
    names = list(dict.fromkeys(r.get("trace", ALL) for r in document["results"]))
    ordered = sorted(names, key=lambda n: n != ALL)
    sections = "".join(_section(document, name) for name in ordered)
    embedded = jsontext.dumps(document).replace("<", "\\u003c")
    style, script = (_asset(name) for name in ("style.css", "script.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>MetaSD: {text(document["command"])}</title>'
        f"<style>{style}</style></head>\n"
        f"<body><main><h1>MetaSD {text(document['command'])}</h1>{_headline(document)}{_notes(document)}{sections}"
        f"{_foot(document)}</main>\n"
        f'<script type="application/json" id="data">{embedded}</script>\n<script>{script}</script></body></html>\n'
    )


def _asset(name: str) -> str:
    return (resources.files("metasd") / "data" / "report" / name).read_text(encoding="utf-8")


def ranked(document: Document, trace: str) -> list[Mapping[str, Any]]:
    """Total rows of a trace, best first: by tokens a second where a clock is known, else by tokens a round."""
    return best_first([r for r in document["results"] if r.get("trace", ALL) == trace and r["domain"] == ALL])


def _headline(document: Document) -> str:
    traces = list(dict.fromkeys(r.get("trace", ALL) for r in document["results"]))
    if not traces:
        return '<p class="headline">No policy could run.</p>'
    where = ALL if ALL in traces else traces[0]
    best = ranked(document, where)[0]
    place = f"{len(document['traces'])} traces" if where == ALL and document["traces"] else where
    many = len(ranked(document, where))
    chosen = f"the best of {many} policies on these prompts is " if many > 1 else ""
    words = f"On {text(place)} ({best['prompts']} prompts), {chosen}<b>{text(best['policy'])}</b>, with "
    timed = rate_of(best) == "tokens_per_second"
    if timed:
        words += f"{number(best['tokens_per_second'], '.1f')} tokens per second"
        words += f", {number(best['speedup'], '.2f')} times plain decoding" if best["speedup"] is not None else ""
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


def _section(document: Document, name: str) -> str:
    rows = ranked(document, name)
    order = [r["policy"] for r in rows]
    trace = next((t for t in document["traces"] if t["name"] == name), None)
    title = "All traces together" if name == ALL and document["traces"] else "Results" if trace is None else name
    parts = [f"<h2>{text(title)}</h2>", _board(document, name, rows, trace)]
    if trace is not None:
        key = str(document["traces"].index(trace))
        parts += [_curves(document, name, order, key), _shares(document, trace, order), _heat(document, name, order)]
        parts.append(_timeline(document, name, order))
    return f'<section data-trace="{text(name)}">{"".join(parts)}</section>'


def _board(document: Document, name: str, rows: Sequence[Mapping[str, Any]], trace: Mapping[str, Any] | None) -> str:
    beside = [c for c in document["comparators"] if c["trace"] == name and shown_beside(c)]
    size = f"{trace['prompts']:,} prompts, {trace['tokens']:,} tokens, {len(trace['arms'])} arms. " if trace else ""
    what = (
        f"{size}{_interval_words(rows)} “Of the optimum” is what the clairvoyant schedule costs over what the policy "
        "costs; where a clock is known, costs, order and differences are in seconds, else in rounds. Differences are "
        "paired on the same prompts and the same noise; ▲ and ▼ mark those that stay significant at 5 % after Holm's "
        f"correction, whose p is shown; their intervals are not corrected. {_regret_words(rows)}"
    )
    reference = str(document["config"].get("reference", "the reference"))
    return f'<h3>Leaderboard</h3><p class="what">{what}</p>{leaderboard(rows, beside, reference)}'


def _regret_words(rows: Sequence[Mapping[str, Any]]) -> str:
    if any("pseudo_regret_rounds" in r for r in rows):
        return (
            "Regret is against the best fixed arm of all prompts together, negative where a policy beats every arm; "
            "JSON and CSV also have it against the best arm by domain and in hindsight, prompt by prompt."
        )
    return "Regret is against the best fixed arm of each prompt in hindsight."


def _interval_words(rows: Sequence[Mapping[str, Any]]) -> str:
    if any(r.get("prompts_missing") for r in rows):
        return f"There are no intervals: {withheld(rows[0])}."
    return (
        "Small print under a number is its 95 % interval, from resampling prompts with all their seeds; for a policy "
        "that keeps what it learned runs count as well, and a single run has no interval."
    )


def _curves(document: Document, name: str, order: Sequence[str], key: str) -> str:
    found = _by_policy(document["curves"], name, order)
    if not found:
        return ""
    what = (
        "Rounds used to reach each position of the text beyond those of the prompt's best fixed arm in hindsight, mean "
        "over prompts, with a pointwise 95 % band from 8 prompts on (none for a policy that keeps what it learned: its "
        "prompts are linked); the other policies in grey. Lower is better, and a finished text keeps its regret."
    )
    return f'<h3>Hindsight regret along the text</h3><p class="what">{what}</p>{_grid(regret_panels(found, key))}'


def _shares(document: Document, trace: Mapping[str, Any], order: Sequence[str]) -> str:
    found = _by_policy(document["shares"], trace["name"], order)
    what = "Which arm the rounds that begin at each position play: how quickly a policy settles, and on what."
    panels = _grid(share_panels(found, trace)) if found else ""
    return f'<h3>Arms along the text</h3><p class="what">{what}</p>{legend(trace)}{panels}'


def _heat(document: Document, name: str, order: Sequence[str]) -> str:
    rows = [r for r in document["results"] if r.get("trace") == name and r["domain"] != ALL]
    if not rows or all(r.get("fraction_of_optimum") is None for r in rows):
        return ""
    what = "Fraction of the clairvoyant optimum by domain: where a policy is strong, and where it is not."
    return f'<h3>Domains</h3><p class="what">{what}</p>{heat_map(rows, order)}'


def _timeline(document: Document, name: str, order: Sequence[str]) -> str:
    lines = [t for t in document["timelines"] if t["trace"] == name]
    if not lines:
        return ""
    what = (
        "One prompt, round by round, under the first seed: each block is a round, as wide as the tokens it emitted, in "
        "the colour of its arm. Choose a policy to see its text; accepted draft tokens carry the drafter's colour, the "
        "target's own are grey. Prompts are the first of each domain."
    )
    options = "".join(f'<option value="{i}">{text(t["domain"])}: {text(t["id"])}</option>' for i, t in enumerate(lines))
    return (
        f'<h3>Round by round</h3><p class="what">{what}</p>'
        f'<div class="timeline" data-order="{text(json.dumps(list(order)))}">'
        f'<div class="choose"><label>Prompt <select>{options}</select></label></div><div class="strips"></div>'
        '<div class="answer"></div>'
        "<noscript>This figure is drawn by a script from the numbers in the page.</noscript></div>"
    )


def _by_policy(items: Sequence[Mapping[str, Any]], name: str, order: Sequence[str]) -> list[Mapping[str, Any]]:
    found = {i["policy"]: i for i in items if i["trace"] == name}
    return [found[p] for p in order if p in found]


def _grid(panels: Sequence[str]) -> str:
    shown, rest = panels[:OPEN_PANELS], panels[OPEN_PANELS:]
    grid = f'<div class="panels">{"".join(shown)}</div>'
    if not rest:
        return grid
    folded = f'<div class="panels">{"".join(rest)}</div>'
    return f'{grid}<details class="more"><summary>{len(rest)} more</summary>{folded}</details>'


def _foot(document: Document) -> str:
    facts = {f"trace {t['name']}": f"{t['fingerprint']}, target {t['target']}" for t in document["traces"]}
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
    return value if isinstance(value, str) else json.dumps(value)
