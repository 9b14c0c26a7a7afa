"""What the runs of a live benchmark say together: medians with their spread, ratios within a repeat, noise, roofline.

Seconds of a text are those from its prompt to its last token. A ratio is taken within a repeat and then the median over
repeats, so that a machine's drift between repeats is in no ratio. The roofline is what the models' passes alone
would take: their seconds by width from the cost table, in the rounds that were played; it and what was reached of it
leave the reading of prompts out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from metasd.bench.jobs import AGAIN, GENERATE, PLAIN, Job
from metasd.core.results import ALL

Row = dict[str, Any]
Run = Mapping[str, Any]


def rows(jobs: Sequence[Job], runs: Sequence[Run], texts: Sequence[Sequence[Any]], repeats: int) -> list[Row]:
    """A row for every contender that ran, by domain and over all, in the order of ``jobs``."""
    by_name = {job.name: _good(runs, job.name, repeats) for job in jobs}
    groups = {
        name: [i for i, text in enumerate(texts) if text[1] == name] for name in dict.fromkeys(t[1] for t in texts)
    }
    groups |= {ALL: list(range(len(texts)))}
    return [_row(job, by_name, domain, at) for job in jobs if by_name[job.name] for domain, at in groups.items()]


def _good(runs: Sequence[Run], name: str, repeats: int) -> dict[int, Run]:
    """The runs of a contender that went well, by repeat."""
    found = [r for r in runs if r["contender"] == name and not r.get("error") and r["repeat"] < repeats]
    return {r["repeat"]: r for r in found}


def _row(job: Job, by_name: Mapping[str, Mapping[int, Run]], domain: str, at: Sequence[int]) -> Row:
    mine = by_name[job.name]
    speeds = [_speed(run, at) for run in mine.values()]
    first = next(iter(mine.values()))
    row: Row = {"contender": job.name, "kind": job.kind, "domain": domain, "prompts": len(at), "repeats": len(mine)}
    row |= {"tokens": sum(len(first["texts"][i]["tokens"]) for i in at)}
    row |= _spread("tokens_per_second", speeds)
    for key, other in (("times_generate", GENERATE), ("times_plain", PLAIN)):
        row |= _spread(key, ratios(mine, by_name.get(other, {}), at))
    yardstick = by_name.get(GENERATE, {})
    row["same_text"] = None
    if yardstick:
        theirs = next(iter(yardstick.values()))["texts"]
        row["same_text"] = sum(first["texts"][i]["tokens"] == theirs[i]["tokens"] for i in at)
    return row | _rounds(list(mine.values()), at) | {"peak_bytes": first.get("peak_bytes")}


def _rounds(runs: Sequence[Run], at: Sequence[int]) -> Row:
    """Of contenders whose rounds are known: tokens and nodes a round, the roofline, and what models did not take."""
    keys = ("tokens_per_round", "checked_per_round", "roofline", "reached", "of_roofline", "outside_models")
    if "rounds" not in runs[0]["texts"][0]:
        return dict.fromkeys(keys)
    parts = [[run["texts"][i] for i in at] for run in runs]
    tokens = [sum(len(t["tokens"]) for t in texts) for texts in parts]
    rounds = sum(t["rounds"] for t in parts[0])
    decoding = [sum(t["decoding"] for t in texts) for texts in parts]
    allowed = [sum(t["allowed"] for t in texts) if texts[0]["allowed"] is not None else None for texts in parts]
    known = [a for a in allowed if a]
    shares = [run["forward_share"] for run in runs if run.get("forward_share") is not None]
    return {
        "tokens_per_round": tokens[0] / rounds,
        "checked_per_round": sum(t["checked"] for t in parts[0]) / rounds,
        "roofline": median(t / a for t, a in zip(tokens, known, strict=True)) if known else None,
        "reached": median(t / d for t, d in zip(tokens, decoding, strict=True)),
        "of_roofline": median(a / d for a, d in zip(known, decoding, strict=True)) if known else None,
        "outside_models": 1 - median(shares) if shares else None,
    }


def _speed(run: Run, at: Sequence[int]) -> float:
    texts = [run["texts"][i] for i in at]
    return float(sum(len(t["tokens"]) for t in texts) / sum(t["seconds"] for t in texts))


def ratios(mine: Mapping[int, Run], other: Mapping[int, Run], at: Sequence[int]) -> list[float]:
    """Speed over that of another contender, in every repeat that has both."""
    return [_speed(run, at) / _speed(other[repeat], at) for repeat, run in mine.items() if repeat in other]


def _spread(key: str, values: Sequence[float]) -> Row:
    """Median, least and most; None without values."""
    return {
        key: median(values) if values else None,
        f"{key}_low": min(values, default=None),
        f"{key}_high": max(values, default=None),
    }


def noise(runs: Sequence[Run], repeats: int) -> Row | None:
    """What a difference of nothing looks like: plain decoding against the same once more. None where either is missing.

    typical: median of the relative differences over repeats; most: the largest.
    """
    one, other = (_good(runs, name, repeats) for name in (PLAIN, AGAIN))
    count = len(next(iter(one.values()))["texts"]) if one else 0
    apart = [abs(r - 1) for r in ratios(other, one, range(count))]
    return {"typical": median(apart), "most": max(apart), "repeats": len(apart)} if apart else None


def sentences(found: Sequence[Row], heard: Row | None) -> list[str]:
    """What the table says in words: the fastest of ours, against plain decoding, generate and the best fixed arm."""
    whole = [r for r in found if r["domain"] == ALL]
    ours = [r for r in whole if r["kind"] == "policy"]
    if not ours:
        return []
    best = max(ours, key=lambda r: r["tokens_per_second"])
    said = [f"{best['contender']}: {best['tokens_per_second']:.1f} tokens/s"]
    for key, name in (("times_plain", "plain decoding"), ("times_generate", "transformers' generate")):
        if best[key] is not None:
            said.append(f"{best[key]:.2f} x {name} ({best[f'{key}_low']:.2f} to {best[f'{key}_high']:.2f})")
    arms = [r for r in whole if r["kind"] == "arm"]
    if arms:
        arm = max(arms, key=lambda r: r["tokens_per_second"])
        ratio = best["tokens_per_second"] / arm["tokens_per_second"]
        told = heard is None or abs(ratio - 1) > heard["typical"]
        said.append(f"{ratio:.2f} x the best fixed arm ({arm['contender']})" + ("" if told else ", which is noise"))
    return ["; ".join(said), *_worst(found, best["contender"])]


def _worst(found: Sequence[Row], name: str) -> list[str]:
    """The domain where a policy gains least over plain decoding."""
    domains = [r for r in found if r["contender"] == name and r["domain"] != ALL and r["times_plain"] is not None]
    if len(domains) < 2:
        return []
    least = min(domains, key=lambda r: r["times_plain"])
    return [f"{name} gains least in {least['domain']}: {least['times_plain']:.2f} x plain decoding"]
