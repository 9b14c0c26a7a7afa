"""``metasd run``: decode live with a policy, and say how it did against the alternatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli import costs, dry, together
from metasd.cli.common import (
    POLICY_HELP,
    PROMPTS_HELP,
    FilePath,
    emit,
    json_option,
    load_prior,
    loading_options,
    model_options,
    prior_option,
    progress_console,
    reset_option,
    result_console,
)
from metasd.cli.costs import costs_option
from metasd.core import shown
from metasd.core.pool import DRAFT_LENGTH

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.core.costs import CostModel
    from metasd.runtime.contenders import Contender, Decoding
    from metasd.sim.replay.fidelity import Fidelity
    from metasd.sim.replay.forecast import Forecast
    from metasd.traces import Trace


@click.command("run")
@click.option("--prompts", "prompt_file", type=FilePath, help=PROMPTS_HELP)
@click.option("--prompt", help="One prompt; - reads it from standard input.")
@click.option("--policy", "spec", default="default", show_default=True, metavar="SPEC", help=f"{POLICY_HELP}.")
@click.option("--baseline", is_flag=True, help="Also measure plain decoding and every fixed arm, in turn.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="With --baseline: repetitions, each anew.",
)
@click.option(
    "--lanes",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Prompts that are decoded at once, in one pass of the target a round.",
)
@click.option("--quiet", is_flag=True, help="Do not print the answers.")
@click.option("--dry-run", is_flag=True, help="Only say how much memory the run will need; nothing is loaded.")
@costs_option
@click.option(
    "--trace", metavar="TRACE", help="Trace of the same prompts: check the run against its replay, round by round."
)
@click.option("--svg", type=FilePath, help="With --prompt: also write the coloured answer as SVG.")
@click.option("--html", "html_file", type=FilePath, metavar="FILE", help="Also write a self-contained HTML report.")
@model_options
@loading_options
@reset_option
@prior_option
@json_option
@together.tensor_parallel_option
def command(
    prompt_file: Path | None,
    prompt: str | None,
    spec: str,
    baseline: bool,
    repeats: int,
    lanes: int,
    quiet: bool,
    dry_run: bool,
    costs_from: str,
    trace: str | None,
    svg: Path | None,
    html_file: Path | None,
    reset: str | None,
    prior: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Decode live with a policy; --baseline puts plain decoding and every fixed arm beside it.

    Answers are printed as they are decoded, every token in the colour of the drafter that guessed it.
    """
    _check_wanted(prompt_file, prompt, svg, html_file)
    from metasd.cli.before import checked
    from metasd.cli.models import open_models, read_prompts, warm_up

    learned, wanted = load_prior(prior), costs.asked(costs_from)
    prompts = read_prompts(prompt_file, prompt, options["turns"])
    recorded, cut = checked(spec, options, prompts, trace=trace, costs=wanted, prior=learned, lanes=lanes)
    if dry_run:
        dry.run(options, prompts, entrants=_entrants(options, cut, baseline=baseline), lanes=lanes, as_json=as_json)
        return
    from metasd.cli import lossless
    from metasd.runtime import contenders as live
    from metasd.runtime import repeats as repeated
    from metasd.runtime import worth

    models = open_models(prompts, prompt_file=prompt_file, **options)
    lossless.check_same(models, recorded, options["max_new_tokens"], lanes)
    how = _how(models, options, costs.known(wanted, spec, models, cut, recorded), lanes, recorded)
    times = repeats if baseline else 1
    beside: dict[str, Any] = {"baseline": baseline, "prior": learned, "length": _alone(options), "lanes": how.lanes}
    anew = partial(live.contenders, [spec], partial(models.build, cut), **beside)
    chosen = (first := anew())[-1]
    with _shown(models, chosen, svg, len(models.texts) * len(first) * times, quiet or as_json) as advance:
        again = partial(repeated.run, repeats=times, reset=reset, advance=advance)
        runs = again(models.target, lambda n: anew() if n else first, models.texts, how)
    rows = repeated.merged([live.rows(each, models.texts) for each in runs])
    parted = live.parted(models.target, first, models.texts, how)
    lossless.warn(parted, len(models.texts), models.target.dtype)
    checks = lossless.checks(models, first, rows, recorded, draft_length=cut, how=how, prior=learned)
    verdict = repeated.sentence(repeated.total(rows, chosen.spec)) if baseline else None
    remarks, losses = repeated.remarks(runs), worth.of_run(first, how.costs, models.texts)
    if as_json or html_file:
        said = {"policy": chosen.policy.settings(), "baseline": baseline, "repeats": times, "lanes": how.lanes}
        more = lossless.checks_to_json(checks) | {"partings": lossless.to_json(parted)}
        more |= {"verdict": verdict, "remarks": remarks, "losses": losses, "costs": costs.report(how.costs, chosen)}
        _emit(document_of(models, chosen, models.config | said | warm_up(), rows) | more, as_json, html_file)
    if not as_json:
        _print(rows, len(models.texts), checks, [*remarks, *losses], verdict)


