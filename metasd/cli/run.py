"""``metasd run``: decode live with a policy, and say how it did against the alternatives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import (
    FilePath,
    emit,
    json_option,
    load_costs,
    load_prior,
    loading_options,
    model_options,
    prior_option,
    reset_option,
    result_console,
)

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.runtime.contenders import Contender, Decoding
    from metasd.sim.replay.fidelity import Fidelity
    from metasd.traces import Trace


@click.command("run")
@click.option("--prompts", "prompt_file", type=FilePath, help="JSON lines, or a bundled name: demo, reference.")
@click.option("--prompt", help="One prompt, streamed to the terminal.")
@click.option(
    "--policy", "spec", default="default", show_default=True, metavar="SPEC", help="name or name:key=value,..."
)
@click.option("--baseline", is_flag=True, help="Also measure plain decoding and every fixed arm, in turn.")
@click.option("--costs", type=FilePath, help="costs.json of this machine, for policies that weigh time.")
@click.option(
    "--trace", metavar="TRACE", help="Trace of the same prompts: check the run against its replay, round by round."
)
@click.option("--svg", type=FilePath, help="With --prompt: also write the coloured answer as SVG.")
@model_options
@loading_options
@reset_option
@prior_option
@json_option
def command(
    prompt_file: Path | None,
    prompt: str | None,
    spec: str,
    baseline: bool,
    costs: Path | None,
    trace: str | None,
    svg: Path | None,
    reset: str | None,
    prior: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Decode live with a policy; --baseline puts plain decoding and every fixed arm beside it."""
    if (prompt_file is None) == (prompt is None):
        raise click.UsageError("give either --prompts FILE or --prompt TEXT")
    from metasd.policies import make

    make(spec)  # an unknown policy is reported before a model is loaded
    learned = load_prior(prior)
    from metasd.cli.models import open_models
    from metasd.runtime import contenders as live

    recorded = None if trace is None else _recorded(trace, options)
    cut = options["draft_length"] if recorded is not None else None
    if recorded is not None:
        options["draft_length"] = recorded.depth  # drafters as recorded, their arms cut: proposals and signals agree
    models = open_models(prompt_file=prompt_file, prompt=prompt, **options)
    how = live.Decoding(
        max_new_tokens=options["max_new_tokens"],
        sampling=models.sampling,
        seed=options["seed"],
        costs=load_costs(costs),
    )
    entrants = live.contenders([spec], partial(models.build, cut), baseline=baseline, prior=learned)
    if prompt is not None and not as_json:
        _stream(models, entrants, how, reset, svg)
    else:
        _decode(models, entrants, how, reset)
    rows = live.rows(entrants, models.texts)
    checked = None if recorded is None else _check(models, entrants[-1], recorded, cut, how, learned)
    if as_json:
        config = models.config | {"policy": entrants[-1].policy.settings(), "baseline": baseline}
        fidelity = None if checked is None else checked.to_json()
        emit(document_of(models, entrants[-1], config, rows) | {"fidelity": fidelity})
        return
    from metasd.report.terminal import show

    show(rows, result_console())
    if checked is not None:
        click.echo(f"{checked.rounds} rounds run, {checked.differing} of them differ from the replay")


def document_of(
    models: Models, entrant: Contender, config: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The JSON document of a run, with the texts that the policy decoded."""
    from metasd.core.results import document

    texts = [
        {"id": name, "token_ids": tokens, "text": models.target.decode(tokens)}
        for (name, _, _), tokens in zip(models.texts, entrant.session.texts, strict=True)
    ]
    extra = {"forward_share": entrant.session.forward_share}
    return document("run", config, rows, texts=texts, **extra)


def _recorded(source: str, options: dict[str, Any]) -> Trace:
    """The trace to check against. Raises UsageError where run and replay are not the same round by round."""
    from metasd.core.errors import UsageError
    from metasd.traces import open_trace

    if options["temperature"] > 0:
        raise UsageError(f"--trace with --temperature {options['temperature']}: sampled runs agree in law only; use 0")
    trace = open_trace(source)
    trace.check_draft_length(options["draft_length"])
    return trace


def _check(
    models: Models, entrant: Contender, trace: Trace, cut: int | None, how: Decoding, prior: dict[str, Any] | None
) -> Fidelity:
    from metasd.core.errors import UsageError
    from metasd.sim.replay.fidelity import check

    replayed = trace.pool(cut)
    if entrant.pool.names != replayed.names:
        raise UsageError(f"the run's arms {entrant.pool.names} are not the trace's {replayed.names}; name its drafters")
    return check(
        entrant.rounds,
        [name for name, _, _ in models.texts],
        trace,
        entrant.spec,
        draft_length=cut,
        reset=entrant.policy.reset,
        prior=prior,
        budget=how.max_new_tokens,
    )


def _decode(models: Models, entrants: list[Contender], how: Decoding, reset: str | None) -> None:
    from metasd.core.progress import bar
    from metasd.runtime import contenders as live

    with bar(len(models.texts) * len(entrants), "decoding") as advance:
        live.run(models.target, entrants, models.texts, how, reset=reset, advance=advance)


def _stream(models: Models, entrants: list[Contender], how: Decoding, reset: str | None, svg: Path | None) -> None:
    """Decode the one prompt with the policy, printing every token in the colour of the drafter it came from."""
    from metasd.report.colours import Painter
    from metasd.runtime import contenders as live

    *baselines, chosen = entrants
    painter = Painter(chosen.pool, models.target.decode, svg)
    with painter:
        live.run(models.target, [chosen], models.texts, how, reset=reset, on_tokens=painter.tokens)
    if baselines:
        _decode(models, baselines, how, reset)
