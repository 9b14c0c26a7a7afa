"""``metasd demo``: the main job end to end on a real model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import FilePath, ignore_option, progress_console, result_console
from metasd.core import shown
from metasd.report.cells import words

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.runtime.conversation import EncodedPrompt
    from metasd.traces import Trace

FIDELITY_TOKENS = 24
FIDELITY = {3: None, 1: ("default", "metasd-ucb", "random"), 8: ("default", "metasd-ucb", "random")}
"""Policies checked at each draft length, None for all: what length does to a round does not depend on who chose it."""
RECORDED_LENGTH = 8
LIVE_TOKENS = 40
"""New tokens of an answer that is timed: every contender says every text three times, most of the demo's minutes."""
REPEATS = 3


@click.command("demo")
@click.option("--out", type=FilePath, default=Path("demo-out"), show_default=True, help="Folder of trace and report.")
@click.option("--target", default="smollm2", show_default=True, help="Hub id, folder, .gguf file or smollm2.")
@click.option("--per-domain", type=click.IntRange(1, 4), default=2, show_default=True, help="Prompts of each domain.")
@click.option("--max-new-tokens", type=click.IntRange(min=8), default=64, show_default=True)
@ignore_option
def command(out: Path, target: str, per_domain: int, max_new_tokens: int, ignore_generation_config: bool) -> None:
    """Record a small trace from a real model, replay every policy on it, and decode live with the best one."""
    from metasd.traces import open_trace

    log = progress_console()
    models = _open(target, per_domain, max_new_tokens, ignore_generation_config)
    trace_folder, report = out / "trace", out / "report.html"
    log.rule("1. record: what every drafter would have done at every position")
    _record(models, trace_folder, max_new_tokens)
    log.rule("2. replay: every policy on that trace, without the models")
    best = _compare(trace_folder, models, report)
    length = _draft_length(trace_folder, best)
    live = f"3. run live: {best} at draft length {length}, beside plain decoding and every fixed arm"
    log.rule(words(live, limit=None))
    trace = open_trace(trace_folder)
    lossless = _run(models, best, length, trace)
    log.rule("4. check: is what was simulated what runs?")
    identical = _check(models, trace)
    click.echo(f"report: {shown.line(report)}\ntrace: {shown.line(trace_folder)}")
    if not (lossless and identical):
        raise click.ClickException("the demo's own checks failed, see above; please report it with metasd env")


def _open(target: str, per_domain: int, max_new_tokens: int, ignore_generation_config: bool) -> Models:
    from metasd.cli.models import open_models

    models = open_models(
        target=target,
        drafters=(),
        draft_length=RECORDED_LENGTH,
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        top_k=None,
        top_p=None,
        seed=0,
        device="cpu",
        dtype="float32",
        turns="first",
        raw=False,
        ignore_generation_config=ignore_generation_config,
        prompt_file=Path("demo"),
    )
    kept: list[Any] = []
    for text in models.texts:
        if sum(t[1] == text[1] for t in kept) < per_domain:
            kept.append(text)
    models.texts = kept
    return models


def _record(models: Models, folder: Path, max_new_tokens: int) -> None:
    from metasd.record.run import record

    drafters, pool = models.build()
    done = record(models.target, drafters, pool, models.texts, folder, max_new_tokens=max_new_tokens, resume=True)
    if done["ratio"] is None:
        click.echo(f"{shown.line(folder)} holds the whole recording already; remove it to record anew")
        return
    click.echo(
        f"{done['tokens']} positions x {len(pool.drafters)} drafters in {done['seconds']:.0f} s, "
        f"{done['ratio']:.1f} times plain decoding of the same text"
    )


def _compare(folder: Path, models: Models, report: Path) -> str:
    """Compare every policy, write the report, and return the fastest on the clock just measured."""
    from metasd.core.progress import bar
    from metasd.core.results import ALL
    from metasd.report.html.page import write_report
    from metasd.report.leaderboard import ranked, show
    from metasd.sim.compare.leaderboard import document
    from metasd.sim.compare.run import compare

    result = document(compare([folder], seeds=5, progress=bar))
    show(result, result_console())
    write_report(result, report)
    own = [r for r in result["results"] if r["domain"] == ALL and not r["policy"].startswith("fixed:")]
    return str(ranked(own)[0]["policy"])