def _how(
    models: Models, options: dict[str, Any], costs: CostModel | None, lanes: int, recorded: Trace | None
) -> Decoding:
    """How everyone decodes. A run that is checked goes by the costs alone, so that its replay can choose alike."""
    from metasd.runtime.contenders import Decoding

    clock = "model" if recorded is not None and costs is not None else "measured"
    budget, seed, lanes = options["max_new_tokens"], options["seed"], min(lanes, len(models.texts))
    costs = None if costs is None else costs.shared(lanes)
    return Decoding(budget, models.sampling, seed, clock=clock, costs=costs, stops=models.stops, lanes=lanes)


def _alone(options: dict[str, Any]) -> int | None:
    """The draft length of the drafters that --baseline decodes with alone; None: every arm they have.

    Four drafters at six lengths would be 24 contenders that nobody asked for by name.
    """
    return DRAFT_LENGTH if not options["drafters"] and options["draft_length"] is None else None


def _entrants(options: dict[str, Any], cut: int | None, *, baseline: bool) -> int:
    """How many decode side by side, each with caches of its own."""
    from metasd.runtime.registry import preview

    pool = preview(options["drafters"], options["target"], draft_length=options["draft_length"])
    arms, length = (pool if cut is None else pool.cut(cut)).arms, _alone(options)
    alone = [a for a in arms if a.drafter >= 0 and length in (None, a.draft_length)]
    return 2 + len(alone) if baseline else 1


def _check_wanted(prompt_file: Path | None, prompt: str | None, svg: Path | None, html_file: Path | None) -> None:
    """Raises click's UsageError unless there is one source of prompts, and one answer where it is to be drawn.

    Raises FileError for a page that cannot be written.
    """
    if (prompt_file is None) == (prompt is None):
        raise click.UsageError("give either --prompts FILE or --prompt TEXT")
    if html_file is not None:
        from metasd.core import files

        files.check_place(html_file)
    if svg is not None and prompt is None:
        raise click.UsageError("--svg draws one answer; give --prompt TEXT instead of --prompts")


def _print(
    rows: Sequence[dict[str, Any]],
    texts: int,
    checks: tuple[Fidelity, Sequence[Forecast]] | None,
    remarks: Sequence[str],
    verdict: str | None,
) -> None:
    """Tables, what makes them doubtful, and the closing sentence."""
    from metasd.report.facts import show_forecasts
    from metasd.report.terminal import show

    show(rows, result_console())
    if checks is not None:
        fidelity, forecasts = checks
        show_forecasts([f.to_json() for f in forecasts], result_console())
        others = f"{fidelity.texts_differing} of {texts} texts from the recorded ones"
        click.echo(f"{fidelity.rounds} rounds run, {fidelity.differing} of them differ from the replay; {others}")
    for remark in remarks:
        click.echo(shown.line(f"warning: {remark}"), err=True)
    if verdict is not None:
        click.echo(shown.line(verdict))


def _emit(made: dict[str, Any], as_json: bool, html_file: Path | None) -> None:
    """The document where it was asked for: on stdout, as a page."""
    if as_json:
        emit(made)
    if html_file is not None:
        from metasd.report.html.page import write_report

        write_report(made, html_file)


def document_of(
    models: Models, entrant: Contender, config: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The JSON document of a run, with every text that the policy decoded and its rounds."""
    from metasd.core.results import document
    from metasd.runtime.generated import generated

    texts = [g.to_json() for g in generated(entrant, models.target, models.texts, models.stops)]
    return document("run", config, rows, texts=texts, forward_share=entrant.session.forward_share)


@contextmanager
def _shown(models: Models, chosen: Contender, svg: Path | None, steps: int, quiet: bool) -> Iterator[Any]:
    """Inside it answers are painted as ``chosen`` decodes them, or, with ``quiet``, progress is told."""
    from metasd.core.progress import bar, lines
    from metasd.report.cells import words
    from metasd.report.colours import Painter

    if quiet:
        with bar(steps, "decoding") as told:
            yield told
        return
    advance: Callable[[], object] | None = None
    if steps > len(models.texts):
        advance = lines(steps, "decoding (texts)")  # only some of them are painted
        said = f"decoding {steps} texts, those of {chosen.spec} as they come"
        progress_console().print(words(said, "dim", None))
    headings = [] if len(models.texts) == 1 else [f"{name} ({domain})" for name, domain, _ in models.texts]
    stops = [models.stops.get(name, ()) for name, _, _ in models.texts]
    prompt = models.prompts[0].text
    painter = Painter(chosen.pool, models.target.decode, svg, headings=headings, stops=stops, prompt=prompt)
    chosen.on_tokens = painter.tokens
    with painter:
        yield advance or (lambda: None)
        speed = chosen.ledger.totals().tokens_per_second
        painter.remark = f"{models.target.name}, policy {chosen.spec}" + (f", {speed:.1f} tokens/s" if speed else "")
