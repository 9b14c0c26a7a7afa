"""``--costs``: which costs a live run knows, and what they say before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import load_costs, once
from metasd.core import shown

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.core.costs import CostModel
    from metasd.runtime.contenders import Contender
    from metasd.traces import Trace

WORDS = ("auto", "measure", "none")

costs_option = click.option(
    "--costs",
    "costs_from",
    metavar="[auto|measure|none|FILE]",
    multiple=True,
    callback=lambda context, option, given: once(context, option, given) or WORDS[0],
    help="What rounds cost, for policies that weigh time. auto: measured at the first run on this machine and kept; "
    "with run --trace the trace's own.",
)


def asked(costs_from: str) -> CostModel | str:
    """One of ``WORDS``, or the costs in a file. Raises UsageError where it holds none."""
    if costs_from in WORDS:
        return costs_from
    found = load_costs(Path(costs_from))
    assert found is not None
    return found


def known(
    wanted: CostModel | str, spec: str, models: Models, cut: int | None, recorded: Trace | None = None
) -> CostModel | None:
    """The costs a run of ``spec`` goes by; says on stderr where they come from, and which drafters cannot pay."""
    from metasd.runtime import costs as live
    from metasd.runtime import worth

    if recorded is not None and recorded.costs is not None and wanted == live.AUTO:
        made = recorded.costs.measured.get("machine", {})
        on = f", measured on {made.get('cpu', 'an unknown machine')} with {made.get('threads', '?')} threads"
        found = live.Known(recorded.costs, f"costs: those of trace {recorded.name}{on}")
    else:
        found = live.known(wanted, [spec], models.target, models.build)
    if found.said is not None:
        _say(found.said)
    if found.costs is not None:
        _, pool = models.build(cut)
        longest = max((len(tokens) for _, _, tokens in models.texts), default=0) + models.config["max_new_tokens"]
        for line in worth.beforehand(found.costs, pool, longest, timed=live.reads_costs(spec)):
            _say(line)
    return found.costs


def _say(line: str) -> None:
    click.echo(shown.line(line), err=True)


def report(costs: CostModel | None, entrant: Contender) -> dict[str, Any] | None:
    """What a document says of the costs a run knew: when and on what machine they were measured, and by what factors
    its rounds corrected them (None where it went by the costs alone)."""
    if costs is None:
        return None
    said = {name: costs.measured.get(name) for name in ("date", "machine")} | {"error": costs.error}
    return said | {"corrected": None if entrant.corrections is None else entrant.corrections.to_json()}