def _draft_length(folder: Path, spec: str) -> int:
    """The draft length at which replay, on the clock just measured, promises the most tokens a second.

    To a policy of plans a draft length says nothing: the best single drafter then decides, what it is held against.
    """
    from metasd.policies import make
    from metasd.sim.oracle.regret import rows as rows_of
    from metasd.sim.replay.run import replay
    from metasd.traces import open_trace

    trace, plans = open_trace(folder), make(spec).plans
    lengths, speeds = range(1, RECORDED_LENGTH + 1), list[float]()
    for n in lengths:
        played = [f"fixed:arm={a.name}" for a in trace.pool(n).arms if a.drafter >= 0] if plans else [spec]
        rows = [rows_of(replay(trace, each, draft_length=n))[-1] for each in played]
        speeds.append(max(row["tokens_per_second"] for row in rows))
    promised = ", ".join(f"{n}: {speed:.1f}" for n, speed in zip(lengths, speeds, strict=True))
    whom = "the best single drafter" if plans else spec
    click.echo(f"tokens/s that replay promises to {whom}, by draft length: {promised}")
    return 1 + speeds.index(max(speeds))


def _run(models: Models, spec: str, length: int, trace: Trace) -> bool:
    """Decode a prompt of each domain beside plain decoding and every fixed arm, in turn and repeated.

    Returns whether all outputs were the target's own.
    """
    from metasd.cli import lossless
    from metasd.core.progress import bar
    from metasd.report.terminal import show
    from metasd.runtime import contenders as live
    from metasd.runtime import repeats as repeated

    texts = _first_of_each_domain(models.texts)
    how = live.Decoding(max_new_tokens=_budget(models, LIVE_TOKENS), costs=trace.costs)
    anew = partial(live.contenders, [spec], partial(models.build, length), baseline=True, prior=None)
    first = anew()
    with bar(len(texts) * len(first) * REPEATS, "decoding") as advance:
        runs = repeated.run(
            models.target, lambda n: anew() if n else first, texts, how, repeats=REPEATS, advance=advance
        )
    rows = repeated.merged([live.rows(each, texts) for each in runs])
    show(rows, result_console(), domains=False)
    for remark in repeated.remarks(runs):
        click.echo(shown.line(f"the machine was too noisy to compare: {remark}"))
    click.echo(shown.line(repeated.sentence(repeated.total(rows, spec))))
    parted = live.parted(models.target, first, texts, how)
    lossless.warn(parted, len(texts), models.target.dtype)
    share = first[-1].session.forward_share or 0.0
    outside = f"outside model passes: {1 - share:.1%} of a round"
    click.echo(f"all outputs equal the target's own greedy text: {not parted}; {outside}")
    return not parted


def _budget(models: Models, tokens: int) -> int:
    """At most that many of the recorded tokens; all of them where the target forces its last one."""
    whole: int = models.config["max_new_tokens"]
    return whole if "forced_eos_token_id" in models.target.settings.applied else min(tokens, whole)


def _first_of_each_domain(texts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
    first = {domain: text for text in reversed(texts) for domain in [text[1]]}
    return [text for text in texts if first[text[1]] is text]


def _check(models: Models, trace: Trace) -> bool:
    """Play policies live on one text, at three draft lengths; whether every round equals its replay's."""
    from metasd.cli import lossless
    from metasd.core.progress import bar
    from metasd.runtime import contenders as live
    from metasd.sim.compare.run import default_policies

    models = replace(models, texts=models.texts[:1])
    budget = _budget(models, FIDELITY_TOKENS)
    lossless.check_same(models, trace, budget)
    how = live.Decoding(max_new_tokens=budget, clock="model", costs=trace.costs)
    plan = {length: specs or default_policies() for length, specs in FIDELITY.items()}
    seen = []
    with bar(sum(map(len, plan.values())), "checking") as advance:
        for length, specs in plan.items():
            entrants = live.contenders(specs, partial(models.build, length), baseline=False, prior=None)
            live.run(models.target, entrants, models.texts, how, advance=advance)
            seen += [lossless.check_run(models, e, trace, draft_length=length, how=how) for e in entrants]
    found = sum(seen[1:], seen[0])
    counts = ", ".join(f"{len(specs)} at draft length {length}" for length, specs in plan.items())
    click.echo(f"{found.rounds} live rounds of policies ({counts}): {found.differing} differ from the replay")
    return found.identical
