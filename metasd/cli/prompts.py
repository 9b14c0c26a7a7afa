"""``metasd prompts``: the prompts that ship, by set and domain, or the lines of one set."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from metasd.cli.common import emit, json_option, result_console


@click.command("prompts")
@click.argument("name", required=False, metavar="[SET[/DOMAIN+DOMAIN]]")
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the prompts that ship; with a name, print those prompts as JSON lines, as --prompts reads them."""
    from metasd.core import builtin, jsontext
    from metasd.core.results import document

    if name is not None:
        rows = builtin.rows(builtin.load(name))
        if as_json:
            emit(document("prompts", {"name": name}, [], prompts=rows))
        else:
            for line in rows:
                click.echo(jsontext.dumps(line))
        return
    sets: list[dict[str, Any]] = [
        {"name": each, "prompts": len(prompts), "domains": dict(Counter(p.domain for p in prompts)), "for": what}
        for each, what in builtin.SETS.items()
        for prompts in [builtin.load(each)]
    ]
    if as_json:
        emit(document("prompts", {}, [], sets=sets))
        return
    from rich.table import Table

    from metasd.report.cells import words

    table = Table(box=None, pad_edge=False)
    for heading in ("set", "prompts", "domains", "for"):
        table.add_column(heading, justify="right" if heading == "prompts" else "left", overflow="fold")
    for made in sets:
        domains: Any = made["domains"]
        listed = ", ".join(f"{d} {n}" for d, n in domains.items()) if len(domains) <= 8 else f"{len(domains)} pairs"
        table.add_row(*(words(str(v), limit=None) for v in (made["name"], made["prompts"], listed, made["for"])))
    result_console().print(table)
