"""``metasd chat``: a conversation with a target, every token in the colour of the drafter that guessed it."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli import costs
from metasd.cli.common import load_prior, loading_options, model_options, prior_option, progress_console
from metasd.cli.costs import costs_option
from metasd.core import lines, shown
from metasd.core.errors import MetaSDError, UsageError

if TYPE_CHECKING:
    from metasd.runtime.chat import Chat

HELP = "/quit ends, /system TEXT says who answers, /clear forgets what was said, Ctrl-C stops an answer"


@click.command("chat")
@click.option("--system", help="What is said before everything else.")
@click.option("--policy", "spec", default="default", show_default=True, metavar="SPEC")
@costs_option
@model_options
@loading_options
@prior_option
def command(system: str | None, spec: str, costs_from: str, prior: Path | None, **options: Any) -> None:
    """Talk with a target. Lines come from the terminal, or from a pipe, one a question."""
    from metasd.cli.before import checked, given
    from metasd.cli.models import open_models
    from metasd.runtime.chat import Chat
    from metasd.runtime.contenders import Decoding

    if options["raw"]:
        raise UsageError("--raw leaves the chat template out, without which there is no conversation; use metasd run")
    for name in ("turns", "skip_too_long"):
        if given(name):
            raise UsageError(f"--{name.replace('_', '-')} is about prompt files; a conversation has none: leave it out")
    if system is not None:
        lines.check_text(system, "--system")
    learned, wanted = load_prior(prior), costs.asked(costs_from)
    checked(spec, options, (), trace=None, costs=wanted, prior=learned)
    models = open_models((), **options)
    how = Decoding(
        options["max_new_tokens"], models.sampling, options["seed"], costs=costs.known(wanted, spec, models, None)
    )
    chat = Chat.of(models.target, models.build, how, spec, learned)
    chat.system = system
    talk(chat)


def talk(chat: Chat) -> None:
    """Questions and commands until the input ends."""
    screen = progress_console()
    if sys.stdin.isatty():
        screen.print(HELP, style="dim")
    for number in count(1):
        line = _line(number)
        if line is None:
            return
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return
        if word == "/clear":
            chat.clear()
        elif word == "/system":
            chat.system = rest.strip() or None
        elif word.startswith("/"):
            screen.print(shown.line(f"unknown command {word}; {HELP}"), markup=False, highlight=False)
        elif word:
            _answer(chat, line.strip())


def _line(number: int) -> str | None:
    """Line ``number``, None at the end. On a terminal it is asked for, and Ctrl-C gives up what is being written."""
    if not sys.stdin.isatty():
        return lines.next_of_standard_input(number)
    while True:
        try:
            return input("> ")
        except EOFError:
            return None
        except KeyboardInterrupt:
            click.echo("\n(/quit ends)", err=True)


def _answer(chat: Chat, question: str) -> None:
    """One answer, printed as it is decoded. What goes wrong with it is said, and the conversation goes on."""
    from metasd.report.colours import Voice

    voice = Voice(chat.pool)
    try:
        made = chat.say(question, voice.say)
    except KeyboardInterrupt:
        click.echo("\nstopped: that question is forgotten", err=True)
        return
    except MetaSDError as error:
        click.echo(shown.message(f"metasd: {error}; /clear forgets what was said"), err=True)
        return
    speed = made.tokens_per_second
    said = f"{len(made.tokens)} tokens" + (f", {speed:.1f} tokens/s" if speed else "")
    first = f", the first after {made.first_token_seconds:.2f} s" if made.first_token_seconds is not None else ""
    voice.end(f"{said}{first}, prompt of {made.prompt_tokens} tokens")
