"""What several commands share: options, consoles, and how a result document leaves the program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.streams import current
from metasd.core import jsontext, shown
from metasd.core.pool import DRAFT_LENGTH, DRAFT_LENGTHS

if TYPE_CHECKING:
    from rich.console import Console

    from metasd.core.costs import CostModel

FilePath = click.Path(path_type=Path)


TRACE_HELP = (
    "Folder of a recorded trace; reference, reference-2, reference-trained, reference-shifted or reference-sampled, "
    "which ship, or a part of one (reference-2:part=train or test, reference-trained:pool=white-box, black-box or "
    "models); or synthetic:kind=iid,..."
)

COSTS_HELP = "costs.json of another machine, or a modelled clock: gpu-b1, gpu-b32."

POLICY_HELP = "name, package.module:Class or file.py:Class, with key=value,..."

LENGTH_HELP = (
    f"Draft length of every drafter. Default: {DRAFT_LENGTH}; without --drafter {', '.join(map(str, DRAFT_LENGTHS))}, "
    "an arm each."
)

PROMPTS_HELP = (
    "JSON lines, CSV, a .txt file (one prompt), -, or what ships: eval, train/code+math, ... (metasd prompts)."
)


def _json_alone(context: click.Context, option: click.Parameter, given: bool) -> bool:
    guard = current()
    if given and guard is not None:
        guard.json_alone()
    return given


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_json_alone,
    help="Print one JSON document on stdout, nothing else.",
)


def once(context: click.Context, option: click.Parameter, given: tuple[Any, ...]) -> Any:
    """The one value of an option. Raises click.BadParameter for a second one, which would replace the first unseen."""
    if len(given) > 1:
        raise click.BadParameter(f"given {len(given)} times ({', '.join(map(str, given))}); give it once")
    return given[0] if given else None


prior_option = click.option(
    "--prior", type=FilePath, multiple=True, callback=once, help="Prior file written by metasd fit."
)


def seeds_option(default: int) -> Callable[..., Any]:
    """``--seeds``."""
    many = click.IntRange(1, 1_000_000)
    return click.option("--seeds", type=many, default=default, show_default=True, help="Repetitions, seeds 0..N-1.")


trace_option = click.option("--trace", "source", required=True, multiple=True, callback=once, help=TRACE_HELP)
reset_option = click.option(
    "--reset",
    type=click.Choice(["prompt", "never"]),
    help="Forget at every prompt, or keep what was learned. Default: the policy's own.",
)
unaligned_option = click.option(
    "--include-unaligned", is_flag=True, help="Also use prompts whose columns were recorded on another text."
)


ignore_option = click.option(
    "--ignore-generation-config", is_flag=True, help="Decode as if the target shipped no penalties, bans or lengths."
)


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose models and how they decode."""
    options = (
        click.option("--target", default="smollm2", show_default=True, help="Hub id, folder, .gguf file or smollm2."),
        click.option(
            "--drafter", "drafters", multiple=True, metavar="SPEC", help="name or name:key=value,... (repeat)."
        ),
        click.option("--draft-length", type=int, help=LENGTH_HELP),
        click.option("--max-new-tokens", type=int, default=128, show_default=True, help="Token budget of a text."),
        click.option("--temperature", type=float, default=0.0, show_default=True, help="0 decodes greedily."),
        click.option("--top-k", type=int, help="Sample among the k likeliest tokens."),
        click.option("--top-p", type=float, help="Sample within this probability mass."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--turns", type=click.Choice(["first", "all"]), default="first", help="Turns of a Spec-Bench line."
        ),
        click.option("--raw", is_flag=True, help="Do not apply the chat template."),
        ignore_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def loading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a target is loaded, and what becomes of prompts that it cannot read: the same for every command."""
    options = (
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option(
            "--dtype",
            default="auto",
            show_default=True,
            help="float32, bfloat16 or float16; auto: float32 on a CPU, elsewhere the model's own.",
        ),
        click.option("--attn", "attention", metavar="NAME", help="sdpa, eager or flash_attention_2."),
        click.option(
            "--engine",
            default="auto",
            show_default=True,
            metavar="PATH",
            help="How passes are run: eager, packed (float32 on a CPU), graphs (CUDA); auto: what the device allows.",
        ),
        click.option("--device-map", metavar="MAP", help="Spread layers over devices: auto, balanced, ..."),
        click.option("--revision", help="Branch, tag or commit of a Hugging Face id."),
        click.option("--skip-too-long", is_flag=True, help="Leave out prompts that do not fit, and count them."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def progress_console() -> Console:
    """Where progress and logs go: stderr."""
    from rich.console import Console

    return Console(stderr=True)


def result_console() -> Console:
    """Where tables go: stdout. A pipe has no width of its own, so give it the one that tables are made for."""
    from rich.console import Console

    from metasd.report.terminal import WIDTH

    return Console() if sys.stdout is not None and sys.stdout.isatty() else Console(width=WIDTH)


def say_approximate(what: str) -> None:
    """Say on stderr in which way a trace is not exact."""
    from rich.text import Text

    progress_console().print(Text.assemble(("approximate: ", "yellow"), shown.line(what)))


def emit(document: Mapping[str, Any]) -> None:
    """Print ``document`` as one line of JSON on stdout."""
    text, guard = jsontext.dumps(document), current()
    if guard is None:
        click.echo(text)
    else:
        guard.result(text)


def load_costs(path: Path | None) -> CostModel | None:
    """The cost model in a file named with --costs, or a shipped clock. Raises UsageError when it is neither."""
    from metasd.core import clocks
    from metasd.core.costs import CostModel
    from metasd.core.errors import TraceError, UsageError

    if path is None:
        return None
    try:
        return CostModel.load(clocks.find(path))
    except TraceError as error:
        raise UsageError(f"--costs {error}") from error


def load_prior(path: Path | None) -> dict[str, Any] | None:
    """The prior in ``path``. Raises UsageError when it is not one."""
    from metasd.core.errors import UsageError

    if path is None:
        return None
    try:
        prior = jsontext.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--prior {path}: {shown.reason(error)}; write one with metasd fit") from error
    if not isinstance(prior, dict):
        raise UsageError(f"--prior {path} is not a JSON object; write one with metasd fit")
    return prior
