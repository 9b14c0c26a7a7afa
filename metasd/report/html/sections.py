"""The sections of a page: what stands under each trace. Tables are written here, figures by the page's scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metasd.core import jsontext
from metasd.core.results import ALL, BEST_FIXED, OPTIMUM
from metasd.report.html.markup import legend, number, part, save, text
from metasd.report.html.remarks import live, remarks
from metasd.report.html.tables import heat_map, leaderboard, settings_table
from metasd.report.leaderboard import bound_words, ranked, rate_of, shown_beside, withheld

Document = Mapping[str, Any]
Row = Mapping[str, Any]

REGRETS = {
    "pseudo_regret_seconds": "seconds, against the best arm of all prompts",
    "hindsight_regret_seconds": "seconds, against each prompt's best arm",
    "pseudo_regret_rounds": "rounds, against the best arm of all prompts",
    "hindsight_regret_rounds": "rounds, against each prompt's best arm",
}


def section(document: Document, name: str, rows: Sequence[Row]) -> str:
    """All of one trace (or of all together): ``rows`` are its totals, best first."""
    order = [r["policy"] for r in rows]
    trace = next((t for t in document["traces"] if t["name"] == name), None)
    title = "All traces together" if name == ALL and document["traces"] else "Results" if trace is None else name
    parts = [f"<h2>{text(title)}</h2>", tiles(document, name, rows), remarks(document, trace)]
    parts += [_tools(rows), _board(document, name, rows, trace)]
    if trace is None:
        parts.append(live(document))
    else:
        parts += [_figures(document, name, rows), _arms(document, trace), _heat(document, name, order)]
        parts += [_pairs(document, name, rows), _timeline(document, trace, rows)]
    parts.append(_settings(rows))
    data = f'data-trace="{text(jsontext.dumps(name))}" data-order="{text(jsontext.dumps(order))}"'
    return f"<section {data}>{''.join(parts)}</section>"


def tiles(document: Document, name: str, rows: Sequence[Row]) -> str:
    """The few numbers to read first: the best policy's rate, beside plain decoding, the best arm and the optimum."""
    best = rows[0]
    timed = rate_of(best) == "tokens_per_second"
    rate, unit = ("tokens_per_second", "tokens/s") if timed else ("tokens_per_round", "tokens/round")
    shown = [(f"best policy, {unit}", number(best[rate], ",.1f" if timed else ".2f"), best["policy"])]
    if timed and best.get("speedup") is not None:
        shown.append(("times plain decoding", number(best["speedup"], ".2f"), best["policy"]))
    for beside in document["comparators"]:
        whole = beside["comparator"] in ("fixed arm", BEST_FIXED, OPTIMUM) and shown_beside(beside)
        if beside["trace"] == name and whole and beside.get(rate) is not None:
            label = "plain decoding" if beside["comparator"] == "fixed arm" else beside["comparator"]
            shown.append((f"{label}, {unit}", number(beside[rate], ",.1f" if timed else ".2f"), beside["arm"] or ""))
    share = best.get("fraction_of_optimum_seconds" if timed else "fraction_of_optimum")
    if share is not None:
        shown.append(("of what foresight would reach", number(share, ".1%"), best["policy"]))
    if timed:
        shown.append(("tokens/round", number(best["tokens_per_round"], ".2f"), best["policy"]))
    items = "".join(
        f"<div><dt>{text(what)}</dt><dd>{value}<small>{text(who)}</small></dd></div>" for what, value, who in shown
    )
    return f'<dl class="tiles">{items}</dl>'


def _tools(rows: Sequence[Row]) -> str:
    """What all tables and figures of a section follow: the filter, and which policies figures show."""
    boxes = "".join(
        f'<label data-at="{i}"><input type="checkbox" value="{i}"{" checked" if i < 3 else ""}>'
        f'<i class="swatch"></i><span>{text(r["policy"])}</span></label>'
        for i, r in enumerate(rows)
    )
    return (
        '<div class="tools"><label class="filter">Filter policies, domains, prompts '
        '<input type="search" placeholder="ucb code" autocomplete="off" spellcheck="false"></label>'
        f'<fieldset class="policies"><legend>In the figures</legend><div class="boxes">{boxes}</div></fieldset></div>'
        '<p class="nothing" hidden>No policy, domain or prompt here has that in its name.</p>'
    )


