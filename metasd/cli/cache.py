"""``metasd cache``: the models that were converted from .gguf files, which are kept."""

from __future__ import annotations

import click

from metasd.cli.common import emit, json_option
from metasd.core import shown


@click.group("cache")
def group() -> None:
    """List and remove converted models."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List what is kept, with its size and where."""
    from metasd.runtime import gguf

    _show("cache list", gguf.kept(), as_json, "kept in")


@group.command("clear")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def clear(names: tuple[str, ...], as_json: bool) -> None:
    """Remove what is kept: all of it, or what is named. A model is converted again when it is next used."""
    from metasd.runtime import gguf

    _show("cache clear", gguf.remove(names), as_json, "removed from")


def _show(command: str, models: list[tuple[str, int]], as_json: bool, did: str) -> None:
    from metasd.runtime import gguf

    total = sum(size for _, size in models)
    if as_json:
        from metasd.core.results import document

        rows = [{"name": name, "bytes": size} for name, size in models]
        emit(document(command, {}, [], folder=str(gguf.cache_folder()), models=rows, bytes=total))
        return
    for name, size in models:
        click.echo(shown.line(f"{gguf.megabytes(size):>10}  {name}"))
    click.echo(shown.line(f"{gguf.megabytes(total):>10}  {did} {gguf.cache_folder()}"))
