"""``metasd fit``: learn a policy's prior from a trace."""

from __future__ import annotations

from pathlib import Path

import click

from metasd.cli.common import TRACE_HELP, FilePath, unaligned_option


@click.command("fit")
@click.option("--trace", "sources", multiple=True, required=True, help=TRACE_HELP)
@click.argument("more", nargs=-1, metavar="[DIR]...")
@click.option("--policy", "spec", required=True, metavar="NAME", help="Policy to fit.")
@click.option("--out", type=FilePath, required=True, help="Prior file to write.")
@unaligned_option
def command(sources: tuple[str, ...], more: tuple[str, ...], spec: str, out: Path, include_unaligned: bool) -> None:
    """Learn a policy's prior from recorded traces, for --prior of replay, run and compare."""
    from metasd.core import files, jsontext, shown
    from metasd.sim.fit import fit
    from metasd.traces import open_trace

    files.check_place(out)
    prior = fit([open_trace(source, include_unaligned=include_unaligned) for source in (*sources, *more)], spec)
    files.write_text(out, jsontext.dumps(prior) + "\n")
    click.echo(shown.line(f"{out}: {out.stat().st_size / 1000:.0f} kB"))
