"""``metasd bench ...``: how fast this machine decodes, beside other people's programs."""

from __future__ import annotations

import click

from metasd.cli import bench_serve


@click.group("bench")
def group() -> None:
    """Measure how fast this machine decodes, beside other people's programs."""


group.add_command(bench_serve.command)
