"""The group of commands, and what a failure looks like: one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from metasd import __version__
from metasd.cli import (
    bench,
    cache,
    chat,
    compare,
    demo,
    distill,
    fit,
    growth,
    info,
    pool,
    prompts,
    record,
    replay,
    reproduce,
    run,
    trace,
)
from metasd.cli.streams import STDOUT, Streams, left
from metasd.core import shown
from metasd.core.errors import MetaSDError

INTERRUPTED = 130
LEFT = 141  # as the shell has it for a program that SIGPIPE ends


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="metasd")
def app() -> None:
    """Multi-drafter speculative decoding: record what every drafter would do, replay it, run it live."""


for command in (
    record.command,
    replay.command,
    run.command,
    chat.command,
    compare.command,
    fit.command,
    distill.command,
):
    app.add_command(command)
for command in (
    bench.group,
    trace.group,
    cache.group,
    pool.group,
    prompts.command,
    growth.command,
    reproduce.command,
    demo.command,
    info.policies,
    info.drafters,
    info.env,
):
    app.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 a contender of ``bench`` failed, 2 bad input, 3 invalid trace, 130 interrupted, 141 the reader of a pipe
    has gone (said by nobody).
    """
    with Streams() as streams:
        try:
            code = _run(arguments)
            streams.finish()
            return code
        except OSError as error:
            streams.give_up()
            return LEFT if left(error) else _fail(f"{error.filename}: {error.strerror}", MetaSDError.exit_code)


def _run(arguments: Sequence[str] | None) -> int:
    """One command. Raises OSError for what is wrong with stdout, and for nothing else."""
    try:
        result = app.main(
            args=None if arguments is None else list(arguments), prog_name="metasd", standalone_mode=False
        )
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
        return MetaSDError.exit_code
    except click.ClickException as error:
        return _fail(error.format_message(), MetaSDError.exit_code)
    except MetaSDError as error:
        return _fail(error, error.exit_code)
    except OSError as error:
        if error.filename == STDOUT:
            raise
        named = f"{error.filename}: " if error.filename else ""
        return _fail(f"{named}{error.strerror or error}", MetaSDError.exit_code)
    except MemoryError as error:
        return _fail(f"not enough memory ({shown.reason(error)}); ask for less at once", MetaSDError.exit_code)
    except SystemExit as error:  # how click and rich leave when the reader of a pipe has gone
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE), STDOUT) from error
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; shards already committed are kept (record --resume goes on)", INTERRUPTED)


def _fail(message: object, code: int) -> int:
    print("metasd: " + shown.message(message), file=sys.stderr)  # noqa: T201 - the one place that reports failure
    return code