def _board(document: Document, name: str, rows: Sequence[Row], trace: Mapping[str, Any] | None) -> str:
    beside = [c for c in document["comparators"] if c["trace"] == name and shown_beside(c)]
    size = f"{trace['prompts']:,} prompts, {trace['tokens']:,} tokens, {len(trace['arms'])} arms. " if trace else ""
    what = (
        f"{size}{_interval_words(rows)} “Of the optimum” is what the clairvoyant schedule costs over what the policy "
        "costs; where a clock is known, costs, order and differences are in seconds, else in rounds. Differences are "
        "paired on the same prompts and the same noise; ▲ and ▼ mark those that stay significant at 5 % after Holm's "
        f"correction, whose p is shown; their intervals are not corrected. {bound_words(rows)} {_regret_words(rows)}"
    )
    reference = str(document["config"].get("reference", "the reference"))
    table = leaderboard(rows, beside, reference)
    return part("board", "Leaderboard", what, table, save("csv", "Leaderboard"))


def _regret_words(rows: Sequence[Row]) -> str:
    if any("pseudo_regret_rounds" in r for r in rows):
        return (
            "Regret is against the best fixed arm of all prompts together, negative where a policy beats every arm; "
            "JSON and CSV also have it against the best arm by domain and in hindsight, prompt by prompt."
        )
    return "Regret is against the best fixed arm of each prompt in hindsight."


def _interval_words(rows: Sequence[Row]) -> str:
    if any(r.get("prompts_missing") for r in rows):
        return f"There are no intervals: {withheld(rows[0])}."
    return (
        "Small print under a number is its 95 % interval, from resampling prompts with all their seeds; for a policy "
        "that keeps what it learned runs count as well, and a single run has no interval."
    )


def _plot(kind: str, title: str, what: str, controls: str = "") -> str:
    body = f'{controls}<div class="plot" role="img" aria-label="{title}" data-plot="{kind}"></div>{_NOSCRIPT}'
    return part(kind, title, what, body, save("svg", title))


_NOSCRIPT = "<noscript>This figure is drawn by a script from the numbers in the page.</noscript>"


def _figures(document: Document, name: str, rows: Sequence[Row]) -> str:
    """Regret, learning, seconds and accepted lengths, as far as the document has them."""
    parts = []
    curve = next((c for c in document["curves"] if c["trace"] == name), None)
    if curve is not None:
        choices = "".join(f'<option value="{k}">{v}</option>' for k, v in REGRETS.items() if k in curve["regrets"])
        what = (
            "What is spent to reach each position of the text beyond a fixed arm, mean over prompts, with a pointwise "
            "95 % band from 8 prompts on (none for a policy that keeps what it learned: its prompts are linked). Lower "
            "is better, and a finished text keeps its regret. Drag to zoom, double-click to see all again, click a "
            "name to hide its line."
        )
        measure = f'<p class="choose"><label>Regret in <select class="measure">{choices}</select></label></p>'
        parts.append(_plot("regret", "Regret along the text", what, measure))
    if any(c["trace"] == name for c in document["learning"]):
        what = (
            "Regret to the best fixed arm of all prompts, added up over the prompts in the order met: a line that "
            "flattens has learned, one that keeps falling is ahead of every arm. Mean over runs; shaded from the least "
            "run to the most."
        )
        parts.append(_plot("learning", "Learning over prompts", what))
    if any(r.get("seconds") is not None for r in rows):
        what = "Where a policy's time goes: its drafters, the target's passes, and reading what others wrote."
        parts.append(_plot("seconds", "Seconds spent", what))
    if any(h["trace"] == name for h in document["histograms"]):
        what = "How many draft tokens a round kept; in rounds under “none” nothing was drafted."
        parts.append(_plot("accepted", "Accepted lengths", what))
    return "".join(parts)


def _arms(document: Document, trace: Mapping[str, Any]) -> str:
    if not any(s["trace"] == trace["name"] for s in document["shares"]):
        return legend(trace)
    what = "Which arm the rounds that begin at each position play: how quickly a policy settles, and on what."
    body = f'{legend(trace)}<div class="panels" data-plot="arms"></div>'
    return part("arms", "Arms along the text", what, body, save("svg", "Arms along the text"))


