"""Speed: plain decoding, every fixed arm, the default policy and transformers' own ``generate``, in turn.

Every repeat runs all of them once, so that a machine's drift meets all; the drafters are fresh in each, or a growing
table would remember the texts of the one before. A speed-up is the median over repeats of the ratio within a repeat.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from metasd.runtime import contenders as live
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.load import Target

from .plan import Setting
from .setting import builder, generate, open_target, peak_memory, synchronize, texts_of
from .worker import Report

GENERATE = "transformers generate"


def measure(setting: Setting, report: Report) -> None:
    """Rows by contender, after every repeat; times of prompts are in ``with_prefill`` alone."""
    memory = report.found["memory"] = {}
    seen: dict[str, list[dict[str, Any]]] = {}
    with peak_memory(setting.device, memory.setdefault(setting.dtype, {})):
        target = open_target(setting, setting.dtype)
        texts = texts_of(target, setting.texts, setting.tokens)
        report.say("warming up")
        _repeat(setting, target, texts[:1], min(setting.tokens, 16))
        for repeat in range(setting.repeats):
            if repeat and not report.time_left():
                return
            report.say(f"repeat {repeat + 1} of at most {setting.repeats}")
            for name, run in _repeat(setting, target, texts, setting.tokens).items():
                seen.setdefault(name, []).append(run)
            report.found |= {"dtype": setting.dtype, "repeats": repeat + 1, "rows": rows_of(seen)}


def _repeat(setting: Setting, target: Target, texts: list[EncodedPrompt], tokens: int) -> dict[str, dict[str, Any]]:
    """One run of everything: tokens, seconds and texts by contender, plain decoding first."""
    build = builder(target, setting.draft_length, skip=False)
    entrants = live.contenders(["default"], build, baseline=True, prior=None)
    live.run(target, entrants, texts, live.Decoding(max_new_tokens=tokens))
    runs = {}
    for entrant in entrants:
        totals = entrant.ledger.totals()
        runs[entrant.spec] = {
            "tokens": totals.emitted,
            "seconds": totals.seconds,
            "with_prefill": totals.seconds + entrant.session.prefill_seconds,
            "rounds": totals.rounds,
            "forward_share": entrant.session.forward_share,
            "texts": entrant.session.texts,
        }
    return runs | {GENERATE: _generate(target, texts, tokens)}


def _generate(target: Target, texts: list[EncodedPrompt], tokens: int) -> dict[str, Any]:
    synchronize(target.device)
    started = time.perf_counter()
    answers = [generate(target, prompt, tokens) for _, _, prompt in texts]
    synchronize(target.device)
    seconds = time.perf_counter() - started
    return {"tokens": sum(map(len, answers)), "seconds": None, "with_prefill": seconds, "texts": answers}


def rows_of(seen: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians over repeats with the least and the most, beside plain decoding of the same repeat."""
    plain = seen[live.PLAIN_SPEC]
    rows = []
    for name, runs in seen.items():
        clock = "seconds" if runs[0]["seconds"] is not None else "with_prefill"
        speeds = [run["tokens"] / run[clock] for run in runs]
        with_prefill = [run["tokens"] / run["with_prefill"] for run in runs]
        ratios = [s / (p["tokens"] / p[clock]) for s, p in zip(speeds, plain, strict=True)]
        same = [
            a == b for run, p in zip(runs, plain, strict=True) for a, b in zip(run["texts"], p["texts"], strict=True)
        ]
        rows.append(
            {
                "contender": name,
                "prefill_counted": clock == "with_prefill",
                "tokens_per_second": spread(speeds),
                "tokens_per_second_with_prefill": spread(with_prefill),
                "speedup": spread(ratios),
                "tokens_per_round": runs[0]["tokens"] / runs[0]["rounds"] if "rounds" in runs[0] else None,
                "forward_share": runs[-1].get("forward_share"),
                "same_text": sum(same),
                "texts": len(same),
            }
        )
    return rows


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": median(values), "least": min(values), "most": max(values)}
