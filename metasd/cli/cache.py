"""``metasd cache``: what is kept in the user's cache folder: converted models and measured costs."""

from __future__ import annotations

import click

from metasd.cli.common import emit, json_option
from metasd.core import shown


@click.group("cache")
def group() -> None:
    """List and remove what is kept: models converted from .gguf files, and what rounds cost on this machine."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List what is kept, with its size and where."""
    from metasd.runtime import kept

    _show("cache list", {kind: kept.kept(kind) for kind in kept.KINDS}, as_json, "kept in")


@group.command("clear")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def clear(names: tuple[str, ...], as_json: bool) -> None:
    """Remove what is kept: all of it, or what is named. It is converted or measured again when it is next used."""
    from metasd.runtime import kept

    _show("cache clear", kept.remove(names), as_json, "removed from")


def _show(command: str, found: dict[str, list[tuple[str, int]]], as_json: bool, did: str) -> None:
    from metasd.runtime import kept

    total = sum(size for entries in found.values() for _, size in entries)
    if as_json:
        from metasd.core.results import document

        rows = {kind: [{"name": name, "bytes": size} for name, size in entries] for kind, entries in found.items()}
        folders = {"folder": str(kept.folder("models")), "costs_folder": str(kept.folder("costs"))}
        emit(document(command, {}, [], **folders, **rows, bytes=total))
        return
    for kind, entries in found.items():
        for name, size in entries:
            click.echo(shown.line(f"{shown_size(size):>10}  {name}"))
        if entries or kind == "models":
            click.echo(shown.line(f"{shown_size(sum(size for _, size in entries)):>10}  {did} {kept.folder(kind)}"))


def shown_size(size: int) -> str:
    """``size`` bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 or size == 0 else f"{size / 1e3:,.0f} kB"
