"""``metasd demo``: the main job end to end on a real model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import FilePath, ignore_option, progress_console, result_console

if TYPE_CHECKING:
    from metasd.cli.models import Models

FIDELITY_TOKENS = 24
FIDELITY_LENGTHS = (1, 3, 8)
RECORDED_LENGTH = 8


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
    log.rule(f"3. run live: {best} at draft length {length}, beside plain decoding and every fixed arm")
    lossless = _run(models, best, length, max_new_tokens)
    log.rule("4. check: is what was simulated what runs?")
    identical = _check(models, open_trace(trace_folder))
    click.echo(f"report: {report}\ntrace: {trace_folder}")
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
        click.echo(f"{folder} holds the whole recording already; remove it to record anew")
        return
    click.echo(
        f"{done['tokens']} positions x {len(pool.drafters)} drafters in {done['seconds']:.0f} s, "
        f"{done['ratio']:.1f} times plain decoding of the same text"
    )


def _compare(folder: Path, models: Models, report: Path) -> str:
    """Compare every policy, write the report, and return the one with the most tokens a round."""
    from metasd.core.progress import bar
    from metasd.core.results import ALL
    from metasd.report.html.page import write_report
    from metasd.report.leaderboard import show
    from metasd.sim.compare.leaderboard import document
    from metasd.sim.compare.run import compare

    result = document(compare([folder], seeds=5, progress=bar))
    show(result, result_console())
    write_report(result, report, decode=models.target.decode)
    own = [r for r in result["results"] if r["domain"] == ALL and not r["policy"].startswith("fixed:")]
    best: str = max(own, key=lambda r: r["tokens_per_round"])["policy"]
    return best


def _draft_length(folder: Path, spec: str) -> int:
    """The draft length at which replay, on the clock just measured, promises the most tokens a second."""
    from metasd.sim.oracle.regret import rows as rows_of
    from metasd.sim.replay.run import replay
    from metasd.traces import open_trace

    trace = open_trace(folder)
    lengths = range(1, RECORDED_LENGTH + 1)
    speeds = [rows_of(replay(trace, spec, draft_length=n))[-1]["tokens_per_second"] for n in lengths]
    promised = ", ".join(f"{n}: {speed:.1f}" for n, speed in zip(lengths, speeds, strict=True))
    click.echo(f"tokens/s that replay promises, by draft length: {promised}")
    return 1 + speeds.index(max(speeds))


def _run(models: Models, spec: str, length: int, max_new_tokens: int) -> bool:
    """Decode beside plain decoding and every fixed arm; whether all outputs were the target's own."""
    from metasd.cli import lossless
    from metasd.core.progress import bar
    from metasd.report.terminal import show
    from metasd.runtime import contenders as live

    how = live.Decoding(max_new_tokens=max_new_tokens)
    entrants = live.contenders([spec], partial(models.build, length), baseline=True, prior=None)
    with bar(len(models.texts) * len(entrants), "decoding") as advance:
        live.run(models.target, entrants, models.texts, how, advance=advance)
    show(live.rows(entrants, models.texts), result_console(), domains=False)
    parted = live.parted(models.target, entrants, models.texts, how)
    lossless.warn(parted, len(models.texts), models.target.dtype)
    equal = not parted
    share = entrants[-1].session.forward_share or 0.0
    click.echo(
        f"all outputs equal the target's own greedy text: {equal}; outside model passes: {1 - share:.1%} of a round"
    )
    return equal


def _check(models: Models, trace: Any) -> bool:
    """Play every policy live on one text, at three draft lengths; whether every round equals its replay's."""
    from metasd.cli import lossless
    from metasd.core.progress import bar
    from metasd.runtime import contenders as live
    from metasd.sim.compare.run import default_policies

    specs, seen = default_policies(), []
    models = replace(models, texts=models.texts[:1])
    whole = models.config["max_new_tokens"]
    budget = whole if "forced_eos_token_id" in models.target.settings.applied else min(FIDELITY_TOKENS, whole)
    lossless.check_same(models, trace, budget)
    how = live.Decoding(max_new_tokens=budget, clock="model", costs=trace.costs)
    with bar(len(specs) * len(FIDELITY_LENGTHS), "checking") as advance:
        for length in FIDELITY_LENGTHS:
            entrants = live.contenders(specs, partial(models.build, length), baseline=False, prior=None)
            live.run(models.target, entrants, models.texts, how, advance=advance)
            seen += [lossless.check_run(models, e, trace, draft_length=length, budget=budget) for e in entrants]
    found = sum(seen[1:], seen[0])
    click.echo(
        f"{found.rounds} live rounds of {len(specs)} policies at draft lengths "
        f"{', '.join(map(str, FIDELITY_LENGTHS))}: {found.differing} differ from the replay"
    )
    return found.identical