def _heat(document: Document, name: str, order: Sequence[str]) -> str:
    rows = [r for r in document["results"] if r.get("trace") == name and r["domain"] != ALL]
    if not rows:
        return ""
    timed = rate_of(rows[0]) == "tokens_per_second"
    shown = {
        "tokens_per_second" if timed else "tokens_per_round": (
            "Tokens per second" if timed else "Tokens per round",
            ".1f",
        ),
        "fraction_of_optimum_seconds" if timed else "fraction_of_optimum": ("Share of the optimum", ".1%"),
    }
    parts = [
        part(
            f"heat-{key}",
            f"{title} by domain",
            "Where a policy is strong, and where it is not; each domain is shaded for itself.",
            heat_map(rows, order, key, spec if timed or "%" in spec else ".2f"),
            save("csv", f"{title} by domain"),
        )
        for key, (title, spec) in shown.items()
        if any(r.get(key) is not None for r in rows)
    ]
    return "".join(parts)


def _choice(name: str, label: str, options: Sequence[str], chosen: int) -> str:
    items = "".join(
        f'<option value="{i}"{" selected" if i == chosen else ""}>{text(o)}</option>' for i, o in enumerate(options)
    )
    return f'<label>{label} <select class="{name}">{items}</select></label>'


def _pairs(document: Document, name: str, rows: Sequence[Row]) -> str:
    found = next((p for p in document["by_prompt"] if p["trace"] == name), None)
    if found is None:
        return ""
    everyone = list(found["rounds"])
    first, second = everyone.index(rows[0]["policy"]), everyone.index(rows[min(1, len(rows) - 1)]["policy"])
    some = (
        "" if len(found["ids"]) == found["of"] else f" {len(found['ids']):,} of {found['of']:,} prompts, evenly spread."
    )
    what = (
        "Two policies on the same prompts, mean over runs, where the first does worst first. Choose a prompt to see it "
        f"round by round; drag over the points to list only those.{some}"
    )
    body = (
        f'<p class="choose">{_choice("one", "Policy", everyone, first)}'
        f"{_choice('two', 'against', everyone, second)}</p>"
        f'<div class="plot" role="img" aria-label="Prompts" data-plot="pairs"></div>{_NOSCRIPT}'
        '<div class="scroll tall" tabindex="0"><table class="board prompts"></table></div>'
    )
    return part("pairs", "Prompt by prompt", what, body, save("svg", "Prompts") + save("csv", "Prompts"))


def _timeline(document: Document, trace: Mapping[str, Any], rows: Sequence[Row]) -> str:
    lines = [t for t in document["timelines"] if t["trace"] == trace["name"]]
    if not lines:
        return ""
    words = (
        "" if lines[0]["texts"] else f" Tokens are shown by number: {text(trace.get('texts') or 'no text is known')}."
    )
    what = (
        "One prompt, round by round, under the first seed, for the policies in the figures and the two compared above: "
        "each block is a round, as wide as the tokens it emitted, in the colour of its arm. Choose a policy to see its "
        f"text; accepted draft tokens carry the drafter's colour, the target's own are grey.{words}"
    )
    options = "".join(f'<option value="{i}">{text(t["domain"])}: {text(t["id"])}</option>' for i, t in enumerate(lines))
    body = (
        '<div class="timeline"><div class="choose"><label>Prompt '
        f'<select class="prompt">{options}</select></label></div>'
        f'{legend(trace)}<div class="strips"></div><div class="answer"></div>{_NOSCRIPT}</div>'
    )
    return part("rounds", "Round by round", what, body)


def _settings(rows: Sequence[Row]) -> str:
    if not any(r.get("settings") for r in rows):
        return ""
    what = "Every setting as it was played, defaults and what was found at the start included."
    return part("settings", "Settings of the policies", what, settings_table(rows), save("csv", "Settings"))


def best_rows(document: Document, trace: str) -> list[Row]:
    """Total rows of a trace, best first: by tokens a second where a clock is known, else by tokens a round."""
    return ranked([r for r in document["results"] if r.get("trace", ALL) == trace and r["domain"] == ALL])
